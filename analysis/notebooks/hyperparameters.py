# ---
# jupyter:
#   jupytext:
#     formats: ipynb,notebooks//py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hyperparameters: which points win where, and how much they matter
#
# Three sources: the quasi-random search on the stand-ins (`results/search/search.csv`), in which
# every entry ran the same points; the full study of each entry's own points (`results/standins/`);
# and the points of the leaderboard's submissions (`results/published/`).
#
# All sentences with numbers below are made from these when the notebook runs (`make notebooks`);
# none is typed.

# %% tags=["parameters"]
SEARCH = None  # a search's table; None means results/search/search.csv
LOGS = None  # a folder of logs; None means results/standins
PUBLISHED = None  # a folder like results/published; None means that

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

import json

import pandas as pd

from analysis import published, scoring, sensitivity, style
from analysis.display import bullets, say, show, table
from analysis.logs import read_logs
from analysis.texts import count_text

search = sensitivity.read_search(
    Path(SEARCH) if SEARCH else ROOT / "results" / "search" / "search.csv"
)
styles = style.entry_styles(sorted(set(search["entry"])))


# %% [markdown]
# ## The same points under every optimizer
#
# Each entry ran the same quasi-random points, with one seed. A trial stops where it meets the
# target, so what is below the line is not comparable, and one seed leaves noise in every point.

# %%
show(sensitivity.search_figure(search, styles))
counts = sensitivity.reach_counts(search)
lines = [
    f"{style.label(row.entry)} meets the target at {row.reached} of {row.points} points."
    for row in counts.sort_values("reached", ascending=False).itertuples()
]
entries = set(search["entry"])
for rival in sorted(entries - {"shampoo"}) if "shampoo" in entries else []:
    better, worse, alike = sensitivity.paired_wins(search, "shampoo", rival)
    lines.append(
        f"Point by point, Shampoo is ahead of {style.label(rival)} at {better}, behind at {worse} "
        f"and level at {alike} (fewer steps to the target, or nearer to it where both miss)."
    )
bullets(lines)

# %% [markdown]
# The search's ranges were chosen for the standard algorithms, and the targets were set by them; but
# the step budget favours whoever needs fewest steps, so "meets the target" is no measure of how
# robust an optimizer is in general.

# %% [markdown]
# ## Which hyperparameter matters
#
# Spearman's rank correlation of each hyperparameter with the result, averaged over workloads.
# Negative: larger values were better. The threshold is what chance alone exceeds in one case of
# twenty.

# %%
found = sensitivity.rank_correlations(search)
if len(found):
    wide = found.pivot(index="hyperparameter", columns="entry", values="correlation")
    strong = found.assign(strong=found["correlation"].abs() > found["threshold"])
    marks = strong.pivot(index="hyperparameter", columns="entry", values="strong")
    shown = wide.map(lambda value: f"{value:+.2f}").where(
        ~marks, wide.map(lambda v: f"**{v:+.2f}**")
    )
    shown.columns = [style.label(name) for name in shown.columns]
    aligned = ("left", *("right" for _ in shown))
    table(shown, disable_numparse=True, colalign=aligned)
    by_chance = 0.05 * len(found)
    bullets(
        [
            (
                f"{int(strong['strong'].sum())} of {len(found)} correlations exceed the threshold, "
                f"about {found['threshold'].median():.2f}; chance alone would let {by_chance:.1f}."
            ),
            *(
                f"{style.label(row.entry)}: {'larger' if row.correlation < 0 else 'smaller'} "
                f"`{row.hyperparameter}` goes with better results ({row.correlation:+.2f})."
                for row in strong[strong["strong"]].itertuples()
            ),
        ]
    )
else:
    say("Too few points for a correlation.")

# %% [markdown]
# The points differ in everything at once, and there are few of them: these are hints where to look,
# not effects.

# %% [markdown]
# ## Which of an entry's points wins where
#
# From the full study: in how many studies each point is the best of its study.

# %%

logs_path = Path(LOGS) if LOGS else ROOT / "results" / "standins"
trials = scoring.score_trials(read_logs(logs_path, ignore=logs_path / "report").frame)
won = sensitivity.points_won(trials)
table(won.assign(submission=won["submission"].map(style.label)), showindex=False)
points = scoring.score_points(trials)
lines = []
for entry, rows in points.groupby("entry"):
    best = rows[rows["best"]].set_index("workload")["trial"]
    common = best.mode().iloc[0]
    reach = rows.groupby("trial")["reached"].sum() / rows.groupby("trial")["studies"].sum()
    lines.append(
        f"{style.label(entry)}: {count_text([best.nunique()], 'point is', 'points are')} best on "
        f"{len(best)} workloads, point {common} on {int((best == common).sum())} of them; the "
        f"share of studies in which a point meets the target goes from {reach.min():.0%} (point "
        f"{reach.idxmin()}) to {reach.max():.0%} (point {reach.idxmax()})."
    )
bullets(lines)

# %% [markdown]
# What the winning points are:

# %%
best = points[points["best"] & points["hyperparameters"].str.startswith("{")]
chosen = best.drop_duplicates(["entry", "trial"]).sort_values(["entry", "trial"])
rows = pd.DataFrame([json.loads(text) for text in chosen["hyperparameters"]]).round(5)
rows = rows.astype(object).where(rows.notna(), "")
rows.insert(0, "point", chosen["trial"].to_numpy())
rows.insert(0, "entry", [style.label(name) for name in chosen["entry"]])
table(rows, showindex=False)

# %% [markdown]
# ## On the leaderboard
#
# The same for Shampoo and the NAdamW baseline of version 0.5: which of their points won.

# %%
theirs = published.read_trials(
    "v0.5", "external", Path(PUBLISHED) if PUBLISHED else published.PUBLISHED
)
pair = theirs[theirs["submission"].isin(["shampoo_submission", "baseline"])]
won = sensitivity.points_won(pair)
table(won.assign(submission=won["submission"].map(style.label)), showindex=False)
lines = []
for submission, rows in pair.groupby("submission"):
    share = rows.groupby("trial")["reached"].mean()
    listed = ", ".join(f"{trial}: {value:.0%}" for trial, value in share.items())
    totals = won[won["submission"] == submission].drop(columns=["workload", "submission", "missed"])
    top = totals.sum().idxmax()
    lines.append(
        f"{style.label(submission)}: {rows['reached'].mean():.0%} of its trials reach the target, "
        f"by point {listed}; {top} wins most studies, {int(totals[top].sum())} of "
        f"{int(totals.to_numpy().sum())} that are won."
    )
bullets(lines)
