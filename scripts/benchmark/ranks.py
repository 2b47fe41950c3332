"""Times steps divided among gloo processes on this machine's CPU against steps of one process.

    python -m scripts.benchmark.ranks --worlds=2,4 --networks=small_200k,vit_s16

Every rank is a process with one thread. Steps of the divided optimizer alternate with steps, on the
first rank while the others wait, of an optimizer that does everything alone on the same gradients;
none of the timed steps refreshes anything. A rank's own work is the CPU time of its main thread;
the time in communication is the wall time inside collectives, waiting for other ranks included. On
a machine with fewer free cores than ranks wall times say little, ratios of CPU times do.
Writes ranks.json and ranks.md to the output.
"""

import contextlib
import datetime
import itertools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
import torch.distributed as dist
from absl import flags
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from common import cli, documents, files
from common.documents import number
from scripts.benchmark import model_shapes
from scripts.benchmark.clock import timed
from scripts.benchmark.machine import LoadMeter
from scripts.benchmark.report import Row
from scripts.benchmark.stepped import gradients
from scripts.local import environment
from submission.shampoo import Shampoo, distributor

FLAGS = flags.FLAGS
MODES = ("ddp", "fsdp")
_PATIENCE = datetime.timedelta(minutes=5)
# No power of four, so that nothing is refreshed.
_AN_ORDINARY_STEP = 3
_COLLECTIVES = ((distributor, "_all_gather"), (dist, "all_to_all_single"), (dist, "all_reduce"))


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(model_shapes.NETWORKS)
    flags.DEFINE_list("networks", ["small_200k", "vit_s16"], f"of {known}")
    flags.DEFINE_list("worlds", ["2", "4"], "numbers of processes")
    flags.DEFINE_integer("block_size", 256, "longest edge of a block", lower_bound=2)
    flags.DEFINE_integer("repeats", 5, "timed steps of each kind", lower_bound=1)
    flags.DEFINE_string("output", "runs/scaling", "folder for the tables")


def main(argv: Sequence[str]) -> None:
    """Measures what the flags describe."""
    del argv
    networks = cli.names("networks", FLAGS.networks, model_shapes.NETWORKS)
    worlds = cli.numbers("worlds", FLAGS.worlds, 2, integers=True)
    output = files.make_directory(Path(FLAGS.output))
    load, rows = LoadMeter(), []
    for world in map(int, worlds):
        of_ranks = _launch(world, networks, FLAGS.block_size, FLAGS.repeats)
        cases = itertools.product(networks, MODES)
        for (network, mode), *times in zip(cases, *of_ranks, strict=True):
            rows.append({"network": network, "mode": mode, "world": world, **summarize(times)})
    settings = {
        "block_size": FLAGS.block_size,
        "repeats": FLAGS.repeats,
        **environment.describe(),
        "load_average": load.report()["load_average"],
    }
    files.write_json(output / "ranks.json", {"settings": settings, "rows": rows})
    files.write_text(output / "ranks.md", table(settings, rows))
    print(f"wrote {output / 'ranks.json'} and ranks.md")


def _launch(world: int, *arguments: Any) -> list[Any]:
    """Results of `_measure` on each of `world` ranks."""
    # A rank forked from a process that has imported torch and nothing else starts at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.fsdp", "submission.shampoo"])
    with tempfile.TemporaryDirectory() as folder, context.Pool(world) as pool:
        # Each worker takes one task and waits in it for all the others.
        tasks = [(rank, world, folder, *arguments) for rank in range(world)]
        return pool.starmap_async(_rank, tasks, chunksize=1).get(_PATIENCE.total_seconds())


def _rank(rank: int, world: int, folder: str, *arguments: Any) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        return _measure(*arguments)
    finally:
        dist.destroy_process_group()


def _measure(networks: Sequence[str], block_size: int, repeats: int) -> list[dict[str, Any]]:
    """By network and mode, times of this rank's steps and, on the first rank, of steps alone."""
    cases = []
    options: dict[str, Any] = {"block_size": block_size, "refresh": "together"}
    for network in networks:
        grads = gradients(model_shapes.shapes(network), torch.device("cpu"))[0]
        alone = None
        if dist.get_rank() == 0:
            alone = _optimizer(grads, "ddp", options | {"distributed": None})
        for mode in MODES:
            divided = _optimizer(grads, mode, options)
            times: dict[str, Any] = {"divided": [], "alone": []}
            for _ in range(repeats):
                dist.barrier()
                if alone is not None:
                    times["alone"].append(_timed_step(alone))
                dist.barrier()
                times["divided"].append(_timed_step(divided))
            cases.append(times | {"bytes_sent": divided.diagnostics()["bytes_sent_per_step"]})
    return cases


def _optimizer(grads: Sequence[Tensor], mode: str, options: dict[str, Any]) -> Shampoo:
    """An optimizer that has taken its first step, which refreshes."""
    mesh = None if mode == "ddp" else init_device_mesh("cpu", (dist.get_world_size(),))

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor if mesh is None else distribute_tensor(tensor, mesh, [Shard(0)])

    parameters = [torch.nn.Parameter(laid_out(torch.zeros_like(grad))) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = laid_out(grad)
    optimizer = Shampoo(parameters, **options)
    optimizer.step()
    return optimizer


def _timed_step(optimizer: Shampoo) -> dict[str, float]:
    """Milliseconds of one step."""
    for group in optimizer.param_groups:
        group["refresh_step"] = _AN_ORDINARY_STEP - 1
    with communication_timed() as spent:
        step = timed(optimizer.step, torch.device("cpu"), math.inf)
    sample = {"wall": step.wall, "cpu": step.cpu, "thread": step.thread}
    return sample | {"communication": 1e3 * sum(spent)}


@contextlib.contextmanager
def communication_timed() -> Iterator[list[float]]:
    """Collects the seconds of every call into a collective, and of waiting for one."""
    spent: list[float] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = call(*args, **kwargs)
            spent.append(time.perf_counter() - start)
            return _TimedWork(result, watched) if hasattr(result, "wait") else result

        return wrapped

    with contextlib.ExitStack() as patches:
        for module, name in _COLLECTIVES:
            patches.enter_context(mock.patch.object(module, name, watched(getattr(module, name))))
        yield spent


class _TimedWork:
    """A collective in progress, whose `wait` is timed as well."""

    def __init__(self, work: Any, watched: Callable[..., Any]) -> None:
        self.wait = watched(work.wait)


def summarize(ranks: Sequence[Row]) -> Row:
    """One case's medians in milliseconds and ratios, from what each rank measured."""
    alone = pd.DataFrame(ranks[0]["alone"]).median()
    divided = pd.DataFrame([pd.DataFrame(rank["divided"]).median() for rank in ranks])
    return {
        "alone": alone.to_dict(),
        "divided": divided.to_dict("records"),
        "bytes_sent": [rank["bytes_sent"] for rank in ranks],
        "own_work": divided["thread"].max() / alone["thread"],
        "all_cpu": divided["cpu"].sum() / alone["cpu"],
        "wall": divided["wall"].max() / alone["wall"],
        "communication_share": (divided["communication"] / divided["wall"]).mean(),
        "communication_to_work": (divided["communication"] / divided["thread"]).mean(),
        # Of gloo's own threads.
        "communication_cpu": (divided["cpu"] / divided["thread"] - 1).mean(),
    }


def table(settings: Row, rows: Sequence[Row]) -> str:
    """The measurements as Markdown."""
    body = []
    for row in rows:
        slowest = number(max(rank["thread"] for rank in row["divided"]), ".1f")
        own_work = number(row["own_work"], ".2f")
        shares = ("communication_to_work", "communication_share")
        cells = {
            "network": row["network"],
            "ranks": f"{row['world']} {row['mode']}",
            "alone, ms": number(row["alone"]["thread"], ".1f"),
            "slowest rank's own work, ms (/ alone)": f"{slowest} ({own_work})",
            "CPU of all / alone": number(row["all_cpu"], ".2f"),
            "wall / alone": number(row["wall"], ".2f"),
            "gloo's CPU / own work": number(row["communication_cpu"], ".2f"),
            "communication / own work, / wall": ", ".join(
                number(row[key], ".2f") for key in shares
            ),
            "sent by a rank, MB": number(max(row["bytes_sent"]) / 1e6, ".2f"),
        }
        body.append(cells)
    load = number(settings["load_average"], ".1f")
    lines = [
        "# A step divided among processes",
        "",
        f"By `python -m scripts.benchmark.ranks`: gloo on {settings['cpu_model_name']},",
        f"{settings['cpu_count']} cores at a load of {load}, one thread per rank,",
        f"block size {settings['block_size']}, medians of {settings['repeats']} steps without",
        "refresh, in turn with steps of one process.",
        "Own work is the CPU time of a rank's main thread. Communication is the wall time inside",
        "collectives, most of it waiting for other ranks to get a core.",
        "",
        documents.table(body),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    define_flags()
    cli.run(main)
