"""Plans memory, work, messages and time of Shampoo on every rank of a world, on one machine.

    python -m scripts.plan_scale --model=llama3-8b --world=512 --mesh=hsdp:8
    python -m scripts.plan_scale --sweep --output=results/scaling
    python -m scripts.plan_scale --steps --output=results/scaling

Runs the optimizer's own code for planning, ownership, exchange and the step itself on meta tensors
and torch's fake process group, and counts what it allocates, computes and sends. Only times are
modelled: every kernel is bound by its matrix products or by memory at --efficiency of the peaks
that the hardware's maker states, or by its launch, messages by the slowest link that they cross.
Left out: the host's own time, latency of messages, contention and what overlaps, workspace of
refreshes, and all that AdamW under the same mesh does too, such as averaging gradients. With
--steps, a table of step times of fused AdamW, Muon and Shampoo on the models of AlgoPerf.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from absl import flags

from common import cli, files, progress
from common.cli import UserError
from scripts.benchmark import model_shapes
from scripts.plan_scale import model, report, steps
from scripts.plan_scale.hardware import HARDWARE, Hardware
from scripts.plan_scale.model import Question
from scripts.plan_scale.ranks import World
from submission.plan.options import METHODS
from submission.shampoo.config import DistributedConfig, ShampooConfig

FLAGS = flags.FLAGS
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Fields of `Hardware` by the flags that replace them.
_FIGURES = {
    **{f"{name}_flops": name for name in ("float32", "tensor_float32", "bfloat16")},
    **{f"{name}_bandwidth": name for name in ("memory", "link", "network")},
    "launch": "launch",
}


def define_flags() -> None:
    """Declares the command line."""
    flags.DEFINE_string("model", None, f"of {', '.join(model_shapes.MODELS)}")
    flags.DEFINE_integer("world", 8, "number of ranks")
    flags.DEFINE_string("mesh", "ddp", "ddp, fsdp or hsdp:SHARDS")
    flags.DEFINE_enum("method", "shampoo", METHODS, "see ShampooConfig, as for the next four")
    flags.DEFINE_integer("block_size", ShampooConfig.block_size, "longest edge of a block")
    flags.DEFINE_integer("max_dim", ShampooConfig.max_dim, "tables have a longer side")
    flags.DEFINE_integer("refresh_interval", 100, "steps between refreshes of a factor")
    for name in ("factor_dtype", "root_dtype"):
        flags.DEFINE_enum(name, "float32", list(_DTYPES), "of that state")
    flags.DEFINE_enum("parameter_dtype", "float32", list(_DTYPES), "of weights and gradients")
    flags.DEFINE_enum("communication_dtype", "float32", list(_DTYPES), "see DistributedConfig")
    flags.DEFINE_enum("communicate", "updates", ["updates", "parameters"], "under DDP")
    flags.DEFINE_integer("group_size", None, "ranks that share ownership; default: all")
    flags.DEFINE_integer("buckets", DistributedConfig.buckets, "pieces of updates, under DDP")
    flags.DEFINE_enum("hardware", "h100", list(HARDWARE), "of each rank, eight to a node")
    for name in _FIGURES:
        what = "peak operations per second" if name.endswith("flops") else "bytes per second"
        what = "seconds from one launch to the next" if name == "launch" else what
        flags.DEFINE_float(name, None, f"{what}; default: that of --hardware")
    flags.DEFINE_bool("tf32", False, "products of float32 on tensor cores")
    flags.DEFINE_float("efficiency", 0.5, "fraction of peaks that kernels reach; an assumption")
    flags.DEFINE_integer("tokens", 8192, "per rank and step, for language models", lower_bound=1)
    flags.DEFINE_float("step_ms", None, "forward and backward pass, where they are known")
    flags.DEFINE_bool("sweep", False, "plan all models over worlds, instead of one")
    flags.DEFINE_bool("steps", False, "tabulate step times of three optimizers, instead of one")
    flags.DEFINE_string("output", "runs/scaling", "with --sweep or --steps: folder for the tables")


def main(argv: Sequence[str]) -> None:
    """Plans what the flags describe."""
    del argv
    if FLAGS.sweep:
        _sweep(files.make_directory(Path(FLAGS.output)))
    elif FLAGS.steps:
        _steps(files.make_directory(Path(FLAGS.output)))
    else:
        (name,) = cli.names("model", [FLAGS.model] if FLAGS.model else [], model_shapes.MODELS)
        question = _question(name, World.of(FLAGS.world, FLAGS.mesh))
        title = f"{name}, {FLAGS.world} ranks, {FLAGS.mesh}"
        print(report.one(title, question, model.answer(question)))


def _sweep(output: Path) -> None:
    cases = report.cases()
    rows = []
    with progress.bar(len(cases), "plans") as bar:
        for name, size, mesh in cases:
            plan = model.answer(_question(name, World.of(size, mesh)))
            rows.append({"model": name, "world": size, "mesh": mesh, **plan})
            bar.update(1)
    names = ("hardware", "efficiency", "method", "refresh_interval", "tokens")
    settings = {name: FLAGS[name].value for name in names}
    path = output / "plans.json"
    files.write_json(path, {"settings": settings, "rows": rows})
    files.write_text(path.with_suffix(".md"), report.table(settings, rows))
    report.draw(output / "plans.png", rows)
    print(f"wrote {path}, plans.md and plans.png")


def _steps(output: Path) -> None:
    setting, path = steps.Setting(), output / "steps.json"
    devices = {name: HARDWARE[name] for name in steps.DEVICES}
    rows = steps.rows(model_shapes.ALGOPERF, devices, setting)
    files.write_json(path, {"settings": dataclasses.asdict(setting), "rows": rows})
    files.write_text(path.with_suffix(".md"), steps.page(setting, rows))
    print(f"wrote {path} and steps.md")


def _question(name: str, world: World) -> Question:
    _positive("efficiency", most=1)
    step_ms = _positive("step_ms")
    try:
        config = ShampooConfig(
            method=FLAGS.method,
            block_size=FLAGS.block_size,
            max_dim=FLAGS.max_dim,
            refresh_interval=FLAGS.refresh_interval,
            factor_dtype=_DTYPES[FLAGS.factor_dtype],
            root_dtype=_DTYPES[FLAGS.root_dtype],
        )
        distributed = DistributedConfig(
            communication_dtype=_DTYPES[FLAGS.communication_dtype],
            communicate=FLAGS.communicate,
            group_size=FLAGS.group_size,
            buckets=FLAGS.buckets,
        )
    except ValueError as error:
        raise UserError(f"--{error}") from error
    return Question(
        model=name,
        world=world,
        config=config,
        distributed=distributed,
        parameter_dtype=_DTYPES[FLAGS.parameter_dtype],
        hardware=_hardware(),
        efficiency=FLAGS.efficiency,
        with_tf32=FLAGS.tf32,
        tokens=FLAGS.tokens,
        step_seconds=None if step_ms is None else step_ms / 1e3,
    )


def _hardware() -> Hardware:
    figures = {name: _positive(flag) for flag, name in _FIGURES.items()}
    given: dict[str, Any] = {name: n for name, n in figures.items() if n is not None}
    return dataclasses.replace(HARDWARE[FLAGS.hardware], **given)


def _positive(flag: str, most: float = math.inf) -> float | None:
    """A flag's number, if it is given; UserError for others than those in (0, most]."""
    value: float | None = FLAGS[flag].value
    if value is not None and not 0 < value <= most:
        allowed = "above 0" if most == math.inf else f"in (0, {most:g}]"
        raise UserError(f"--{flag}: {value} given; allowed: {allowed}")
    return value


if __name__ == "__main__":
    define_flags()
    cli.run(main)
