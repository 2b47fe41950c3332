"""Times optimizer steps of ours, of AdamW and of rivals, interleaved in one process.

    python -m scripts.benchmark.step --networks=vit_s16,small_200k \\
        --optimizers=adamw,ours_shampoo,meta_shampoo --threads=1 --output=results/step_cost
    python -m scripts.benchmark.step --staggering --output=results/step_cost

The optimizers step interleaved on the parameter shapes of whole networks with fixed random
gradients; every --cycle-th of an optimizer's steps refreshes all its roots or bases. Plain and
refresh steps are timed apart; amortised cost at an interval is computed from the two. Writes
<device>.json and <device>.md (or <device>_staggering.*) to the output; a network measured again
replaces its own numbers there. Times on a CPU are the process's CPU time, since machines are
shared; wall times stand beside them.
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
from scripts.benchmark import compiled, machine, measure, model_shapes, report
from scripts.benchmark.measure import Plan
from scripts.local import environment, rivals
from scripts.local.rivals import RivalOptions

FLAGS = flags.FLAGS
PAUSE_SECONDS = 5e-3  # between steps, with --staggering


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(model_shapes.NETWORKS)
    flags.DEFINE_list("networks", list(model_shapes.NETWORKS), f"of {known}")
    flags.DEFINE_list(
        "optimizers", None, "of scripts/local/rivals.py and compiled.py; default: all found here"
    )
    flags.DEFINE_list("intervals", ["1", "10", "100"], "refresh intervals to amortise over")
    flags.DEFINE_integer("block_size", 1024, "longest edge of a block", lower_bound=2)
    flags.DEFINE_integer("threads", None, "threads of each; default: all cores", lower_bound=1)
    flags.DEFINE_enum(
        "precision", "highest", ["highest", "high", "medium"],
        "of float32 products, see torch.set_float32_matmul_precision; on a CPU with units for "
        "bfloat16 medium multiplies in it"
    )  # fmt: skip
    flags.DEFINE_integer(
        "repeats", 3, "cycles of each optimizer, ten times as many on a small network",
        lower_bound=1,
    )  # fmt: skip
    flags.DEFINE_integer("cycle", 4, "steps from one refresh to the next", lower_bound=2)
    flags.DEFINE_float("time_limit", 120, "seconds for one step; 0 for no limit", lower_bound=0)
    flags.DEFINE_float(
        "memory", None, "GiB to use; default: four fifths of what is free", lower_bound=0
    )
    machine.define_flags("runs/step_cost")
    flags.DEFINE_bool("staggering", False, "measure the spread of our own step times instead")
    flags.DEFINE_integer("steps", 1000, "with --staggering: steps of each", lower_bound=100)


def main(argv: Sequence[str]) -> int:
    """Measures what the flags describe; 1 if an optimizer failed."""
    del argv
    device = machine.device(FLAGS.device)
    threads = FLAGS.threads or len(environment.available_cores())
    torch.set_num_threads(threads)
    # Of XLA and of the LAPACK that it calls, SciPy's; read when JAX is imported and first computes.
    os.environ |= dict.fromkeys(("NPROC", "OPENBLAS_NUM_THREADS"), str(threads))
    torch.set_float32_matmul_precision(FLAGS.precision)
    output = files.make_directory(Path(FLAGS.output))
    time_limit = FLAGS.time_limit or math.inf
    failed = False
    if FLAGS.staggering:
        path = output / f"{device.type}_staggering.json"
        spread = measure.staggering(device, FLAGS.steps, PAUSE_SECONDS, time_limit)
        files.write_json(path, spread)
        files.write_text(path.with_suffix(".md"), report.staggering(spread))
    else:
        plan = _plan(device, time_limit)
        path = output / f"{device.type}.json"
        results = _earlier(path)
        for network in plan.networks:
            results[network] = measure.measure(network, plan)
            failed |= any(row["failure"] for row in results[network]["rows"])
            # After each network: what is measured should outlive what comes after it.
            files.write_json(path, results)
            files.write_text(path.with_suffix(".md"), report.step_cost(results))
    print(f"wrote {path} and {path.with_suffix('.md').name}")
    return int(failed)


def _earlier(path: Path) -> dict[str, Any]:
    """The networks that were measured before; UserError for another file in their place."""
    results: dict[str, Any] = files.read_json(path) if path.exists() else {}
    try:
        report.step_cost(results)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no step costs, so none are added; move it away") from error
    return results


def _plan(device: torch.device, time_limit: float) -> Plan:
    networks = cli.names("networks", FLAGS.networks, model_shapes.NETWORKS)
    for_jax = compiled.survey(device)
    available, absent = rivals.available() | for_jax[0], rivals.absent() | for_jax[1]
    known = [*available, *absent]
    names = cli.names("optimizers", [rivals.BASELINE, *(FLAGS.optimizers or known)], known)
    intervals = cli.numbers("intervals", FLAGS.intervals, 1, integers=True)
    memory = FLAGS.memory
    return Plan(
        networks=tuple(networks),
        optimizers={name: available[name] for name in names if name in available},
        absent={name: absent[name] for name in names if name in absent},
        intervals=tuple(dict.fromkeys(map(int, intervals))),
        options=RivalOptions(
            block_size=FLAGS.block_size,
            interval=FLAGS.cycle,
            shampoo_options={"refresh": "together"},
        ),
        device=device,
        repeats=FLAGS.repeats,
        time_limit=time_limit,
        memory=machine.most_memory(device) if memory is None else memory * 2**30,
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
