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
# MLCommons' AlgoPerf, external tuning in versions 0.5 and 0.6, on V100 GPUs, and self-tuning in
# version 1.0, on A100 GPUs, scored again from every published trial (`results/published/`, see its
# README for sources).
#
# All numbers below are made from the trials when the notebook runs (`make notebooks`); none is
# typed.

# %% tags=["parameters"]
PUBLISHED = None  # a folder like results/published; None means that
RESAMPLES = 1000

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

import numpy as np
import pandas as pd

from analysis import (
    factors,
    headline,
    heat,
    profile_figure,
    published,
    scoring,
    sections,
    sheet,
    style,
    tables,
)
from analysis.judgement import judge_trials
from analysis.notebook import bullets, say, show, table
from analysis.run_checks import run_problems
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
    pool = judged[version]
    bases = len(pool.rules.base_workloads)
    return (
        f"{len(trials[version])} trials of {len(pool.entries)} submissions on {bases} base "
        f"workloads and {len(pool.rules.workloads) - bases} held-out variants. Geometric means of "
        "time ratios count a missed target as a second more than the budget."
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
# Its place among all on every base workload, its distance from the fastest, and, where it is first,
# by how much.

# %%
say(tables.places_table(judged["v0.5"], SHAMPOO["v0.5"]))

# %% [markdown]
# ### Against the NAdamW baseline

# %%
bullets(sections.overview(judged["v0.5"]))
show(headline.headline(judged["v0.5"], "seconds", styles))
show(headline.headline(judged["v0.5"], "steps", styles))

# %% [markdown]
# ### Where the time comes from
#
# Time is steps times seconds per step. The latter compare frameworks too: Shampoo is PyTorch, the
# baseline JAX. Cyclic LR is a NAdamW in PyTorch, with the same batch sizes on most workloads, which
# makes it the like-for-like comparison of what a step costs.

# %%
show(factors.factor_plot(judged["v0.5"]))
show(heat.step_cost(judged["v0.5"]))
cost = scoring.times_table(judged["v0.5"].cells, "steady_seconds_per_step")
ratios = {
    style.label(rival): (cost[SHAMPOO["v0.5"]] / cost[rival]).dropna()
    for rival in ("baseline", "cyclic_lr")
    if rival in cost
}
bullets(
    f"A step of Shampoo costs {ratio.min():.2f} to {ratio.max():.2f} times one of {rival}, "
    f"{np.exp(np.log(ratio).mean()):.2f} in the geometric mean over {len(ratio)} workloads."
    for rival, ratio in ratios.items()
    if len(ratio)
)

# %% [markdown]
# ### How much the rules decide
#
# The official code takes, of a study's trials, the one with the earliest evaluation that meets the
# target, not the fastest; and a base workload counts only if its held-out variant is met too.

# %%
rules, cells = ruleset("v0.5"), judged["v0.5"].cells
fastest = scoring.time_to_target(scoring.score_studies(trials["v0.5"], "fastest"))
bases = cells[cells["workload"].isin(rules.base_workloads)]
scores = pd.DataFrame(
    {
        rule: scoring.performance_profile(scoring.times_table(times), rules).scores
        for rule, times in (("official", cells), ("fastest", fastest), ("no held-out", bases))
    }
).loc[list(judged["v0.5"].entries)]
table(scores.map("{:.4f}".format).rename(index=style.label).reset_index(names="entry"))
differing = scoring.compare_rules(trials["v0.5"])
say(
    f"The rule for the best trial changes the time of {len(differing)} of "
    f"{len(judged['v0.5'].studies)} studies, by {differing['excess'].max():.1%} at most."
)

# %% [markdown]
# ## Version 0.6
#
# Fewer studies, other budgets, and no held-out variants.

# %%
say(about("v0.6"))
say(tables.scores_table(judged["v0.6"]))
show(profile_figure.performance_profiles(judged["v0.6"], styles))
say(tables.places_table(judged["v0.6"], SHAMPOO["v0.6"]))
bullets(sections.overview(judged["v0.6"]))
show(headline.headline(judged["v0.6"], "seconds", styles))

# %% [markdown]
# ### Why version 0.6 is no clean comparison of optimizers
#
# Trials that end after their first evaluation or two have died, and a submission whose steps cost
# several times what they did in version 0.5, on the same kind of machine, was slowed by something
# other than its algorithm. Targets that it missed for that say nothing about it.
#
# Died: trials that ended after at most two evaluations without the target. Ratios: version 0.6 over
# version 0.5. No machine can disturb the steps to a target, but other step budgets can.

# %%
rows = []
for submission, before in (("shampoo", "shampoo_submission"), ("baseline", "baseline")):
    now, then = (
        judged[version].cells.set_index("submission").loc[[name]].set_index("workload")
        for version, name in (("v0.6", submission), ("v0.5", before))
    )
    runs = trials["v0.6"][trials["v0.6"]["submission"] == submission]
    died = runs.assign(died=(runs["evaluations"] <= 2) & ~runs["reached"])
    died = died.groupby("workload")["died"].sum()
    for workload in now.index:
        row = {"submission": style.label(submission), "workload": workload, "died": died[workload]}
        for name, column in (
            ("seconds per step", "steady_seconds_per_step"),
            ("steps", "median_steps"),
        ):
            ratio = float(now.loc[workload, column]) / float(then[column].get(workload, np.nan))
            row[f"{name}, ratio"] = f"{ratio:.2f}" if np.isfinite(ratio) else "–"
        rows.append(row)
table(pd.DataFrame(rows), left=2)

# %% [markdown]
# ## Version 1.0, self-tuning
#
# Nine base workloads on four A100 GPUs, from the organisers' own branch: no Shampoo has been run on
# this hardware, and nothing under external tuning. Seconds here and above are of different machines
# and budgets.

# %%
newest = published.read_trials("v1.0", "self_tuning", directory)
pool = judge_trials(newest, ruleset("v1.0", "self_tuning"), "nadamw", resamples=RESAMPLES)
pool_styles = style.entry_styles(pool.entries)
say(
    f"{len(newest)} trials of {len(pool.entries)} submissions on "
    f"{len(pool.rules.base_workloads)} workloads."
)
say(tables.scores_table(pool))
show(profile_figure.performance_profiles(pool, pool_styles))
bullets(sections.overview(pool))

# %% [markdown]
# ### What there is to beat
#
# The fastest median to the target on each workload, and by how many submissions it is reached at
# all. Where few reach it, an entry that does gains most.

# %%
times = scoring.times_table(pool.cells)
rows = []
for workload in times.index.intersection(pool.rules.base_workloads):
    reached = times.loc[workload][np.isfinite(times.loc[workload])]
    budget = pool.rules.budget_seconds(workload)
    rows.append(
        {
            "workload": workload,
            "reach the target": f"{len(reached)} of {len(pool.entries)}",
            "fastest": style.label(reached.idxmin()) if len(reached) else "–",
            "hours": f"{reached.min() / 3600:.2f}" if len(reached) else "–",
            "of the budget": f"{reached.min() / budget:.0%}" if len(reached) else "–",
        }
    )
table(pd.DataFrame(rows))

# %% [markdown]
# ### Studies on a slower machine
#
# The same submission, the same workload, the same code: where one study's steps took much longer
# than the others', its time says something about the machine.

# %%
reasons = [problem.reason for problem in run_problems({}, newest, pool.rules, directory)]
bullets(reason for reason in reasons if "times as long" in reason)
