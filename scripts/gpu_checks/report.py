"""What the checks on a GPU found, with the goals and the planner's predictions beside it."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import documents, files
from common.documents import UNKNOWN, number
from scripts.benchmark import training
from scripts.benchmark.report import median
from scripts.gpu_checks.parts import PARTS, STEPS_FOLDER, TESTS_FILE
from scripts.local import rivals
from scripts.plan_scale import steps
from scripts.plan_scale.hardware import HARDWARE, named

Row = Mapping[str, Any]
OURS = "ours_shampoo"
# A step that refreshes everything takes at most this much of Meta's.
MOST_OF_METAS = 0.2
# A weight after replays and after steps without a graph, relative to the largest of its tensor.
MOST_DIFFERENCE = 1e-6
# A training step at interval 100 takes at most so much longer than with fused AdamW.
MOST_OVER_ADAMW = 0.03
# By rivals' names; Meta's is not planned.
_PLANNED = {rivals.BASELINE: "adamw", rivals.MUON: "muon", OURS: "shampoo"}
_INTERVALS = tuple(map(str, training.INTERVALS))


def page(folder: Path, checks: Mapping[str, Any]) -> str:
    """The README of a device's folder, of what is there."""
    conditions = next(iter(checks["parts"].values()))["conditions"]
    key = named(conditions["device"])
    planned = "no figures of this device are known, so nothing is predicted"
    if key is not None:
        planned = f"predictions are for {HARDWARE[key].title}"
    tiny = ", at tiny sizes that say nothing of the goals" if checks["tiny"] else ""
    lines = [
        f"# Checks on {conditions['device']}{tiny}",
        "",
        "By `make gpu-checks`. Milliseconds are medians of the time between two events on the",
        "device, on a CPU of the process's CPU time. In brackets: what `scripts.plan_scale`",
        f"predicts for one rank from the maker's figures; {planned}.",
        "",
        "## Parts",
        "",
        documents.table(_part(name, checks["parts"].get(name)) for name in PARTS),
        "",
        "## Goals",
        "",
        documents.table(goals(folder, key)),
        *_section("## Tests", _tests(folder)),
        *_section("## A captured step", _captured(folder)),
        *_section("## Training steps", _training(folder)),
        *_section("## Steps of optimizers", _steps(folder, key)),
        *_section("## Factorisations, ms of a batch", _factorisations(folder)),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, rows: Sequence[Row]) -> list[str]:
    return ["", title, "", documents.table(rows)] if rows else []


def _part(name: str, outcome: Row | None) -> dict[str, str]:
    cells = {"part": name, "what": PARTS[name].title}
    if outcome is None:
        return cells | {"state": "not run", "s": UNKNOWN, "commit": UNKNOWN}
    conditions = outcome["conditions"]
    reason = f": {outcome['reason']}" if outcome["reason"] else ""
    dirty = " with changes" if conditions["git_dirty"] else ""
    return cells | {
        "state": outcome["state"] + reason.replace("|", "/"),
        "s": number(outcome["seconds"], ".0f"),
        "commit": (conditions["git_commit_hash"] or "unknown")[:12] + dirty,
    }


def goals(folder: Path, key: str | None) -> list[dict[str, str]]:
    """The goals, what was measured and predicted, and whether the former meets them.

    Args:
      folder: of a device.
      key: of the device in `plan_scale.hardware.HARDWARE`; None where it is not there.
    """
    rows = []
    for network, result in _read(_steps_file(folder)).items():
        metas = _ratio(result["rows"], rivals.REFERENCE)
        reference = _of(result["rows"], rivals.REFERENCE)
        why = reference.get("failure") or reference.get("absent") or ""
        what = f"{network}: a step at interval 1 / Meta's"
        rows.append(_goal(what, metas, MOST_OF_METAS, ".2f", why))
    for network, result in _read(folder / "training.json").get("networks", {}).items():
        over = _of(result["rows"], OURS).get("over_adamw", {}).get("100")
        what = f"{network}, {result['batch']} images: a training step at interval 100 over AdamW's"
        predicted = _predicted_over_adamw(network, result["rows"], key)
        rows.append(_goal(what, over, MOST_OVER_ADAMW, ".1%", predicted=predicted))
    for network, result in _read(folder / "captured.json").get("networks", {}).items():
        difference = result["difference"] if result["captured"] else None
        rows.append(_goal(f"{network}: a replay's difference", difference, MOST_DIFFERENCE, ".2g"))
    return rows


def _goal(
    what: str,
    measured: float | None,
    most: float,
    form: str,
    why: str = "",
    predicted: float | None = None,
) -> dict[str, str]:
    known = measured is not None and math.isfinite(measured)
    return {
        "goal": what,
        "at most": format(most, form),
        "measured": number(measured, form),
        "predicted": number(predicted, form),
        "met": ("yes" if (measured or 0) <= most else "no") if known else why or UNKNOWN,
    }


def _predicted_over_adamw(network: str, rows: Sequence[Row], key: str | None) -> float | None:
    """Of the optimizers' predicted steps, beside forward and backward as they were measured."""
    training_time = median(_of(rows, rivals.BASELINE).get("forward_and_backward"))
    predicted = predictions(network, key, with_tf32=True)
    if training_time is None or not predicted:
        return None
    ours, adamw = (1e3 * predicted[name]["average"]["100"] for name in ("shampoo", "adamw"))
    return float((ours - adamw) / (training_time + adamw))


def _ratio(rows: Sequence[Row], base: str) -> float | None:
    ratios = _of(rows, OURS).get("ratio_to", {}).get(base, {})
    value: float | None = ratios.get("amortised", {}).get("1")
    return value


def _of(rows: Sequence[Row], name: str) -> Row:
    return next((row for row in rows if row["optimizer"] == name), {})


def _tests(folder: Path) -> list[dict[str, str]]:
    counts = dict(_read(folder / TESTS_FILE))
    reasons = "; ".join(counts.pop("reasons", ()))
    return [{**{k: str(n) for k, n in counts.items()}, "why skipped": reasons}] if counts else []


def _captured(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "network": network,
            "captured": "yes" if row["captured"] else "no",
            "steps": str(row["steps"]),
            "largest difference": number(row["difference"]),
            "replay, ms": number(median(row["replay"])),
            "step, ms": number(median(row["step"])),
        }
        for network, row in _read(folder / "captured.json").get("networks", {}).items()
    ]


def _training(folder: Path) -> list[dict[str, str]]:
    lines = []
    for network, result in _read(folder / "training.json").get("networks", {}).items():
        for row in result["rows"]:
            times = row.get("milliseconds", {})
            lines.append(
                {
                    "network": network,
                    "batch": str(result["batch"]),
                    "optimizer": row["optimizer"],
                    "forward, backward": number(median(row["forward_and_backward"])),
                    "plain": number(times.get("plain")),
                    "refresh": number(times.get("refresh_part")),
                    "whole at 100": number(row["whole"].get("100")),
                    **{
                        f"over AdamW at {i}": number(row["over_adamw"].get(i), ".1%")
                        for i in _INTERVALS
                    },
                    "failure": row["failure"] or UNKNOWN,
                }
            )
    return lines


def _steps(folder: Path, key: str | None) -> list[dict[str, str]]:
    lines = []
    for network, result in _read(_steps_file(folder)).items():
        precision = result["settings"]["float32_matmul_precision"]
        predicted = predictions(network, key, with_tf32=precision != "highest")
        for row in result["rows"]:
            times = row.get("milliseconds", {})
            seconds = predicted.get(_PLANNED.get(row["optimizer"], ""), {})
            average = {i: seconds.get("average", {}).get(i) for i in _INTERVALS}
            lines.append(
                {
                    "network": network,
                    "optimizer": row["optimizer"],
                    "plain": _beside(times.get("plain"), seconds.get("plain")),
                    "refresh": _beside(times.get("refresh_part"), seconds.get("refresh")),
                    **{
                        f"at {i}": _beside(times.get("amortised", {}).get(i), average[i])
                        for i in _INTERVALS
                    },
                    "remark": row["failure"] or row.get("absent") or "",
                }
            )
    return lines


@functools.cache
def predictions(network: str, key: str | None, with_tf32: bool) -> dict[str, Row]:
    """By the planner's optimizers, `seconds` of `plan_scale.steps.rows`; empty without a device."""
    if key is None:
        return {}
    setting = steps.Setting(ranks=1, with_tf32=with_tf32, refresh="together")
    rows = steps.rows([network], {key: HARDWARE[key]}, setting)
    return {row["optimizer"]: row["seconds"] for row in rows}


def _beside(milliseconds: float | None, predicted: float | None) -> str:
    """A measured time with a predicted one.

    >>> _beside(1.5, 0.001), _beside(None, None)
    ('1.5 (1)', '–')
    """
    text = number(milliseconds)
    return text if predicted is None else f"{text} ({number(1e3 * predicted)})"


def _factorisations(folder: Path) -> list[dict[str, str]]:
    by_shape: dict[tuple[int, int], dict[str, str]] = {}
    for row in _read(folder / "factorisations.json").get("rows", []):
        key = row["size"], row["batch"]
        cells = by_shape.setdefault(key, {"shape": f"{row['batch']} x {row['size']}²"})
        cells[row["method"]] = row["failure"] or number(median(row))
    return list(by_shape.values())


def _steps_file(folder: Path) -> Path:
    device = "cpu" if (folder / STEPS_FOLDER / "cpu.json").exists() else "cuda"
    return folder / STEPS_FOLDER / f"{device}.json"


def _read(path: Path) -> Any:
    return files.read_json(path) if path.exists() else {}
