"""What dividing a step among ranks costs: gloo processes on this machine's CPU against one process.

    python -m scripts.benchmark.ranks --worlds=2,4 --networks=small_200k,vit_s16

Every rank is a process with one thread. Steps of the divided optimizer and, on the first rank while
the others wait, of an optimizer that does everything alone are taken in turn on the same gradients;
none of the timed steps refreshes anything. A rank's own work is the CPU time of its main thread;
the time in communication is what passes inside collectives and in waiting for them, for other ranks
too. On a machine with fewer free cores than ranks wall times say little, ratios of CPU times do.
Writes ranks.json and ranks.md to the output.
"""

import datetime
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from absl import flags
from torch import Tensor

from common import cli, documents, files
from common.cli import UserError
from scripts.benchmark import network_shapes
from scripts.benchmark.clock import Watch
from scripts.benchmark.contestant import gradients
from scripts.local import environment
from submission.shampoo import Shampoo, communication

FLAGS = flags.FLAGS
MODES = ("ddp", "fsdp")
_PATIENCE = datetime.timedelta(minutes=5)
# Neither the first nor a power of two, so that nothing is refreshed.
_AN_ORDINARY_STEP = 3


def define_flags() -> None:
    """Declares the command line."""
    known = ", ".join(network_shapes.NETWORKS)
    flags.DEFINE_list("networks", ["small_200k", "vit_s16"], f"of {known}")
    flags.DEFINE_list("worlds", ["2", "4"], "numbers of processes")
    flags.DEFINE_list("modes", list(MODES), f"of {', '.join(MODES)}")
    flags.DEFINE_integer("block_size", 256, "longest edge of a block", lower_bound=2)
    flags.DEFINE_integer("repeats", 5, "timed steps of each kind", lower_bound=1)
    flags.DEFINE_string("output", "results/scaling", "folder for the tables")


def main(argv: Sequence[str]) -> int:
    """Measures what the flags describe."""
    del argv
    networks, modes = _known("networks", network_shapes.NETWORKS), _known("modes", MODES)
    if not FLAGS.worlds or not all(text.isdecimal() and int(text) > 1 for text in FLAGS.worlds):
        raise UserError(f"--worlds: {','.join(FLAGS.worlds)!r}; allowed: integers above 1, as 2,4")
    output = files.make_directory(Path(FLAGS.output))
    settings = {"block_size": FLAGS.block_size, "repeats": FLAGS.repeats}
    cases = [(network, mode) for network in networks for mode in modes]
    watch, rows = Watch(), []
    for world in map(int, FLAGS.worlds):
        found = _launch(world, networks, modes, FLAGS.block_size, FLAGS.repeats)
        for number, (network, mode) in enumerate(cases):
            each = [rank[number] for rank in found]
            rows.append({"network": network, "mode": mode, "world": world, **summarize(each)})
    settings |= {**environment.describe(), "load_average": watch.report()["load_average"]}
    files.write_json(output / "ranks.json", {"settings": settings, "rows": rows})
    files.write_text(output / "ranks.md", report(settings, rows))
    print(f"wrote {output / 'ranks.json'} and ranks.md")
    return 0


def _known(flag: str, allowed: Sequence[str]) -> list[str]:
    given = list(dict.fromkeys(FLAGS[flag].value or []))
    unknown = [name for name in given if name not in allowed]
    if unknown or not given:
        raise UserError(
            f"--{flag}: {', '.join(unknown) or 'none given'}; allowed: {', '.join(allowed)}"
        )
    return given


def _launch(world: int, *arguments: Any) -> list[Any]:
    """What `_measure` returns on each of `world` ranks."""
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


def _measure(
    networks: Sequence[str], modes: Sequence[str], block_size: int, repeats: int
) -> list[dict[str, Any]]:
    """By network and mode, times of this rank's steps and, on the first rank, of steps alone."""
    found = []
    options: dict[str, Any] = {"block_size": block_size, "refresh": "together"}
    for network in networks:
        grads = gradients(network_shapes.shapes(network), torch.device("cpu"))[0]
        alone = None
        if dist.get_rank() == 0:
            alone = _optimizer(grads, _keep, {**options, "distributed": None})
        for mode in modes:
            divided = _optimizer(grads, _distribute if mode == "fsdp" else _keep, options)
            found.append(_take_turns(divided, alone, repeats))
    return found


def _take_turns(divided: Shampoo, alone: Shampoo | None, repeats: int) -> dict[str, Any]:
    times: dict[str, Any] = {"divided": [], "alone": []}
    for _ in range(repeats):
        dist.barrier()
        if alone is not None:
            times["alone"].append(_timed_step(alone))
        dist.barrier()
        times["divided"].append(_timed_step(divided))
    return times | {"bytes_sent": divided.diagnostics()["bytes_sent_per_step"]}


def _keep(tensor: Tensor) -> Tensor:
    return tensor


def _distribute(tensor: Tensor) -> Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return distribute_tensor(tensor, mesh, [Shard(0)])


def _optimizer(
    grads: Sequence[Tensor], lay: Callable[[Tensor], Tensor], options: dict[str, Any]
) -> Shampoo:
    """An optimizer that has taken its first step, which refreshes."""
    parameters = [torch.nn.Parameter(lay(torch.zeros_like(grad))) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = lay(grad)
    optimizer = Shampoo(parameters, **options)
    optimizer.step()
    return optimizer


def _timed_step(optimizer: Shampoo) -> dict[str, float]:
    """Milliseconds of one step."""
    for group in optimizer.param_groups:
        group["refresh_step"] = _AN_ORDINARY_STEP - 1
    with communication_timed() as spent:
        wall, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
        optimizer.step()
        thread, cpu = time.thread_time() - thread, time.process_time() - cpu
        wall = time.perf_counter() - wall
    seconds = {"wall": wall, "cpu": cpu, "thread": thread, "communication": sum(spent)}
    return {name: 1e3 * value for name, value in seconds.items()}


@contextmanager
def communication_timed() -> Iterator[list[float]]:
    """Collects the seconds of every call into a collective, and of waiting for one."""
    spent: list[float] = []

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = call(*args, **kwargs)
            spent.append(time.perf_counter() - start)
            return _Waited(result, timed) if hasattr(result, "wait") else result

        return wrapped

    places = (
        (communication, "_all_gather"),
        (dist, "all_to_all_single"),
        (dist, "all_reduce"),
    )
    before = [getattr(*place) for place in places]
    for place, call in zip(places, before, strict=True):
        setattr(*place, timed(call))
    try:
        yield spent
    finally:
        for place, call in zip(places, before, strict=True):
            setattr(*place, call)


class _Waited:
    """What a collective under way is waited for with."""

    def __init__(self, work: Any, timed: Callable[..., Any]) -> None:
        self.wait = timed(work.wait)


def summarize(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One case's medians in milliseconds and ratios, from what each rank measured."""
    alone = _medians(ranks[0]["alone"])
    divided = [_medians(rank["divided"]) for rank in ranks]
    slowest = max(each["thread"] for each in divided)
    return {
        "alone": alone,
        "divided": divided,
        "bytes_sent": [rank["bytes_sent"] for rank in ranks],
        "own_work": slowest / alone["thread"],
        "all_cpu": sum(each["cpu"] for each in divided) / alone["cpu"],
        "wall": max(each["wall"] for each in divided) / alone["wall"],
        "communication_share": statistics.fmean(
            each["communication"] / each["wall"] for each in divided
        ),
        "communication_to_work": statistics.fmean(
            each["communication"] / each["thread"] for each in divided
        ),
        # What gloo's own threads did.
        "communication_cpu": statistics.fmean(
            (each["cpu"] - each["thread"]) / each["thread"] for each in divided
        ),
    }


def _medians(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in samples) for name in samples[0]}


def report(settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    header = [
        *("network", "mode", "ranks", "alone, ms", "slowest rank's own work, ms"),
        *("own work / alone", "CPU of all / alone", "wall / alone", "gloo's CPU / own work"),
        "communication / own work",
        *("communication / wall", "sent by a rank, MB"),
    ]
    body = [
        [
            *(row["network"], row["mode"], row["world"], f"{row['alone']['thread']:.1f}"),
            f"{max(each['thread'] for each in row['divided']):.1f}",
            f"{row['own_work']:.2f}",
            f"{row['all_cpu']:.2f}",
            f"{row['wall']:.2f}",
            f"{row['communication_cpu']:.2f}",
            f"{row['communication_to_work']:.2f}",
            f"{row['communication_share']:.2f}",
            f"{max(row['bytes_sent']) / 1e6:.2f}",
        ]
        for row in rows
    ]
    load = settings["load_average"] or float("nan")
    lines = [
        "# A step divided among processes",
        "",
        f"By `python -m scripts.benchmark.ranks`: gloo on {settings['cpu_model_name']},",
        f"{settings['cpu_count']} cores at a load of {load:.1f}, one thread per rank,",
        f"block size {settings['block_size']}, medians of {settings['repeats']} steps without",
        "refresh, in turn with steps of one process.",
        "Own work is the CPU time of a rank's main thread. Communication is the wall time inside",
        "collectives, most of it waiting for other ranks to get a core.",
        "",
        documents.table(body, header),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    define_flags()
    cli.run(main)
