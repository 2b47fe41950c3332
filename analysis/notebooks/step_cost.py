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
# # What an optimizer's step costs
#
# The optimizer alone, without forward and backward, from the JSON that `scripts.benchmark.step`
# writes to `results/step_cost/`. What a whole training step costs is in `time_to_target.ipynb`.
#
# All numbers below are made from the files when the notebook runs (`make notebooks`); none is
# typed.

# %% tags=["parameters"]
STEP_COST = None  # a folder of JSON files; None means results/step_cost

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

import pandas as pd

from analysis import step_cost
from analysis.notebook import bullets, say, show, table
from analysis.texts import span_text

directory = Path(STEP_COST) if STEP_COST else ROOT / "results" / "step_cost"
paths = sorted(directory.rglob("*.json"))
staggered = [path for path in paths if path.stem.endswith("staggering")]
costs = step_cost.read_step_costs([path for path in paths if path not in staggered])
names = {str(path): path.relative_to(directory).as_posix() for path in paths}
table(costs.drop_duplicates("source")[["source", "device", "threads"]].replace(names))

# %% [markdown]
# ## Beside AdamW and the rivals
#
# Every optimizer's cost as a multiple of AdamW's own, by how often roots or bases are refreshed.

# %%
for source, rows in costs.groupby("source", sort=False):
    say(f"`{names[source]}`")
    show(step_cost.cost_figure(rows))

# %% [markdown]
# How many times AdamW's step ours costs, from the cheapest network to the dearest, by the interval
# of refreshes:

# %%
house = costs[costs["optimizer"].str.startswith(step_cost.HOUSE)]
for interval in step_cost.INTERVALS:
    house = house.assign(
        **{f"every {interval}": house[f"at_{interval}"] / house[f"adamw_at_{interval}"]}
    )
spans = house.groupby("optimizer")[[f"every {interval}" for interval in step_cost.INTERVALS]]
spans = spans.agg(lambda ratios: span_text(ratios.dropna()) if ratios.notna().any() else "–")
table(spans.rename(index=step_cost.label).reset_index())

# %% [markdown]
# Against other optimizers that precondition, in the same run: their cost over that of our Shampoo,
# from the least to the greatest. Different methods do different work: a warm QR step of SOAP is not
# an inverse root, so only Shampoo beside Shampoo is like for like.

# %%
columns = {
    "plain": "a step without a refresh",
    "refresh": "a step that refreshes everything",
    "at_100": "at an interval of 100",
    "at_10": "at an interval of 10",
}
factors = {
    text: step_cost.cheaper(costs, "ours_shampoo", column) for column, text in columns.items()
}
spans = {text: rows.groupby("optimizer")["factor"].agg(span_text) for text, rows in factors.items()}
wide = pd.DataFrame(spans).fillna("–")
if len(wide):
    table(wide.rename(index=step_cost.label).reset_index(names="optimizer"))
    bullets(
        f"{text}: ours is cheaper in {int((rows['factor'] > 1).sum())} of {len(rows)} comparisons."
        for text, rows in factors.items()
    )
else:
    say("There is nothing to compare with.")

# %% [markdown]
# ## Memory
#
# State as a multiple of AdamW's.

# %%
states = costs.assign(
    ratio=(costs["state_bytes"] / costs["adamw_state_bytes"]).map("{:.2f}".format)
)
states = states[states["optimizer"] != step_cost.BASELINE].replace({"source": names})
wide = states.pivot_table(
    index="optimizer", columns=["source", "network"], values="ratio", aggfunc="first", sort=False
)
wide.columns = [f"{network} ({source})" for source, network in wide.columns]
table(wide.fillna("–").rename(index=step_cost.label).reset_index())

# %% [markdown]
# ## Refreshes, spread out
#
# Refreshing all roots in the same step makes that step slow; staggered, each step does its share.

# %%
for path in staggered:
    figure, rows = step_cost.staggering_figure(path)
    say(f"`{names[str(path)]}`")
    show(figure)
    worst = (rows["max"] / rows["median"]).map("{:.1f}".format)
    numbers = rows.select_dtypes("number").map("{:.1f}".format)
    table(rows.assign(**numbers, **{"max / median": worst}))
if not staggered:
    say("No file on staggering.")
