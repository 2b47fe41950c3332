"""Shampoo as optax has optimizers: `shampoo`, and its direction alone."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import optax

from ..plan.options import (
    Averaging,
    BasisSolver,
    DecayMode,
    Grafting,
    Method,
    Oversize,
    Refresh,
    RootSolver,
)
from . import transformation
from .options import Number, resolve

Split = Callable[[str, tuple[int, ...]], int]
Parts = tuple[int, ...] | Callable[[str, tuple[int, ...]], tuple[int, ...] | None] | None


def scale_by_shampoo(
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    *,
    method: Method = "shampoo",
    exponent: float | Literal["auto"] | None = "auto",
    damping: Number = 1e-4,
    refresh_interval: int = 10,
    refresh: Refresh = "staggered",
    grafting: Grafting | Literal["auto"] | None = "auto",
    nesterov: bool = False,
    momentum: float = 0.0,
    block_size: int = 1024,
    block_aspect: float = 1.0,
    table: bool | Literal["auto"] = "auto",
    max_dim: int = 16384,
    table_aspect: float = 8.0,
    oversize: Oversize = "diagonal",
    max_aspect: float = 32.0,
    matricize: Split | None = None,
    batch_dims: int | Split = 0,
    split: Parts = None,
    root_solver: RootSolver = "auto",
    basis_solver: BasisSolver = "auto",
    factor_dtype: Any = "float32",
    root_dtype: Any = "float32",
    lanes: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    axis: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Turns gradients into Shampoo's directions, for a learning rate of 1 and without decay.

    A gradient that is not finite gives an update of zeros and changes nothing of the state but its
    counters. Later transformations of a chain, such as decay and schedules, still take their step;
    `shampoo` has both inside, which do not.

    Args:
      b1, b2: EMA weights of the first moment, and of factors and second moments; the `betas` of
        `plan.options.ShampooOptions`, which documents all arguments that are not here.
      mesh, axis: state and work are divided among the devices along one or more axes of the mesh;
        None for its only axis. Updates are on every device, but those of long leaves without
        factors where their state is; with explicit axes all are where the parameters are.
        `jax.jit` init, so that the state is divided from the start instead of lying on one device
        first.
      lanes: first dimension of the state of stacks, see `ShampooState`, a multiple of the number
        of those devices; None for that number, or 1 without a mesh. State fits any number of
        devices that divides `lanes`.
      matricize: takes a leaf's path, as in "dense/kernel", and shape and returns how many
        dimensions behind the batch are rows; None for the most nearly square split.
      batch_dims: how many leading dimensions count matrices, as of layers that are scanned over;
        an integer for all leaves, or a function as for `matricize`.
      split: sizes of the parts of a fused matrix, of its rows or, where they do not add up to
        these, of its columns; for all matrices, or from a function as for `matricize`; None for
        one part.
      root_solver: "eigh"; "products", products of matrices alone, for exponents 1/p and a damping
        that is no array, and eigh where they fail; "auto", which is "products" on an accelerator,
        up to p = 8, and else "eigh".
      basis_solver: "eigh"; "qr" or "cholesky_qr", one power step; "auto", which is "cholesky_qr"
        on an accelerator and else "eigh".
      factor_dtype, root_dtype: dtypes or their names.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> params = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
    >>> transformation = optax.chain(scale_by_shampoo(), optax.scale_by_learning_rate(1e-3))
    >>> state = transformation.init(params)
    >>> updates, state = jax.jit(transformation.update)(params, state)
    >>> sorted(updates), state[0].count.item()
    (['bias', 'kernel'], 1)
    """
    return transformation.direction_only(resolve(locals()))


def shampoo(
    learning_rate: Number | optax.Schedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    mask: Any = None,
    *,
    method: Method = "shampoo",
    decay_mode: DecayMode = "decoupled",
    exponent: float | Literal["auto"] | None = "auto",
    damping: Number = 1e-4,
    refresh_interval: int = 10,
    refresh: Refresh = "staggered",
    grafting: Grafting | Literal["auto"] | None = "auto",
    nesterov: bool = False,
    momentum: float = 0.0,
    block_size: int = 1024,
    block_aspect: float = 1.0,
    table: bool | Literal["auto"] = "auto",
    max_dim: int = 16384,
    table_aspect: float = 8.0,
    oversize: Oversize = "diagonal",
    max_aspect: float = 32.0,
    matricize: Split | None = None,
    batch_dims: int | Split = 0,
    split: Parts = None,
    root_solver: RootSolver = "auto",
    basis_solver: BasisSolver = "auto",
    factor_dtype: Any = "float32",
    root_dtype: Any = "float32",
    maximize: bool = False,
    averaging: Averaging | None = None,
    averaging_share: Number = 0.1,
    averaging_decay: Number | None = None,
    averaging_beta: Number = 0.9,
    lanes: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    axis: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Shampoo with learning rate and decay, as `submission.shampoo.Shampoo` for PyTorch.

    With equal arguments and gradients the weights are those of the PyTorch version. Matrices are
    preconditioned block by block, and their steps have the length of AdamW's; vectors, scalars and
    tables take AdamW's step. A gradient that is not finite changes nothing but the counters
    `calls` and `skipped`.

    Args:
      learning_rate: a number, or a schedule that takes the number of finite gradients before.
      weight_decay: its strength, see `decay_mode`; 0 by default, where `optax.adamw` has 1e-4.
      mask: which leaves decay, as in `optax.adamw`.
      maximize: whether to ascend.
      averaging and its options: what average `evaluated` reads; of the weights as these updates
        make them, so that in a chain nothing may scale or mask updates behind this.
      b1, b2, method, matricize and the others: as for `scale_by_shampoo`.

    Raises:
      ValueError: if a value is out of range; the message names it.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> params = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
    >>> optimizer = shampoo(1e-3, weight_decay=0.01)
    >>> state = optimizer.init(params)
    >>> grads = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    >>> updates, state = jax.jit(optimizer.update)(grads, state, params)
    >>> abs(optax.apply_updates(params, updates)["bias"] + 1e-3).max().item() < 1e-8
    True
    """
    return transformation.complete(resolve(locals()), mask)
