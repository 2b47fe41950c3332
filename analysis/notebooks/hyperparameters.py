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
# Three sources: the quasi-random search on the stand-ins (`results/league/search.csv`), in which
# every entry ran the same points; the full study of each entry's own points (`results/league/`);
# and the points of the leaderboard's submissions (`results/published/`).
#
# All numbers below are made from these when the notebook runs (`make notebooks`); none is typed.

# %% tags=["parameters"]
SEARCH = None  # a search's table; None means results/league/search.csv
LOGS = None  # a folder of logs; None means results/league
PUBLISHED = None  # a folder like results/published; None means that

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

import json

import pandas as pd

from analysis import published, scoring, sensitivity, style
from analysis.logs import read_logs
from analysis.notebook import bullets, say, show, table

search = sensitivity.read_search(
    Path(SEARCH) if SEARCH else ROOT / "results" / "league" / "search.csv"
)
styles = style.entry_styles(sorted(set(search["entry"])))

# %% [markdown]
# ## Points drawn alike for every optimizer
#
# Each entry ran points of the same quasi-random numbers, scaled to its own ranges, with one seed. A
# trial stops where it meets the target, so points below the line are not comparable, and one seed
# leaves noise in every point.
# Ahead and behind: fewer steps to the target, or nearer to it where both miss.

# %%
show(sensitivity.search_figure(search, styles))
counts = sensitivity.reach_counts(search).sort_values("reached", ascending=False)
if "shampoo" in styles:
    wins = [
        sensitivity.paired_wins(search, "shampoo", name) if name != "shampoo" else ("", "", "")
        for name in counts["entry"]
    ]
    counts[["Shampoo ahead", "behind", "level"]] = wins
table(counts.assign(entry=counts["entry"].map(style.label)))

# %% [markdown]
# The search's ranges were chosen for the standard algorithms, and the targets were set by them; but
# the step budget favours optimizers that need fewest steps, so "reached" is no measure of how
# robust an optimizer is in general.

# %% [markdown]
# ## Which hyperparameter matters
#
# Spearman's rank correlation of each hyperparameter with the result, averaged over workloads.
# Negative: larger values were better. Bold: beyond the threshold that chance alone exceeds in one
# case of twenty. A dash: the entry has no such hyperparameter.

# %%
correlations = sensitivity.rank_correlations(search)
if len(correlations):
    strong = correlations["correlation"].abs() > correlations["threshold"]
    shown = correlations["correlation"].map("{:+.2f}".format)
    correlations["shown"] = shown.where(~strong, "**" + shown + "**")
    wide = correlations.pivot(index="hyperparameter", columns="entry", values="shown")
    table(wide.fillna("–").rename(columns=style.label).reset_index())
    say(
        f"{int(strong.sum())} of {len(strong)} correlations exceed the threshold, about "
        f"{correlations['threshold'].median():.2f}; by chance alone {0.05 * len(strong):.1f} would."
    )
else:
    say("Too few points for a correlation.")

# %% [markdown]
# The points differ in everything at once, and there are few of them: these are hints where to look,
# not effects.

# %% [markdown]
# ## Which of an entry's points wins where
#
# From the full study: in how many studies each point is the best of its study, and in which share
# of studies it meets the target.

# %%
logs_path = Path(LOGS) if LOGS else ROOT / "results" / "league"
frame = read_logs(logs_path, ignore=logs_path / "report").frame
trials = scoring.score_trials(frame)
won = sensitivity.points_won(trials)
table(won.assign(submission=won["submission"].map(style.label)), left=2)
points = scoring.score_points(trials, frame)
sums = points.groupby(["entry", "trial"])[["reached", "studies"]].sum()
share = (sums["reached"] / sums["studies"]).map("{:.0%}".format).unstack("trial").fillna("")
share.columns = [f"point {trial}" for trial in share]
table(share.rename(index=style.label).reset_index())

# %% [markdown]
# What the winning points are:

# %%
best = points[points["best"] & points["hyperparameters"].str.startswith("{")]
chosen = best.drop_duplicates(["entry", "trial"]).sort_values(["entry", "trial"])
rows = pd.DataFrame([json.loads(text) for text in chosen["hyperparameters"]]).round(5)
rows = rows.astype(object).where(rows.notna(), "")
rows.insert(0, "point", chosen["trial"].to_numpy())
rows.insert(0, "entry", [style.label(name) for name in chosen["entry"]])
table(rows)

# %% [markdown]
# ## On the leaderboard
#
# The same for Shampoo and the NAdamW baseline of version 0.5: which of their points won, and in
# which share of trials each point reached the target.

# %%
directory = Path(PUBLISHED) if PUBLISHED else published.PUBLISHED
trials = published.read_trials("v0.5", "external", directory)
pair = trials[trials["submission"].isin(["shampoo_submission", "baseline"])]
won = sensitivity.points_won(pair)
table(won.assign(submission=won["submission"].map(style.label)), left=2)
share = pair.groupby(["submission", "trial"])["reached"].mean().unstack("trial")
bullets(
    f"{style.label(name)}: "
    + ", ".join(f"point {trial}: {part:.0%}" for trial, part in row.items())
    for name, row in share.iterrows()
)
