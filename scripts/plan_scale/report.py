"""Plans as text: one in detail, many as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from common import documents
from scripts.plan_scale.model import Question, overhead

_GIB, _MIB = 2**30, 2**20
Row = Mapping[str, Any]

_ALGOPERF = (
    *("criteo1tb", "fastmri", "imagenet_resnet", "imagenet_vit", "librispeech_conformer"),
    *("librispeech_deepspeech", "ogbg", "wmt", "resnet50", "vit_s16", "gpt2_small"),
)
# Past the longest side of each model's MLPs, which the default would leave to AdamW.
_LLAMAS = {"llama3.2-1b": 16384, "llama3.2-3b": 16384, "llama3-8b": 16384, "llama3-70b": 32768}


def cases() -> list[tuple[str, int, str, int]]:
    """(model, world, mesh, max_dim) of the committed sweep."""
    found = [(model, 8, "ddp", 16384) for model in _ALGOPERF]
    for model in ("vit_s16", "gpt2_small"):
        found += [(model, world, "ddp", 16384) for world in (1, 2, 4, 16, 64)]
    for model, max_dim in _LLAMAS.items():
        found += [(model, world, "fsdp", max_dim) for world in (1, 8, 64, 512)]
    found += [("llama3-8b", world, "ddp", 16384) for world in (8, 64)]
    found += [("llama3-8b", world, "hsdp:8", 16384) for world in (64, 512)]
    return [*found, ("llama3-70b", 4096, "fsdp", 32768), ("llama3-70b", 512, "hsdp:64", 32768)]


def one(title: str, question: Question, plan: Row) -> str:
    """All that is known of one plan."""
    memory, seconds, refresh = plan["memory"], plan["seconds"], plan["refresh"]
    hardware = question.hardware
    share = plan["preconditioned"]
    lines = [
        title,
        "",
        f"parameters             {plan['parameters']:,}, {share:.1%} of them have factors",
        f"owners                 {plan['owners']}; costliest over mean {plan['balance']:.3f}",
        f"ranks built            {', '.join(map(str, plan['ranks_built']))}",
        "",
        "memory of the fullest of these ranks, MiB",
        *(f"  {name:<20} {size / _MIB:>12,.1f}" for name, size in memory.items()),
        f"  {'all':<20} {plan['memory_total'] / _MIB:>12,.1f}",
        f"  AdamW's, sharded alike {plan['adamw_memory_total'] / _MIB:>10,.1f}",
        (
            f"  fits into {hardware.title}: {'yes' if _fits(question, plan) else 'NO'}, "
            "activations aside"
        ),
        (
            f"state, over all ranks: at most {plan['state']['max'] / _MIB:,.1f} MiB, "
            f"mean {plan['state']['mean'] / _MIB:,.1f} MiB"
        ),
        "",
        "a step of one rank",
        f"  products             {plan['flops'] / 1e9:>12,.2f} GFLOP",
        f"  refreshes, mean      {refresh['flops_mean'] / 1e9:>12,.2f} GFLOP",
        f"  memory traffic       {plan['bytes'] / 1e9:>12,.2f} GB",
        f"  sent                 {plan['bytes_sent'] / 1e6:>12,.2f} MB",
        "",
        f"modelled, {hardware.title}, {question.efficiency:.0%} of its peaks, ms",
        f"  step                 {1e3 * seconds['step']:>12.3f}",
        (
            f"  refresh, slowest rank{1e3 * seconds['refresh']:>12.3f}  "
            f"(a rank's mean {1e3 * refresh['seconds_mean']:.3f}, "
            f"worst step {1e3 * refresh['seconds_worst_step']:.3f})"
        ),
        f"  communication        {1e3 * seconds['communication']:>12.3f}",
        f"  Shampoo              {1e3 * seconds['total']:>12.3f}",
        f"  AdamW                {1e3 * seconds['adamw']:>12.3f}",
    ]
    slower = overhead(plan)
    if slower is not None:
        training = 1e3 * plan["training_seconds"]
        lines += [
            f"  forward and backward {training:>12.3f}",
            f"a training step takes {slower:.1%} longer than with AdamW",
        ]
    lines += [
        "",
        (
            f"hardware: {hardware.source}; per rank {hardware.float32 / 1e12:g} TFLOP/s float32, "
            f"{hardware.bfloat16 / 1e12:g} bfloat16, memory {hardware.memory / 1e9:g} GB/s, "
            f"link {hardware.link / 1e9:g} GB/s, network {hardware.network / 1e9:g} GB/s"
        ),
        "left out: kernel launches, latencies, contention, overlap, workspace of refreshes,",
        "and what AdamW does too",
    ]
    return "\n".join(lines)


def _fits(question: Question, plan: Row) -> bool:
    return bool(plan["memory_total"] <= question.hardware.capacity)


def table(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The sweep as Markdown."""
    stated = ", ".join(f"{name} {value}" for name, value in settings.items())
    header = [
        *("model", "parameters", "with factors", "ranks", "mesh", "balance"),
        *("state per rank, GiB", "memory per rank, GiB", "AdamW's", "sent per step, MB"),
        *("refresh, GFLOP", "step, ms", "refresh, ms", "messages, ms", "AdamW, ms", "overhead"),
    ]
    body = []
    for row in rows:
        seconds, slower = row["seconds"], overhead(row)
        body.append(
            [
                row["model"],
                f"{row['parameters'] / 1e6:,.1f} M",
                f"{row['preconditioned']:.0%}",
                row["world"],
                row["mesh"],
                f"{row['balance']:.2f}",
                f"{row['state']['max'] / _GIB:.3f}",
                f"{row['memory_total'] / _GIB:.2f}",
                f"{row['adamw_memory_total'] / _GIB:.2f}",
                f"{row['bytes_sent'] / 1e6:,.1f}",
                f"{row['refresh']['flops_mean'] / 1e9:,.2f}",
                *(
                    f"{1e3 * seconds[name]:.2f}"
                    for name in ("step", "refresh", "communication", "adamw")
                ),
                documents.number(slower, ".1%"),
            ]
        )
    lines = [
        "# Shampoo from one rank to thousands",
        "",
        "By `python -m scripts.plan_scale --sweep`. Bytes and operations are counted on the",
        "optimizer's own code, run on meta tensors; times are modelled, not measured, as",
        "[docs/scaling.md](../../docs/scaling.md) says. Assumed:",
        f"{stated}. Overhead is that of a training",
        "step over AdamW's, known for language models only. State is the largest of all ranks;",
        "memory includes weights, gradients, buffers and a step's temporaries, no activations.",
        "",
        documents.table(body, header),
    ]
    return "\n".join(lines) + "\n"
