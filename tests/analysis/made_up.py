"""Logs in the official layout, made up, for workloads whose facts are made up as well."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from workloads.facts import WorkloadFacts

PERIOD = 20
DEFAULT_POINT = MappingProxyType({"learning_rate": 1e-3})


def _facts(name: str, metric: str, direction: str, target: float, imitates: str) -> WorkloadFacts:
    return WorkloadFacts(
        name=name,
        suite="standin",
        stands_in_for=imitates,
        dataset="made up",
        metric=metric,
        direction=direction,  # type: ignore[arg-type]
        step_hint=800,
        eval_period_steps=PERIOD,
        max_runtime_seconds=600,
        validation_target=target,
        test_target=target,
    )


FACTS = {
    "mnist_vit": _facts("mnist_vit", "accuracy", "max", 0.9, "imagenet_vit"),
    "flights_dlrm": _facts("flights_dlrm", "loss", "min", 0.4, "criteo1tb"),
    "stdlib_lm": _facts("stdlib_lm", "ppl", "min", 6.0, "finewebedu_lm"),
}


LEAGUE_FACTS = FACTS | {
    name: _facts(name, metric, direction, target, imitates)
    for name, metric, direction, target, imitates in (
        ("digits_resnet", "accuracy", "max", 0.85, "imagenet_resnet"),
        ("faces_unet", "loss", "min", 0.3, "fastmri"),
        ("molecules_gnn", "accuracy", "max", 0.6, "ogbg"),
        ("phrases_transformer", "loss", "min", 2.0, "wmt"),
        ("speech_conformer", "loss", "min", 0.2, "librispeech_conformer"),
        ("speech_deepspeech", "loss", "min", 0.25, "librispeech_deepspeech"),
    )
}


def write_trial(
    root: Path,
    submission: str,
    workload: str,
    study: int,
    trial: int,
    values: Sequence[float],
    *,
    seconds_per_step: float = 0.05,
    framework: str = "pytorch",
    hyperparameters: Mapping[str, float] | None = DEFAULT_POINT,
    reason: str | None = None,
) -> Path:
    """Writes one trial with `values` of the validation metric, one per evaluation period.

    Without hyperparameters there is no hparams.json, and without a reason why the trial ended no
    status.json, which the official runner does not write.
    """
    metric = LEAGUE_FACTS[workload].metric
    folder = root / submission / f"study_{study}" / f"{workload}_{framework}" / f"trial_{trial}"
    folder.mkdir(parents=True)
    steps = PERIOD * np.arange(1, len(values) + 1)
    seconds = steps * seconds_per_step
    columns: dict[str, object] = {
        "accumulated_submission_time": seconds,
        "global_step": steps,
        "score": seconds,
        "total_duration": seconds + steps / PERIOD,
        **{f"{split}/{metric}": values for split in ("train", "validation", "test")},
    }
    pd.DataFrame(columns).to_csv(folder / "eval_measurements.csv", index=False)
    if hyperparameters is not None:
        (folder / "hparams.json").write_text(json.dumps(dict(hyperparameters)))
    if reason is not None:
        step = len(values) * PERIOD
        write_status(folder, reason, step, step * seconds_per_step)
    return folder


def write_status(folder: Path, reason: str, step: int, seconds: float) -> None:
    """Writes what our own runner says at a trial's end."""
    status: dict[str, object] = {"status": "complete", "reason": reason}
    status |= {"global_step": step, "accumulated_submission_time": seconds}
    (folder / "status.json").write_text(json.dumps(status))


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a made-up entry learns: steps to target, seconds per step."""

    steps: float
    seconds_per_step: float


def learning_curve(workload: str, to_target: float, seed: int) -> list[float]:
    """A curve that passes the workload's target at about `to_target` steps, and stops."""
    facts = LEAGUE_FACTS[workload]
    assert facts.validation_target is not None
    noise = np.random.default_rng(seed).normal(0, 0.004, 40)
    steps = np.arange(1, 41) * PERIOD
    rest = np.exp(-3 * steps / to_target) - math.exp(-3)
    if facts.metric == "accuracy":
        values = facts.validation_target - 0.8 * rest + noise
    elif facts.metric == "loss":
        values = facts.validation_target + 0.3 * rest + 0.3 * noise
    else:
        values = facts.validation_target * np.exp(1.6 * rest + 2 * noise)
    curve = []
    for value in values:
        curve.append(round(float(value), 6))
        if facts.meets(curve[-1], facts.validation_target):
            break
    return curve


SPEEDS = {
    "mnist_vit": {"shampoo": Speed(240, 0.055), "adamw": Speed(400, 0.04)},
    "flights_dlrm": {"shampoo": Speed(330, 0.03), "adamw": Speed(380, 0.02)},
    "stdlib_lm": {"shampoo": Speed(300, 0.09), "adamw": Speed(5000, 0.08)},
}


def write_study(root: Path, workloads: Sequence[str] = tuple(SPEEDS), trials: int = 1) -> Path:
    """Writes three studies of two entries, and a manifest, into `root`."""
    for workload in workloads:
        for entry, speed in SPEEDS[workload].items():
            for study in range(3):
                for trial in range(1, trials + 1):
                    seed = 100 * study + trial + len(entry)
                    steps = speed.steps * (1 + 0.15 * (study - 1) + 0.3 * (trial - 1))
                    values = learning_curve(workload, steps, seed)
                    cost = speed.seconds_per_step * (1 + 0.03 * study)
                    write_trial(root, entry, workload, study, trial, values, seconds_per_step=cost)
    invocation = {
        "command": "python -m scripts.study --trials=best",
        "packages": {"torch": "2.13.0", "numpy": "2.0"},
        "git_commit_hash": "1a2b3c4",
        "finished": None,
    }
    resumed = {**invocation, "git_commit_hash": "5d6e7f8"}
    (root / "manifest.json").write_text(json.dumps({"invocations": [invocation, resumed]}))
    return root


LEAGUE = {
    "shampoo": Speed(200, 0.054),
    "adamw": Speed(360, 0.04),
    "soap": Speed(210, 0.06),
    "kl_shampoo": Speed(205, 0.058),
    "published_winner": Speed(250, 0.052),
    "nadamw": Speed(330, 0.042),
    "nesterov": Speed(540, 0.036),
    "muon_adamw": Speed(270, 0.044),
    "schedule_free_adamw": Speed(340, 0.042),
    "adamw_ema": Speed(370, 0.041),
    "meta_shampoo": Speed(220, 0.056),
    "meta_soap": Speed(240, 0.064),
    "hb_soap": Speed(250, 0.06),
    "po_soap": Speed(290, 0.058),
}


def write_league(root: Path, entries: int, workloads: int) -> Path:
    """Writes two studies of the first so many of LEAGUE, on so many workloads, into `root`.

    AdamW misses the second and the fifth target, Shampoo the eighth, others one here and there.
    """
    for place, workload in enumerate(list(LEAGUE_FACTS)[:workloads]):
        for number, entry in enumerate(list(LEAGUE)[:entries]):
            noise = np.random.default_rng([place, number])
            misses = {"adamw": place in (1, 4), "shampoo": place == 7}.get(
                entry, noise.random() < 0.1
            )
            factor = 20.0 if misses else float(np.exp(noise.normal(0, 0.15)))
            cost = LEAGUE[entry].seconds_per_step * 3.0 ** (place % 4 - 1)
            for study in range(2):
                steps = LEAGUE[entry].steps * factor * (1 + 0.15 * study)
                values = learning_curve(workload, steps, 10 * number + study)
                write_trial(root, entry, workload, study, 1, values, seconds_per_step=cost)
    return root
