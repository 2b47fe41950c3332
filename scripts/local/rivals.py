"""Other people's optimizers and ours behind one constructor, for benchmarks and comparisons.

What is not installed is left out and listed with its reason. Where a rival offers a choice, it gets
what the others have (block size, interval, EMA weights, epsilon, decoupled decay, Adam's magnitude
where the method needs grafting); everything else stays at its package's default.
"""

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

BASELINE = "adamw"
REFERENCE = "meta_shampoo"


@dataclasses.dataclass(frozen=True)
class RivalOptions:
    """What all optimizers are given alike.

    Attributes:
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`; betas[1] also averages factors.
      block_size: longest edge of a block, or of a dimension that is preconditioned at all where the
        rival does not cut (the SOAPs of pytorch-optimizer and heavyball).
      interval: steps between refreshes of inverse roots or eigenbases.
      nesterov: look-ahead first moment, as in NAdam.
      ours: further options of our own optimizer; the others never see them.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    block_size: int = 1024
    interval: int = 10
    nesterov: bool = False
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Make = Callable[[Sequence[Tensor], RivalOptions], Optimizer]


@dataclasses.dataclass(frozen=True)
class Rival:
    """One optimizer that can be built here.

    Attributes:
      name: as on command lines.
      package_version: package and version, or where the code comes from.
      make: builds it; ValueError for an option that it does not have.
      refreshes_at: whether the step with a number, counted from 1, takes all roots or bases anew
        at an interval; ours with refresh="together".
    """

    name: str
    package_version: str
    make: Make
    refreshes_at: Callable[[int, int], bool]


def available() -> dict[str, Rival]:
    """The optimizers that can be built in this environment, by name."""
    return _survey()[0]


def absent() -> dict[str, str]:
    """Why the others cannot, by name."""
    return _survey()[1]


def _survey() -> tuple[dict[str, Rival], dict[str, str]]:
    found: dict[str, Rival] = {}
    missing: dict[str, str] = {}
    for module_name, version, adapters in _SOURCES:
        try:
            module = importlib.import_module(module_name)
            package = version(module)
        except Exception as error:  # A rival's import may fail in any way; that ends no run.
            reason = f"{type(error).__name__}: {error}"
            missing.update(dict.fromkeys(adapters, reason))
            continue
        for name, (make, refreshes_at) in adapters.items():
            found[name] = Rival(name, package, _bind(make, module), refreshes_at)
    return found, missing


def _bind(make: "_Adapter", module: ModuleType) -> Make:
    return lambda parameters, options: make(module, list(parameters), options)


_Adapter = Callable[[Any, list[Tensor], RivalOptions], Optimizer]
_Schedule = Callable[[int, int], bool]


def _shared(options: RivalOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("lr", "betas", "eps", "weight_decay")}


def _refuse_nesterov(options: RivalOptions, name: str) -> None:
    if options.nesterov:
        raise ValueError(f"{name} has no look-ahead first moment; nesterov must be False.")


# torch and ours.


def _adamw(_: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
    _refuse_nesterov(options, "AdamW")
    return torch.optim.AdamW(parameters, **_shared(options), fused=True)


def _nadamw(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
    """Looks ahead whatever `nesterov` says: that is what it is."""
    optimizer: Optimizer = module.NAdamW(parameters, **_shared(options))
    return optimizer


def _ours(method: str) -> _Adapter:
    def make(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
        optimizer: Optimizer = module.Shampoo(
            parameters,
            **_shared(options),
            method=method,
            block_size=options.block_size,
            refresh_interval=options.interval,
            nesterov=options.nesterov,
            **options.ours,
        )
        return optimizer

    return make


def _ours_refreshes(step: int, interval: int) -> bool:
    return bool(_is_due()(step, interval))


def _soap_of_ours_refreshes(step: int, interval: int) -> bool:
    # The first gradient finds the identity as its basis and leaves it.
    return step > 1 and _ours_refreshes(step, interval)


def _is_due() -> Callable[[int, int], bool]:
    due: Callable[[int, int], bool] = importlib.import_module("submission.plan.refresh").is_due
    return due


# Meta's distributed_shampoo.


def _meta(configure: Callable[[Any], Any], grafted: bool) -> _Adapter:
    """As the winning AlgoPerf entry has it: roots from `interval` on, Adam's step before."""

    def make(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
        grafting = None
        if grafted:
            grafting = module.AdamPreconditionerConfig(beta2=options.betas[1], epsilon=options.eps)
        optimizer: Optimizer = module.DistributedShampoo(
            parameters,
            lr=options.lr,
            betas=options.betas,
            # beta1*M + (1-beta1)*G is, from the M before this gradient, an average by beta1^2.
            beta3=options.betas[0] ** 2 if options.nesterov else -1.0,
            epsilon=options.eps,
            weight_decay=options.weight_decay,
            max_preconditioner_dim=options.block_size,
            precondition_frequency=options.interval,
            start_preconditioning_step=options.interval,
            grafting_config=grafting,
            preconditioner_config=configure(module),
        )
        return optimizer

    return make


def _meta_kl(module: Any) -> Any:
    # The default exponent, 1/4, is not the paper's: Lin et al. 2025, arXiv:2509.03378, has 1/2.
    return module.RootInvKLShampooPreconditionerConfig(inverse_exponent_override={2: 0.5})


def _every(step: int, interval: int) -> bool:
    return step % interval == 0


# pytorch-optimizer and heavyball.


def _po_soap(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
    _refuse_nesterov(options, "pytorch-optimizer's SOAP")
    optimizer: Optimizer = module.SOAP(
        parameters,
        **_shared(options),
        precondition_frequency=options.interval,
        max_precondition_dim=options.block_size,
    )
    return optimizer


def _po_soap_refreshes(step: int, interval: int) -> bool:
    # It counts from its second step on; the first one only initialises.
    return step == 1 or (step - 1) % interval == 0


def _po_dash(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
    """eigh on a CPU, where it is faster and more exact; else its default, Newton's iteration."""
    _refuse_nesterov(options, "pytorch-optimizer's DASH")
    optimizer: Optimizer = module.DASH(
        parameters,
        **_shared(options),
        block_size=options.block_size,
        precondition_frequency=options.interval,
        inverse_root_method="eigh" if parameters[0].device.type == "cpu" else "newton_db",
        matrix_eps=options.eps,
    )
    return optimizer


def _first_and_every(step: int, interval: int) -> bool:
    return step == 1 or step % interval == 0


def _hb_soap(module: Any, parameters: list[Tensor], options: RivalOptions) -> Optimizer:
    """Eager on a CPU: its default there is to compile for minutes before the first step."""
    _refuse_nesterov(options, "heavyball's SOAP")
    if parameters[0].device.type == "cpu":
        module.utils.compile_mode = None
    optimizer: Optimizer = module.SOAP(
        parameters,
        **_shared(options),
        shampoo_beta=options.betas[1],
        precondition_frequency=options.interval,
        max_precond_dim=options.block_size,
    )
    return optimizer


def _hb_soap_refreshes(step: int, interval: int) -> bool:
    # It adds up 1 / interval in floating point and refreshes where the integer part grows.
    total = 0.0
    for _ in range(step - 1):
        total += 1 / interval
    return step == 1 or int(total + 1 / interval) > int(total)


# Where they come from.


def _of_distribution(name: str) -> Callable[[ModuleType], str]:
    return lambda _: f"{name} {importlib.metadata.version(name)}"


def _of_this_checkout(_: ModuleType) -> str:
    return "this checkout"


def _of_meta(module: ModuleType) -> str:
    """The installed version, or the commit in a file COMMIT beside a checkout's package."""
    try:
        return f"torch-shampoo {importlib.metadata.version('torch-shampoo')}"
    except importlib.metadata.PackageNotFoundError:
        commit = Path(str(module.__file__)).parent.parent / "COMMIT"
        known = commit.read_text("utf-8").strip() if commit.exists() else "of unknown commit"
        return f"facebookresearch/optimizers {known}"


def _never(step: int, interval: int) -> bool:
    del step, interval
    return False


_SOURCES: tuple[
    tuple[str, Callable[[ModuleType], str], dict[str, tuple[_Adapter, _Schedule]]], ...
] = (
    ("torch", _of_distribution("torch"), {BASELINE: (_adamw, _never)}),
    ("submission.entries.nadamw.nadamw", _of_this_checkout, {"nadamw": (_nadamw, _never)}),
    (
        "submission.shampoo",
        _of_this_checkout,
        {
            "ours_shampoo": (_ours("shampoo"), _ours_refreshes),
            "ours_soap": (_ours("soap"), _soap_of_ours_refreshes),
            "ours_kl_shampoo": (_ours("kl_shampoo"), _soap_of_ours_refreshes),
        },
    ),
    (
        "distributed_shampoo",
        _of_meta,
        {
            REFERENCE: (_meta(lambda module: module.DefaultShampooConfig, True), _every),
            "meta_soap": (
                _meta(lambda module: module.DefaultEigenvalueCorrectedShampooConfig, False),
                _every,
            ),
            "meta_soap_qr": (_meta(lambda module: module.DefaultSOAPConfig, False), _every),
            "meta_kl_shampoo": (_meta(_meta_kl, True), _every),
        },
    ),
    (
        "pytorch_optimizer",
        _of_distribution("pytorch-optimizer"),
        {"po_soap": (_po_soap, _po_soap_refreshes), "po_dash": (_po_dash, _first_and_every)},
    ),
    ("heavyball", _of_distribution("heavyball"), {"hb_soap": (_hb_soap, _hb_soap_refreshes)}),
)
