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
# # The published leaderboards: what Shampoo won, and where it lost
#
# MLCommons' AlgoPerf, external tuning, versions 0.5 and 0.6, scored again from every published
# trial (`results/published/`, see its README for sources). All runs were made on V100 GPUs.
#
# All sentences with numbers below are made from the trials when the notebook runs
# (`make notebooks`); none is typed.

# %% tags=["parameters"]
PUBLISHED = None  # a folder like results/published; None means that
EVALUATIONS = None  # all evaluations of v0.5 as a tidy table; None means where it may lie
RESAMPLES = 1000

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

import numpy as np

from analysis import (
    bars,
    curves,
    display,
    factors,
    findings,
    heat,
    profile_figure,
    published,
    scoring,
    sheet,
    style,
    tables,
)
from analysis.display import bullets, say, show
from analysis.judgement import judge_trials
from analysis.logs import read_logs
from analysis.texts import count_text
from workloads.rulesets import ruleset

directory = Path(PUBLISHED) if PUBLISHED else published.PUBLISHED
VERSIONS = ("v0.5", "v0.6")
SHAMPOO = {"v0.5": "shampoo_submission", "v0.6": "shampoo"}
trials = {name: published.read_trials(name, "external", directory) for name in VERSIONS}
judged = {
    name: judge_trials(trials[name], ruleset(name), "baseline", resamples=RESAMPLES)
    for name in VERSIONS
}
styles = style.entry_styles([*judged["v0.5"].entries, *judged["v0.6"].entries])


def about(version: str) -> str:
    """What was run."""
    rules, pool = judged[version].rules, judged[version]
    held_out = len(rules.workloads) - len(rules.base_workloads)
    return (
        f"{len(trials[version])} trials of {len(pool.entries)} submissions, "
        f"{count_text(pool.cells['studies'], 'study', 'studies')} a workload, "
        f"{len(rules.base_workloads)} base workloads and {held_out} held-out variants. Geometric "
        "means of time ratios count a missed target as a second more than the budget."
    )


# %% [markdown]
# ## Version 0.5
#
# Several studies of the same points, base workloads and held-out variants of some of them.

# %%
say(about("v0.5"))
show(sheet.summary_sheet(judged["v0.5"], styles))
say(tables.scores_table(judged["v0.5"]))
show(profile_figure.performance_profiles(judged["v0.5"], styles))

# %% [markdown]
# ### Shampoo, workload by workload
#
# Its place among all submissions, and how far it is from the fastest one.

# %%

bullets(findings.places(judged["v0.5"], SHAMPOO["v0.5"]))

# %% [markdown]
# ### Against the NAdamW baseline

# %%
bullets(findings.overview(judged["v0.5"]))
show(bars.time_to_target_bars(judged["v0.5"], "seconds", styles))
show(bars.time_to_target_bars(judged["v0.5"], "steps", styles))

# %% [markdown]
# ### Where the time comes from
#
# Time is steps times seconds per step. The latter compare frameworks too: Shampoo is PyTorch, the
# baseline JAX. Cyclic LR is a NAdamW in PyTorch, with the same batch sizes on most workloads, which
# makes it the like-for-like comparison of what a step costs.

# %%
show(factors.factor_plot(judged["v0.5"]))
show(heat.step_cost(judged["v0.5"]))
cost = judged["v0.5"].cells.pivot(
    index="workload", columns="submission", values="steady_seconds_per_step"
)
factored = judged["v0.5"].intervals.ratios.query("submission == @SHAMPOO['v0.5']").dropna()
lines = []
if len(factored):
    steps, dear = np.exp(np.log(factored[["steps_ratio", "step_cost_ratio"]]).mean())
    lines.append(
        f"On the {len(factored)} workloads where both medians reach the target, Shampoo needs "
        f"{steps:.2f} times the baseline's steps and {dear:.2f} times its seconds per step until "
        "then, in geometric means."
    )
for rival in ("baseline", "cyclic_lr"):
    if {rival, SHAMPOO["v0.5"]} <= set(cost):
        ratio = (cost[SHAMPOO["v0.5"]] / cost[rival]).dropna()
        lines.append(
            f"Once it runs, a step of Shampoo costs {ratio.min():.2f} to {ratio.max():.2f} times "
            f"one of {style.label(rival)}, {np.exp(np.log(ratio).mean()):.2f} in the geometric "
            f"mean over {len(ratio)} workloads."
        )
bullets(lines)

# %% [markdown]
# ### How much the rules decide
#
# The official code takes, of a study's trials, the one with the earliest evaluation that meets the
# target, not the fastest; and a base workload counts only if its held-out variant is met too.

# %%
rules = ruleset("v0.5")
official = judged["v0.5"].profile.scores
fastest = scoring.time_to_target(scoring.score_studies(trials["v0.5"], "fastest"))
by_time = scoring.performance_profile(scoring.times_table(fastest), rules).scores
bare = judged["v0.5"].cells[judged["v0.5"].cells["workload"].isin(rules.base_workloads)]
without = scoring.performance_profile(scoring.times_table(bare), rules).scores
table = official.to_frame("official").assign(fastest=by_time, without_held_out=without)
table = table.loc[list(judged["v0.5"].entries)]
table.index = [style.label(name) for name in table.index]
display.table(table, floatfmt=".4f")
differing = scoring.compare_rules(trials["v0.5"])
moved = (table["official"] - table["fastest"]).abs()
first = {column: table[column].idxmax() for column in table}
bullets(
    [
        (
            f"The rule for the best trial changes the time of {len(differing)} of "
            f"{len(judged['v0.5'].studies)} studies, by {differing['excess'].max():.1%} at most, "
            f"and {int((moved > 1e-9).sum())} of {len(table)} scores, by {moved.max():.4f} at most."
        ),
        (
            f"First by the official rules: {first['official']}; by the fastest trial: "
            f"{first['fastest']}; without held-out workloads: {first['without_held_out']}."
        ),
    ]
)

# %% [markdown]
# ## Version 0.6
#
# Fewer studies, other budgets, and no held-out variants.

# %%
say(about("v0.6"))
say(tables.scores_table(judged["v0.6"]))
show(profile_figure.performance_profiles(judged["v0.6"], styles))
bullets(findings.places(judged["v0.6"], SHAMPOO["v0.6"]))
bullets(findings.overview(judged["v0.6"]))
show(bars.time_to_target_bars(judged["v0.6"], "seconds", styles))

# %% [markdown]
# ### Why version 0.6 is no clean comparison of optimizers
#
# Trials that end after their first evaluation or two have died, and a submission whose steps cost
# several times what they did in version 0.5, on the same kind of machine, was slowed by something
# other than its algorithm. Targets that it missed for that say nothing about it.

# %%
lines = []
for (submission, workload), rows in trials["v0.6"].groupby(["submission", "workload"]):
    died = int(((rows["evaluations"] <= 2) & ~rows["reached"]).sum())
    if died:
        lines.append(
            f"{style.label(submission)} on {workload}: {died} of {len(rows)} trials ended after at "
            "most two evaluations."
        )
cells = {name: rows.cells.set_index(["submission", "workload"]) for name, rows in judged.items()}
for submission, before in (("shampoo", "shampoo_submission"), ("baseline", "baseline")):
    now, then = cells["v0.6"].loc[submission], cells["v0.5"].loc[before]
    ratio = (now["steady_seconds_per_step"] / then["steady_seconds_per_step"]).dropna()
    slow = ratio[ratio > 1.25].sort_values(ascending=False)
    if len(slow):
        listed = ", ".join(f"{name} {factor:.1f}" for name, factor in slow.items())
        lines.append(
            f"{style.label(submission)}: seconds per step in version 0.6 over those in 0.5 are "
            f"above 1.25 on {len(slow)} of {len(ratio)} workloads: {listed}."
        )
    steps = (now["median_steps"] / then["median_steps"]).replace([np.inf, 0], np.nan).dropna()
    if len(steps):
        listed = ", ".join(f"{name} {factor:.2f}" for name, factor in steps.items())
        lines.append(
            f"{style.label(submission)}: steps to the target in 0.6 over those in 0.5, which no "
            f"machine can disturb but other step budgets can: {listed}."
        )
bullets(lines or ["Nothing of the kind."])

# %% [markdown]
# ## Learning curves of version 0.5
#
# From all evaluations, where that table is at hand. It is no part of this repository.

# %%
table = Path(EVALUATIONS) if EVALUATIONS else None
if table is None:
    table = ROOT.parent / "shared" / "leaderboard" / "v05_external_evals.csv.gz"
if table.exists():
    logs = read_logs(table, "v0.5")
    with_curves = judge_trials(
        scoring.score_trials(logs.frame, "v0.5"),
        ruleset("v0.5"),
        "baseline",
        frame=logs.frame,
        resamples=RESAMPLES,
    )
    for workload in ("imagenet_vit", "ogbg", "wmt", "librispeech_conformer"):
        if workload in with_curves.facts:
            show(curves.learning_curves(with_curves, workload, styles))
else:
    say("The table is not here, so there are no curves.")
