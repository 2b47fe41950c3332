"""What an optimizer step costs: ours, AdamW's and the rivals', interleaved in one process.

    python -m scripts.benchmark.step --networks=vit_s16,small_200k \\
        --optimizers=adamw,ours_shampoo,meta_shampoo --threads=1 --output=results/step_cost
    python -m scripts.benchmark.step --staggering --output=results/step_cost

Steps are taken in turn, one optimizer after the other, on the parameter shapes of whole networks
with fixed random gradients, every --cycle-th of an optimizer's steps being a refresh of all its
roots or bases. Plain and refresh steps are timed apart; amortised cost at an interval is computed
from the two. Writes <device>.json and <device>.md (or <device>_staggering.*) to the output; a
network measured again replaces its own numbers there. Times on a CPU are the process's CPU time,
since machines are shared; wall times stand beside them.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags

from common import cli, files
from common.cli import UserError
from scripts.benchmark import measure as benchmark_measure
from scripts.benchmark import network_shapes
from scripts.benchmark import report as benchmark_report
from scripts.benchmark import staggering as benchmark_staggering
from scripts.benchmark.measure import Plan
from scripts.local import environment, rivals
from scripts.local.rivals import RivalOptions

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(network_shapes.NETWORKS)
    flags.DEFINE_list("networks", list(network_shapes.NETWORKS), f"of {known}")
    flags.DEFINE_list("optimizers", None, "of scripts/local/rivals.py; default: all found here")
    flags.DEFINE_list("intervals", ["1", "10", "100"], "refresh intervals to amortise over")
    flags.DEFINE_integer("block_size", 1024, "longest edge of a block", lower_bound=2)
    flags.DEFINE_enum("device", "cpu", ["cpu", "cuda"], "where to step")
    flags.DEFINE_integer("threads", None, "torch's threads; default: all cores", lower_bound=1)
    flags.DEFINE_integer(
        "repeats", 3, "cycles of each optimizer, ten times as many on a small network",
        lower_bound=1,
    )  # fmt: skip
    flags.DEFINE_integer("cycle", 4, "steps from one refresh to the next", lower_bound=2)
    flags.DEFINE_float("time_limit", 120, "seconds for one step; 0 for no limit", lower_bound=0)
    flags.DEFINE_float(
        "memory", None, "GiB to use; default: four fifths of what is free", lower_bound=0
    )
    flags.DEFINE_string("output", "results/step_cost", "folder for the tables")
    flags.DEFINE_bool("staggering", False, "measure the spread of our own step times instead")
    flags.DEFINE_integer("steps", 1000, "with --staggering: steps of each", lower_bound=100)
    flags.DEFINE_float("pause", 5, "with --staggering: ms between steps", lower_bound=0)


def main(argv: Sequence[str]) -> int:
    """Measures what the flags describe; 1 if an optimizer failed."""
    del argv
    device = _device(FLAGS.device)
    torch.set_num_threads(FLAGS.threads or len(environment.available_cores()))
    output = files.make_directory(Path(FLAGS.output))
    if FLAGS.staggering:
        _write_staggering(device, output)
        return 0
    plan = _plan(device)
    path = output / f"{device.type}.json"
    results: dict[str, Any] = files.read_json(path) if path.exists() else {}
    failed = False
    for network in plan.networks:
        results[network] = benchmark_measure.measure(network, plan)
        failed |= any(row["failure"] for row in results[network]["rows"])
        # After each network: what is measured should outlive what comes after it.
        files.write_json(path, results)
        files.write_text(path.with_suffix(".md"), benchmark_report.step_cost(results))
    print(f"wrote {path} and {path.with_suffix('.md').name}")
    return int(failed)


def _write_staggering(device: torch.device, output: Path) -> None:
    with benchmark_measure.collector_off():
        spread = benchmark_staggering.measure(device, FLAGS.steps, FLAGS.pause / 1e3, _time_limit())
    spread["settings"] |= benchmark_measure.conditions(device)
    path = output / f"{device.type}_staggering.json"
    files.write_json(path, spread)
    files.write_text(path.with_suffix(".md"), benchmark_report.staggering(spread))
    print(f"wrote {path} and {path.with_suffix('.md').name}")


def _plan(device: torch.device) -> Plan:
    networks = tuple(dict.fromkeys(FLAGS.networks))
    unknown = [name for name in networks if name not in network_shapes.NETWORKS]
    if unknown or not networks:
        raise UserError(
            f"--networks: {', '.join(unknown) or 'none given'}; "
            f"allowed: {', '.join(network_shapes.NETWORKS)}"
        )
    found, missing = rivals.available(), rivals.absent()
    asked = list(dict.fromkeys([rivals.BASELINE, *(FLAGS.optimizers or [*found, *missing])]))
    unknown = [name for name in asked if name not in found and name not in missing]
    if unknown:
        raise UserError(
            f"--optimizers: unknown {', '.join(unknown)}; known: {', '.join([*found, *missing])}"
        )
    return Plan(
        networks=networks,
        optimizers={name: found[name] for name in asked if name in found},
        absent={name: missing[name] for name in asked if name in missing},
        intervals=_intervals(FLAGS.intervals),
        options=RivalOptions(
            block_size=FLAGS.block_size, interval=FLAGS.cycle, ours={"refresh": "together"}
        ),
        device=device,
        repeats=FLAGS.repeats,
        time_limit=_time_limit(),
        memory=0.8 * _free(device) if FLAGS.memory is None else FLAGS.memory * 2**30,
    )


def _intervals(texts: Sequence[str]) -> tuple[int, ...]:
    if not texts or not all(text.isdecimal() and int(text) > 0 for text in texts):
        raise UserError(
            f"--intervals: {','.join(texts)!r}; allowed: positive integers, as 1,10,100"
        )
    return tuple(dict.fromkeys(map(int, texts)))


def _time_limit() -> float:
    return FLAGS.time_limit or math.inf


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda is not available here; allowed: cpu")
    return torch.device(name)


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        # Unlike the system's free pages, with what it would give back of its file cache.
        return next(1024.0 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
