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
# All sentences with numbers below are made from the files when the notebook runs
# (`make notebooks`); none is typed.

# %% tags=["parameters"]
STEP_COST = None  # a folder of JSON files; None means results/step_cost

# %%
import sys
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "analysis").is_dir() else Path.cwd().parent
sys.path.insert(0, str(ROOT))

from analysis import step_cost
from analysis.display import bullets, say, show
from analysis.texts import count_text, span_text

directory = Path(STEP_COST) if STEP_COST else ROOT / "results" / "step_cost"
paths = sorted(directory.rglob("*.json"))
staggered = [path for path in paths if path.stem.endswith("staggering")]
costs, problems = step_cost.read_step_costs([path for path in paths if path not in staggered])


names = {str(path): path.relative_to(directory).as_posix() for path in paths}
devices = costs.drop_duplicates("source")
bullets(
    [
        *(
            f"`{names[row.source]}`: {row.device}, {row.threads} thread(s)."
            for row in devices.itertuples()
        ),
        *(f"`{names[str(problem.path)]}`: {problem.reason}" for problem in problems),
    ]
)

# %% [markdown]
# ## Beside AdamW and the rivals
#
# Every optimizer's cost as a multiple of AdamW's own, by how often roots or bases are refreshed.

# %%
for source, rows in costs.groupby("source", sort=False):
    say(f"`{names[source]}`")
    show(step_cost.cost_figure(rows))

# %% [markdown]
# How many times AdamW's step ours costs:

# %%
lines = []
for name, rows in costs[costs["optimizer"].str.startswith("ours_")].groupby("optimizer"):
    ratios = {
        interval: (rows[f"at_{interval}"] / rows[f"adamw_at_{interval}"]).dropna()
        for interval in step_cost.INTERVALS
    }
    listed = ", ".join(
        f"{span_text(ratio)} at an interval of {interval}"
        for interval, ratio in ratios.items()
        if len(ratio)
    )
    counts = count_text([len(rows)], "measurement", "measurements")
    lines.append(f"{step_cost.label(name)}: {listed or 'unknown'} ({counts}).")
bullets(lines)

# %% [markdown]
# Against other optimizers that precondition, in the same run. Different methods do different work:
# a warm QR step of SOAP is not an inverse root, so only Shampoo beside Shampoo is like for like.

# %%
lines = []
for column, what in (
    ("plain", "a step without a refresh"),
    ("refresh", "a step that refreshes everything"),
    ("at_100", "at an interval of 100"),
    ("at_10", "at an interval of 10"),
):
    factors = step_cost.cheaper(costs, "ours_shampoo", column)
    if factors.empty:
        continue
    cheaper = factors[factors["factor"] > 1]
    text = f"{what}: ours is cheaper in {len(cheaper)} of {len(factors)} comparisons"
    like = factors[factors["optimizer"] == "meta_shampoo"]["factor"]
    if len(like):
        text += f"; Meta's Shampoo costs {like.min():.2f} to {like.max():.2f} times as much"
    dearer = factors[factors["factor"] < 1]
    if len(dearer):
        listed = ", ".join(
            f"{step_cost.label(row.optimizer)} on {row.network} ({row.factor:.2f})"
            for row in dearer.itertuples()
        )
        text += f". Cheaper than ours, with their cost over ours: {listed}"
    lines.append(f"{text}.")
bullets(lines or ["There is nothing to compare with."])

# %% [markdown]
# ## Memory

# %%
lines = []
for (source, network), rows in costs.groupby(["source", "network"], sort=False):
    listed = ", ".join(
        f"{step_cost.label(row.optimizer)} {row.state_bytes / row.adamw_state_bytes:.2f}"
        for row in rows.sort_values("state_bytes").itertuples()
        if row.optimizer != step_cost.BASELINE
    )
    lines.append(f"{network} (`{names[source]}`), state as a multiple of AdamW's: {listed}.")
bullets(lines)

# %% [markdown]
# ## Refreshes, spread out
#
# Refreshing all roots in the same step makes that step slow; staggered, each step does its share.

# %%
for path in staggered:
    figure, table = step_cost.staggering_figure(path)
    say(f"`{names[str(path)]}`")
    show(figure)
    worst = table.set_index("variant")["max"] / table.set_index("variant")["median"]
    bullets(
        f"{variant}: the slowest step takes {factor:.1f} times the median step."
        for variant, factor in worst.items()
    )
    together = table.set_index("variant")["median"]
    if {"together", "staggered"} <= set(together.index):
        change = together["staggered"] / together["together"]
        bullets(
            [f"The median step of staggered refreshes takes {change:.2f} times that of together."]
        )
if not staggered:
    say("No file on staggering.")
