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
# # Time to target: Shampoo against AdamW and NAdamW
#
# The stand-in workloads: small models on real data that train on a laptop's CPU. They imitate
# AlgoPerf's workloads and are scored by its rules, but they are **not** AlgoPerf results.
#
# All numbers below are made from the logs when the notebook runs (`make notebooks`); none is typed.

# %% tags=["parameters"]
LOGS = None  # a folder of logs; None means results/league
RESAMPLES = 1000

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

from analysis import curves, factors, headline, heat, profile_figure, sections, style, tables
from analysis.choice import choose_rules
from analysis.judgement import judge
from analysis.logs import read_logs
from analysis.notebook import bullets, say, show
from analysis.texts import count_text

logs_path = Path(LOGS) if LOGS else ROOT / "results" / "league"
logs = read_logs(logs_path, ignore=logs_path / "report")
rules, _ = choose_rules(logs, "standin")
judged = judge(logs, rules, "adamw", where=logs_path, resamples=RESAMPLES)
styles = style.entry_styles(judged.entries)


studies = count_text(judged.cells["studies"], "study", "studies")
say(
    f"{len(judged.trials)} trials of {len(judged.entries)} entries on {len(judged.facts)} "
    f"workloads, {studies} each; {len(logs.problems)} things in the logs could not be used."
)

# %% [markdown]
# ## Scores
#
# A score depends on who else takes part. Its interval comes from a bootstrap, which can only draw
# the same few studies again, so take it as a lower bound on the doubt.

# %%
say(tables.scores_table(judged))
show(profile_figure.performance_profiles(judged, styles))

# %% [markdown]
# ## Against AdamW

# %%
bullets(sections.overview(judged))
show(headline.headline(judged, "seconds", styles))
show(headline.headline(judged, "steps", styles))
say(tables.summary_table(judged))

# %% [markdown]
# ## Where a win or a loss comes from
#
# Time is steps times seconds per step. What a step costs on a CPU core says little of what it costs
# on an accelerator; see `leaderboard.ipynb`.

# %%
show(factors.factor_plot(judged))
show(heat.step_cost(judged))

# %% [markdown]
# ## Against NAdamW
#
# The fairer rival: Shampoo here takes NAdam's look-ahead too, and the targets are the best of
# AdamW, NAdamW and Nesterov SGD.

# %%
if "nadamw" in judged.entries:
    against = judge(logs, rules, "nadamw", where=logs_path, resamples=RESAMPLES)
    bullets(sections.overview(against))
    show(headline.headline(against, "seconds", styles))
    show(headline.headline(against, "steps", styles))
else:
    say("There are no logs of NAdamW.")

# %% [markdown]
# ## Learning curves

# %%
for workload in judged.facts:
    show(curves.learning_curves(judged, workload, styles))

# %% [markdown]
# ## What makes the comparison less than fair

# %%
remarks = [f"`{problem.path.name}`: {problem.reason}" for problem in judged.problems]
bullets(remarks or ["Nothing that the checks know of."])
