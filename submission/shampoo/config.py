"""Every choice a user of Shampoo has, validated; plain values, so that checkpoints stay plain."""

import dataclasses
import math
import numbers
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

Method = Literal["shampoo", "soap", "kl_shampoo"]
Grafting = Literal["sgd", "adagrad", "rmsprop", "adam"]

METHODS = ("shampoo", "soap", "kl_shampoo")
GRAFTINGS = ("sgd", "adagrad", "rmsprop", "adam")
ROOT_SOLVERS = ("auto", "eigh", "coupled_newton", "newton_denman_beavers")
BASIS_SOLVERS = ("auto", "eigh", "qr", "cholesky_qr")
STATE_DTYPES = (torch.float32, torch.bfloat16)


def _check(condition: bool, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}.")


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    _check(value in allowed, name, value, "one of " + ", ".join(map(repr, allowed)))


def _is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def check_lr(lr: Any) -> None:
    """Raises ValueError for what can be no `ShampooConfig.lr`."""
    if isinstance(lr, Tensor):
        _check(lr.numel() == 1, "lr", tuple(lr.shape), "a number or a tensor of one element")
    else:
        _check(_is_finite(lr) and lr >= 0, "lr", lr, "a finite number >= 0")


@dataclasses.dataclass(frozen=True)
class BlockingConfig:
    """How parameters become blocks; fixed for a parameter group once it has taken a step.

    Attributes:
      block_size: longest edge of a block. Larger blocks see more of a layer's correlations, at
        block_size**3 for a root (Anil et al. 2020, arXiv:2002.09018, section 3).
      block_aspect: a long side is cut into parts of at most this many times the block's short side
        (but a cut is never forced below 128): roots and products cost the cube and the square of
        the longer edge, for correlations that the short side's gradients show only at low rank.
      max_dim: a parameter with a longer matricised dimension (an embedding table) is oversize.
      oversize: what happens to it: "diagonal" leaves all of it to the diagonal method, "one_sided"
        preconditions the side that is not over `max_dim`, if there is one.
      max_aspect: a block whose long side exceeds its short side by more than this factor is
        preconditioned on the short side alone: its long factor would be the average of matrices
        of much too low a rank, at the cost of the largest root.

    Raises:
      ValueError: if a value is out of range; the message names it.
    """

    block_size: int = 1024
    block_aspect: float = 1.0
    max_dim: int = 16384
    oversize: Literal["diagonal", "one_sided"] = "diagonal"
    max_aspect: float = 32.0

    def __post_init__(self) -> None:
        for name in ("block_size", "max_dim"):
            value = getattr(self, name)
            _check(_is_int(value) and value >= 2, name, value, "an integer >= 2")
        for name in ("block_aspect", "max_aspect"):
            value = getattr(self, name)
            _check(_is_number(value) and value >= 1, name, value, "a number >= 1")
        _check_choice("oversize", self.oversize, ("diagonal", "one_sided"))


@dataclasses.dataclass(frozen=True)
class StateConfig(BlockingConfig):
    """What state there is; fixed for a parameter group once it has taken a step.

    Attributes:
      method: "shampoo" multiplies by inverse roots of the factors (Gupta et al. 2018,
        arXiv:1802.09568); "soap" runs Adam in the factors' eigenbases (Vyas et al. 2024,
        arXiv:2409.11321); "kl_shampoo" estimates the factors by minimising a Kullback-Leibler
        divergence (Lin et al. 2025, arXiv:2509.03378).
      grafting: the diagonal method whose magnitude a direction takes (Agarwal et al. 2020,
        arXiv:2002.11803): "sgd", "adagrad", "rmsprop", "adam" or None. "auto" is "adam" for
        shampoo and None for the others, whose scale is right by itself. Parameters without blocks
        take this method's own step, Adam's where there is none.
      factor_dtype: of the Kronecker factors: float32, or bfloat16 (rounded stochastically, since
        most of an average's increments are below its half unit). float64 for float64 parameters.
      root_dtype: of inverse roots and eigenbases; products with them run in it.
      averaging: None, "ema" or "schedule_free" (Defazio et al. 2024, arXiv:2405.15682): what
        weights hold after `optimizer.eval()`.

    Raises:
      ValueError: if a value is out of range; the message names it.
    """

    method: Method = "shampoo"
    grafting: Grafting | Literal["auto"] | None = "auto"
    factor_dtype: torch.dtype = torch.float32
    root_dtype: torch.dtype = torch.float32
    averaging: Literal["ema", "schedule_free"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("method", self.method, METHODS)
        _check_choice("grafting", self.grafting, ("auto", *GRAFTINGS, None))
        _check_choice("factor_dtype", self.factor_dtype, STATE_DTYPES)
        _check_choice("root_dtype", self.root_dtype, STATE_DTYPES)
        _check_choice("averaging", self.averaging, (None, "ema", "schedule_free"))

    @property
    def graft(self) -> Grafting | None:
        """The grafting with "auto" resolved."""
        if self.grafting == "auto":
            return "adam" if self.method == "shampoo" else None
        return self.grafting

    @property
    def diagonal(self) -> Grafting:
        """The diagonal method of parameters without blocks."""
        return self.graft or "adam"


@dataclasses.dataclass(frozen=True)
class ShampooConfig(StateConfig):
    """All hyperparameters of one parameter group.

    Attributes:
      lr: learning rate, a float or a one-element tensor; read at every step.
      betas: EMA weights of the first moment, and of the factors and second moments. A first moment
        that begins in mid-training, betas[0] having been 0, begins at zero without a correction.
      eps: added to the root of a second moment.
      weight_decay: its strength; how it acts is `decay_mode`.
      decay_mode: "decoupled" shrinks weights by lr * weight_decay per step (Loshchilov & Hutter
        2019, arXiv:1711.05101); "l2" adds weight_decay * weight to the gradient; "independent"
        shrinks by weight_decay * lr / peak lr, so that the learning rate's scale does not matter
        (Wortsman et al. 2023, arXiv:2309.14322); the peak is the lr at construction, which
        schedulers scale, or OneCycleLR's max_lr.
      exponent: inverse power of each factor; None is 1/(2*sides) for shampoo, so 1/4 for a matrix
        with two factors (Gupta et al. 2018) and 1/2 for one preconditioned side, and 1/2 for
        kl_shampoo. Without meaning for soap.
      damping: added to a factor as a fraction of its largest eigenvalue.
      root_solver: how inverse roots are taken, see `roots.inverse_root`.
      basis_solver: how eigenbases are taken, see `eigenbasis.eigenbasis`.
      grafting_scope: norms are matched per "block" or per "layer", that is, parameter.
      nesterov: look-ahead of every moving average there is: of the first moment, as in NAdam, and
        of `momentum`.
      momentum: heavy-ball momentum of the final direction, after grafting.
      refresh_interval: steps between inverse roots or eigenbases. Within the first interval they
        are also taken at each power of two, since early factors change fastest.
      refresh: "staggered" spreads the refreshes over the interval by their cost, so that steps
        take equally long; "together" does them all in one step.
      refresh_tolerance: if > 0, a factor's turn is a check, and it is refreshed at the next step
        only if it has moved by more (Eschenhagen et al. 2025, arXiv:2506.03595).
      overlap: refresh beside training, on a CUDA side stream or a CPU thread; the result is used
        from the next step on.
      factor_interval: factors average every so many gradients.
      averaging_decay: EMA weight of iterates.
      averaging_beta: schedule-free interpolation between the average and the fast iterate.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> ShampooConfig(method="soap").graft is None
    True
    """

    lr: float | Tensor = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_mode: Literal["decoupled", "l2", "independent"] = "decoupled"
    exponent: float | None = None
    damping: float = 1e-6
    root_solver: Literal["auto", "eigh", "coupled_newton", "newton_denman_beavers"] = "auto"
    basis_solver: Literal["auto", "eigh", "qr", "cholesky_qr"] = "auto"
    grafting_scope: Literal["block", "layer"] = "block"
    nesterov: bool = False
    momentum: float = 0.0
    refresh_interval: int = 10
    refresh: Literal["staggered", "together"] = "staggered"
    refresh_tolerance: float = 0.0
    overlap: bool = False
    factor_interval: int = 1
    averaging_decay: float = 0.999
    averaging_beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lr(self.lr)
        _check(len(self.betas) == 2, "betas", self.betas, "two numbers in [0, 1)")
        for beta in self.betas:
            _check(_is_finite(beta) and 0 <= beta < 1, "betas", self.betas, "two numbers in [0, 1)")
        _check(_is_finite(self.eps) and self.eps > 0, "eps", self.eps, "a finite number > 0")
        for name in ("weight_decay", "refresh_tolerance"):
            value = getattr(self, name)
            _check(_is_finite(value) and value >= 0, name, value, "a finite number >= 0")
        for name in ("momentum", "averaging_decay"):
            value = getattr(self, name)
            _check(_is_finite(value) and 0 <= value < 1, name, value, "a number in [0, 1)")
        for name in ("damping", "averaging_beta"):
            value = getattr(self, name)
            _check(_is_finite(value) and 0 < value < 1, name, value, "a number in (0, 1)")
        for name in ("refresh_interval", "factor_interval"):
            value = getattr(self, name)
            _check(_is_int(value) and value >= 1, name, value, "an integer >= 1")
        for name in ("nesterov", "overlap"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "a boolean")
        _check_choice("decay_mode", self.decay_mode, ("decoupled", "l2", "independent"))
        _check_choice("grafting_scope", self.grafting_scope, ("block", "layer"))
        _check_choice("refresh", self.refresh, ("staggered", "together"))
        _check_choice("root_solver", self.root_solver, ROOT_SOLVERS)
        _check_choice("basis_solver", self.basis_solver, BASIS_SOLVERS)
        self._check_exponent()

    def _check_exponent(self) -> None:
        exponent = self.exponent
        if exponent is None:
            return
        _check(
            _is_finite(exponent) and 0 < exponent <= 1,
            "exponent",
            exponent,
            "None or a number in (0, 1]",
        )
        _check(self.method != "soap", "exponent", exponent, "None for method 'soap'")
        if self.method != "shampoo":
            return
        power = round(1 / exponent)
        if self.root_solver == "newton_denman_beavers":
            _check(exponent in (0.25, 0.5), "exponent", exponent, "1/4 or 1/2 for this root_solver")
        elif self.root_solver == "coupled_newton" or self.refresh_tolerance > 0:
            what = "root_solver" if self.root_solver == "coupled_newton" else "refresh_tolerance"
            _check(
                math.isclose(exponent * power, 1),
                "exponent",
                exponent,
                f"1 over an integer for this {what}",
            )


@dataclasses.dataclass(frozen=True)
class DistributedConfig:
    """How state and work are divided among the ranks of `torch.distributed`.

    Every block has one owner, which holds its state and computes its update (Rajbhandari et al.
    2020, arXiv:1910.02054); what an owner computes goes to the ranks that hold the weights.

    Attributes:
      group: the ranks that hold replicas of parameters that are no DTensors, as under
        `DistributedDataParallel`; None for all. DTensors bring their own mesh.
      communication_dtype: of gradients and updates on their way, float32 or bfloat16.
      communicate: owners of replicated parameters send "updates", or "parameters", which are
        smaller where those are bfloat16 and updates float32. Sharded parameters take updates.
      group_size: divides blocks among so many neighbouring ranks, each such group doing all the
        work: no traffic between nodes, at the price of more state. For sharded parameters with
        replicas, the number of shards. None divides them among all.
      buckets: in how many pieces updates are sent, each as soon as it is computed.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> DistributedConfig(communication_dtype=torch.bfloat16).communicate
    'updates'
    """

    group: "ProcessGroup | None" = None
    communication_dtype: torch.dtype = torch.float32
    communicate: Literal["updates", "parameters"] = "updates"
    group_size: int | None = None
    buckets: int = 4

    def __post_init__(self) -> None:
        _check_choice("communication_dtype", self.communication_dtype, STATE_DTYPES)
        _check_choice("communicate", self.communicate, ("updates", "parameters"))
        size = self.group_size
        _check(
            size is None or (_is_int(size) and size >= 1),
            "group_size",
            size,
            "None or an integer >= 1",
        )
        _check(
            _is_int(self.buckets) and self.buckets >= 1, "buckets", self.buckets, "an integer >= 1"
        )
