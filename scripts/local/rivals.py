"""Other people's optimizers and ours behind one constructor, for benchmarks and comparisons.

What is not installed is left out and listed with its reason. Where a rival offers a choice, it gets
what the others have (block size, interval, EMA weights, epsilon, decoupled decay, Adam's magnitude
where the method needs grafting); everything else stays at its package's default.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

BASELINE = "adamw"
REFERENCE = "meta_shampoo"
MUON = "muon"


@dataclasses.dataclass(frozen=True)
class RivalOptions:
    """What all optimizers are given alike.

    Attributes:
      lr, betas, eps, weight_decay: as in `torch.optim.AdamW`; betas[1] also averages factors.
      block_size: longest edge of a block, or of a dimension that is preconditioned at all where the
        rival does not cut (the SOAPs of pytorch-optimizer and heavyball).
      interval: steps between refreshes of inverse roots or eigenbases.
      nesterov: look-ahead first moment, as in NAdam.
      exponent: of each inverse root of a matrix's two; None is the optimizer's own.
      shampoo_options: further ones of `submission.shampoo`, which other rivals never see.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    block_size: int = 1024
    interval: int = 10
    nesterov: bool = False
    exponent: float | None = None
    shampoo_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def of_shampoo(self) -> dict[str, Any]:
        """`shampoo_options`, and the exponent where it is given."""
        exponent = {} if self.exponent is None else {"exponent": self.exponent}
        return {**exponent, **self.shampoo_options}


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


@dataclasses.dataclass(frozen=True)
class _Adapter:
    """How one optimizer is built.

    Attributes:
      module, class_name: where its class is.
      arguments: what it is given besides the parameters, of the module, the options and the device.
      refreshes_at: as of `Rival`.
      looks_ahead: whether it knows a look-ahead first moment.
      has_exponent: whether the exponent of its roots can be chosen.
    """

    module: str
    class_name: str
    arguments: Callable[[Any, RivalOptions, torch.device], Mapping[str, Any]]
    refreshes_at: Callable[[int, int], bool]
    looks_ahead: bool = True
    has_exponent: bool = False

    def make(self, parameters: Sequence[Tensor], options: RivalOptions) -> Optimizer:
        """Builds the optimizer; ValueError for a look-ahead or an exponent that it lacks."""
        where = f"{self.class_name} of {self.module}"
        if options.exponent is not None and not self.has_exponent:
            raise ValueError(f"{where} has no choice of exponent; exponent must be None")
        if options.nesterov and not self.looks_ahead:
            raise ValueError(f"{where} has no look-ahead first moment; nesterov must be False")
        module, weights = importlib.import_module(self.module), list(parameters)
        arguments = self.arguments(module, options, weights[0].device)
        optimizer: Optimizer = getattr(module, self.class_name)(weights, **arguments)
        return optimizer

    def version(self) -> str:
        """The package and its version, or the commit in a file COMMIT beside Meta's package."""
        package, module = self.module.partition(".")[0], importlib.import_module(self.module)
        if package == "submission":
            return "this checkout"
        name = _DISTRIBUTIONS.get(package, package)
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            if package != "distributed_shampoo":
                raise
        commit = Path(str(module.__file__)).parent.parent / "COMMIT"
        known = commit.read_text("utf-8").strip() if commit.exists() else "of unknown commit"
        return f"facebookresearch/optimizers {known}"


_DISTRIBUTIONS = {
    "distributed_shampoo": "torch-shampoo",
    "pytorch_optimizer": "pytorch-optimizer",
    "scripts": "torch",  # our wrapper of its Muon
}


def available() -> dict[str, Rival]:
    """The optimizers that can be built in this environment, by name."""
    return _survey()[0]


def absent() -> dict[str, str]:
    """Why the others cannot, by name."""
    return _survey()[1]


def _survey() -> tuple[dict[str, Rival], dict[str, str]]:
    installed: dict[str, Rival] = {}
    missing: dict[str, str] = {}
    for name, adapter in _ADAPTERS.items():
        try:
            version = adapter.version()
        except Exception as error:  # A rival's import may fail in any way; that ends no run.
            missing[name] = f"{type(error).__name__}: {error}"
            continue
        installed[name] = Rival(name, version, adapter.make, adapter.refreshes_at)
    return installed, missing


def _shared(options: RivalOptions, **more: Any) -> dict[str, Any]:
    names = ("lr", "betas", "eps", "weight_decay")
    return {name: getattr(options, name) for name in names} | more


def _adamw(module: Any, options: RivalOptions, device: torch.device) -> dict[str, Any]:
    return _shared(options, fused=True)


def _alike(module: Any, options: RivalOptions, device: torch.device) -> dict[str, Any]:
    """For NAdamW, which looks ahead whatever `nesterov` says, and for Muon."""
    return _shared(options)


def _shampoo(
    method: str, module: Any, options: RivalOptions, device: torch.device
) -> dict[str, Any]:
    return _shared(
        options,
        method=method,
        block_size=options.block_size,
        refresh_interval=options.interval,
        nesterov=options.nesterov,
        **options.of_shampoo,
    )


def _meta(
    config: str, grafted: bool, module: Any, options: RivalOptions, device: torch.device
) -> dict[str, Any]:
    """As the winning AlgoPerf entry has it: roots from `interval` on, Adam's step before."""
    beta1, beta2 = options.betas
    configuration = getattr(module, config)
    if config == "RootInvKLShampooPreconditionerConfig":
        # The default exponent, 1/4, is not the paper's: Lin et al. 2025, arXiv:2509.03378, has 1/2.
        configuration = configuration(inverse_exponent_override={2: 0.5})
    if options.exponent is not None:
        configuration = dataclasses.replace(
            configuration, inverse_exponent_override={2: options.exponent}
        )
    grafting = None
    if grafted:
        grafting = module.AdamPreconditionerConfig(beta2=beta2, epsilon=options.eps)
    return {
        "lr": options.lr,
        "betas": options.betas,
        # beta1*M + (1-beta1)*G is, from the M before this gradient, an average by beta1^2.
        "beta3": beta1**2 if options.nesterov else -1.0,
        # Its README has 1e-12, with which roots at the exponent 1/2 reach fewer targets.
        "epsilon": options.eps if grafted else 1e-12,
        "weight_decay": options.weight_decay,
        "max_preconditioner_dim": options.block_size,
        "precondition_frequency": options.interval,
        "start_preconditioning_step": options.interval,
        "grafting_config": grafting,
        "preconditioner_config": configuration,
    }


def _po_soap(module: Any, options: RivalOptions, device: torch.device) -> dict[str, Any]:
    interval, size = options.interval, options.block_size
    return _shared(options, precondition_frequency=interval, max_precondition_dim=size)


def _po_dash(module: Any, options: RivalOptions, device: torch.device) -> dict[str, Any]:
    """eigh on a CPU, where it is faster and more exact; else its default, Newton's iteration."""
    return _shared(
        options,
        block_size=options.block_size,
        precondition_frequency=options.interval,
        inverse_root_method="eigh" if device.type == "cpu" else "newton_db",
        matrix_eps=options.eps,
    )


def _hb_soap(module: Any, options: RivalOptions, device: torch.device) -> dict[str, Any]:
    """Eager on a CPU: its default there is to compile for minutes before the first step."""
    if device.type == "cpu":
        module.utils.compile_mode = None
    return _shared(
        options,
        shampoo_beta=options.betas[1],
        precondition_frequency=options.interval,
        max_precond_dim=options.block_size,
    )


def _never(step: int, interval: int) -> bool:
    return False


def _every(step: int, interval: int) -> bool:
    return step % interval == 0


def _first_and_every(step: int, interval: int) -> bool:
    return step == 1 or step % interval == 0


def _shampoo_refreshes(step: int, interval: int) -> bool:
    return bool(importlib.import_module("submission.plan.refresh").is_due(step, interval))


def _soap_refreshes(step: int, interval: int) -> bool:
    # The first gradient finds the identity as its basis and leaves it.
    return step > 1 and _shampoo_refreshes(step, interval)


def _po_soap_refreshes(step: int, interval: int) -> bool:
    # It counts from its second step on; the first one only initialises.
    return step == 1 or (step - 1) % interval == 0


def hb_soap_refreshes(step: int, interval: int) -> bool:
    """It adds up 1 / interval in floating point and refreshes where the integer part grows."""
    total = 0.0
    for _ in range(step - 1):
        total += 1 / interval
    return step == 1 or int(total + 1 / interval) > int(total)


def _of_shampoo(method: str, refreshes_at: Callable[[int, int], bool]) -> _Adapter:
    arguments = functools.partial(_shampoo, method)
    return _Adapter("submission.shampoo", "Shampoo", arguments, refreshes_at, has_exponent=True)


def _of_meta(config: str, grafted: bool) -> _Adapter:
    arguments = functools.partial(_meta, config, grafted)
    has_exponent = config == "DefaultShampooConfig"
    return _Adapter(
        "distributed_shampoo", "DistributedShampoo", arguments, _every, has_exponent=has_exponent
    )


_ADAPTERS = {
    BASELINE: _Adapter("torch.optim", "AdamW", _adamw, _never, looks_ahead=False),
    "nadamw": _Adapter("submission.entries.nadamw.nadamw", "NAdamW", _alike, _never),
    MUON: _Adapter("scripts.local.muon", "muon", _alike, _never, looks_ahead=False),
    "ours_shampoo": _of_shampoo("shampoo", _shampoo_refreshes),
    "ours_soap": _of_shampoo("soap", _soap_refreshes),
    "ours_kl_shampoo": _of_shampoo("kl_shampoo", _soap_refreshes),
    REFERENCE: _of_meta("DefaultShampooConfig", grafted=True),
    "meta_soap": _of_meta("DefaultEigenvalueCorrectedShampooConfig", grafted=False),
    "meta_soap_qr": _of_meta("DefaultSOAPConfig", grafted=False),
    "meta_kl_shampoo": _of_meta("RootInvKLShampooPreconditionerConfig", grafted=True),
    "po_soap": _Adapter("pytorch_optimizer", "SOAP", _po_soap, _po_soap_refreshes, False),
    "po_dash": _Adapter("pytorch_optimizer", "DASH", _po_dash, _first_and_every, False),
    "hb_soap": _Adapter("heavyball", "SOAP", _hb_soap, hb_soap_refreshes, False),
}
