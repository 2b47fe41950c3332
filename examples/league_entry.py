"""Puts an optimizer of one's own beside Shampoo and AdamW on a stand-in workload.

    python -m examples.league_entry --workload=mnist_vit --steps=120 --output=runs/league_entry
    python -m analysis.report --logs=runs/league_entry --output=runs/league_entry/report

in a clone, after `make setup` and `. .venv/bin/activate`. All start from the same weights.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from common import files
from scripts.local import entries, runner
from scripts.local.metrics_log import read_evaluations
from scripts.local.trial import Trial
from submission.algoperf_api import pytorch as api
from workloads import registry


class Lion(torch.optim.Optimizer):
    """Steps by the sign of an average of gradients (Chen et al. 2023, arXiv:2302.06675)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            (beta1, beta2), decay = group["betas"], 1 - group["lr"] * group["weight_decay"]
            for weight in group["params"]:
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                signs = average.lerp(weight.grad, 1 - beta1).sign()
                weight.mul_(decay).sub_(signs, alpha=group["lr"])
                average.lerp_(weight.grad, 1 - beta2)


def make_optimizer(parameters: Any, point: Any) -> Lion:
    """The optimizer of a tuning point; its schedule is a warm-up and a cosine."""
    return Lion(parameters, point.learning_rate, (0.9, 0.99), point.weight_decay)


# An entry is a module with these functions; docs/contributing.md says how it joins the others.
POINT = {"learning_rate": 3e-4, "weight_decay": 0.1, "warmup_factor": 0.05}
init_optimizer_state = api.initializer(make_optimizer)
get_batch_size, data_selection = api.get_batch_size, api.data_selection
update_params, prepare_for_eval = api.update_params, api.prepare_for_eval


def run(trial: Trial, output: Path) -> str:
    """Trains, writes logs in the benchmark's layout, and says how it ended."""
    folder = files.make_directory(trial.directory(output))
    hooks = runner.Hooks(lambda count, _: runner.write_settings(trial, folder, count, {}, []))
    entry = sys.modules[__name__] if trial.entry == "lion" else entries.load(trial.entry)
    status = runner.run_trial(trial, folder, 60.0, hooks, load=lambda name: entry)
    name = f"validation/{registry.facts(trial.workload).metric}"
    return f"{status['global_step']} steps, {name} {read_evaluations(folder)[-1][name]:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts Lion beside Shampoo and AdamW.")
    parser.add_argument("--workload", default="mnist_vit", choices=registry.names("standin"))
    parser.add_argument("--steps", type=int, default=120, help="at most, and up to the targets")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the logs")
    flags = parser.parse_args()
    if flags.output.exists():
        parser.error(f"--output={flags.output} is there already")
    if flags.steps < 1:
        parser.error(f"--steps={flags.steps}: must be at least 1")
    for name in ("lion", "shampoo", "adamw"):
        point = POINT if name == "lion" else entries.points(name)[0]
        trial = Trial(flags.workload, name, 0, 1, point, max_steps=flags.steps)
        print(f"{name}: {run(trial, flags.output)}")


if __name__ == "__main__":
    main()
