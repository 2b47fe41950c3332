"""Shampoo, SOAP and KL-Shampoo written for reading: one block at a time, in float64.

The tests' oracle for the stack-based code; it shares none of it but the options.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .options import ShampooOptions
from .reference_blocks import LEFT, RIGHT, cut, due_refreshes

Matrix = NDArray[np.float64]


def inverse_root(matrix: Matrix, exponent: float, damping: float) -> Matrix:
    """A^(-exponent) of a symmetric matrix [d, d]; damping is relative to the largest eigenvalue."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[-1] <= 0:
        return np.eye(len(matrix))
    damped = np.maximum(values, 0) + damping * values[-1]
    root: Matrix = vectors @ np.diag(damped**-exponent) @ vectors.T
    return root


class Side:
    """One side, of dimension d, of a block; one without a factor stays the identity.

    Attributes:
      exists: whether the side is preconditioned.
      factor: L or R times the weight of the block, or an average in KL-Shampoo's S; [d, d].
      root: (factor / weight + damping)^(-exponent), zero before there is one; [d, d].
      basis: eigenvectors Q of the factor as of the last refresh; [d, d].
      values: KL-Shampoo's eigenvalues lam; [d].
    """

    def __init__(self, size: int, exists: bool) -> None:
        self.exists = exists
        self.factor = np.zeros((size, size))
        self.root = np.zeros((size, size)) if exists else np.eye(size)
        self.basis = np.eye(size)
        self.values = np.ones(size)

    def damped_values(self, damping: float) -> Matrix:
        """lam + damping * max(lam)."""
        return self.values + damping * self.values.max() if self.exists else self.values

    def inverse(self, damping: float) -> Matrix:
        """S^-1 as the basis and the eigenvalues have it."""
        diagonal = np.diag(1 / self.damped_values(damping))
        return self.basis @ diagonal @ self.basis.T if self.exists else self.basis

    def rotate_values(self, basis: Matrix, factor: Matrix, prior: float) -> None:
        """KL-Shampoo's lam in a new basis: the factor's, and what lam has beyond those in the old.

        The factor gives the shape alone, the prior having a weight in it; the mean of lam stays.
        """
        old, new = (np.diag(q.T @ factor @ q) for q in (self.basis, basis))
        old, new = ((1 - prior) * lam / lam.mean() + prior for lam in (old, new))
        mean, change = self.values.mean(), basis.T @ self.basis
        values = np.maximum(new + change**2 @ np.maximum(self.values / mean - old, 0), 0)
        self.values = values * (mean / values.mean())

    def average_values(self, product: Matrix, share: float) -> None:
        """lam <- (1 - share) lam + share diag(Q^T P Q)."""
        if self.exists:
            diagonal = np.diag(self.basis.T @ product @ self.basis)
            self.values = (1 - share) * self.values + share * diagonal


class Block:
    """One block [m, n] of a matricised parameter.

    Attributes:
      region: its rows and columns.
      sides: left and right.
      key: blocks with equal ones share a row of `due_refreshes`.
      first: first moment M, in the basis (the identity for Shampoo).
      second: SOAP's second moment V, in the basis.
      weight: w, the sum of the weights in the factors; KL-Shampoo: in lam.
    """

    def __init__(self, rows: slice, columns: slice, left: bool, right: bool) -> None:
        m, n = rows.stop - rows.start, columns.stop - columns.start
        self.region = (rows, columns)
        self.sides = (Side(m, left), Side(n, right))
        self.key = (m, n, left, right)
        self.first, self.second = np.zeros((m, n)), np.zeros((m, n))
        self.weight = 0.0

    def into_basis(self, matrix: Matrix) -> Matrix:
        """Q_L^T X Q_R."""
        left, right = self.sides
        return left.basis.T @ matrix @ right.basis

    def out_of_basis(self, matrix: Matrix) -> Matrix:
        """Q_L X Q_R^T."""
        left, right = self.sides
        return left.basis @ matrix @ right.basis.T

    def rotate(self, side: int, basis: Matrix) -> None:
        """A new basis, and with T = Q_new^T Q_old: M <- T M and V <- (T o T) V, or from the right.

        V is the diagonal of a covariance, which T o T rotates as if the rest of it were zero.
        """
        change = basis.T @ self.sides[side].basis
        self.sides[side].basis = basis
        if side == LEFT:
            self.first, self.second = change @ self.first, change**2 @ self.second
        else:
            self.first, self.second = self.first @ change.T, self.second @ (change**2).T

    def match_eigenvalues(self, side: int, values: Matrix, damping: float) -> None:
        """V's rows (columns) sum to q_i^T G G^T q_i, as the left (right) factor's eigenvalues."""
        damped = np.maximum(values, 0) + damping * values[0]
        sums = self.second.sum(axis=1 - side, keepdims=True)
        matched = damped.reshape(sums.shape) * sums.sum() / damped.sum()
        self.second = self.second * np.where(sums > 0, matched / np.where(sums > 0, sums, 1), 1)


class ReferenceShampoo:
    """One parameter under Shampoo, SOAP or KL-Shampoo.

    (Gupta et al. 2018, arXiv:1802.09568; Vyas et al. 2024, arXiv:2409.11321; Lin et al. 2025,
    arXiv:2509.03378; grafting: Agarwal et al. 2020, arXiv:2002.11803.)

    Attributes:
      weight: the parameter as in training, any shape, float64.
      config: the options; may be replaced between steps.
      steps: t, gradients averaged so far.
      has_begun: whether there was a gradient, finite or not.
      blocks: see `cut`.
      average: EMA of the weights, or schedule-free's z.
    """

    def __init__(self, weight: NDArray[Any], config: ShampooOptions) -> None:
        self.weight = np.array(weight, dtype=np.float64)
        self.config = config
        self.steps, self.has_begun = 0, False
        self.blocks = [Block(*area) for area in cut(self.weight.shape, config)]
        self.is_diagonal = not any(side.exists for block in self.blocks for side in block.sides)
        rows, columns = self.blocks[-1].region
        self.matrix_shape = (rows.stop, columns.stop)
        self.v, self.buffer = np.zeros(self.matrix_shape), np.zeros(self.matrix_shape)
        self.average, self.weight_sum = self.weight, 0.0
        self.pending: list[tuple[Block, int, Matrix, float]] = []

    def step(self, grad: NDArray[Any], due: Collection[tuple[int, int]], peak_lr: float) -> None:
        """One step with gradient `grad`, the weight's shape; a non-finite one changes nothing.

        Args:
          grad: any float dtype.
          due: (block, side) pairs to be refreshed; `due_refreshes` gives them.
          peak_lr: the learning rate at which independent weight decay is not scaled.
        """
        is_first, self.has_begun = not self.has_begun, True
        if not np.isfinite(grad).all():
            return
        self.steps += 1
        decay = self.config.weight_decay if self.config.decay_mode == "l2" else 0.0
        matrix = (grad + decay * self.weight).reshape(self.matrix_shape)
        average, direction = np.empty(self.matrix_shape), np.empty(self.matrix_shape)
        for index, block in enumerate(self.blocks):
            self._average_factors(block, matrix[block.region])
            if self.config.method == "shampoo" and is_first:
                self._refresh(block, (LEFT, RIGHT), at_once=True)
            elif self.config.method == "shampoo" or self.steps > 1:
                sides = [side for side in (LEFT, RIGHT) if (index, side) in due]
                self._refresh(block, sides, at_once=not self.config.overlap)
            region = block.region
            average[region], direction[region] = self._precondition(block, matrix[region])
        update = self._graft(direction, self._magnitude(average, matrix))
        self._apply(self._momentum(update).reshape(self.weight.shape), peak_lr)

    def _average_factors(self, block: Block, grad: Matrix) -> None:
        """A <- b A + (1-b) P, P being G G^T and G^T G, or KL-Shampoo's."""
        is_kl = self.config.method == "kl_shampoo"
        products = self._kl_products(block, grad) if is_kl else (grad @ grad.T, grad.T @ grad)
        b = self.config.betas[1]
        if not is_kl:
            block.weight = b * block.weight + (1 - b)
        for side, product in zip(block.sides, products, strict=True):
            side.factor = b * side.factor + (1 - b) * product

    def _kl_products(self, block: Block, grad: Matrix) -> tuple[Matrix, Matrix]:
        """G S_R^-1 G^T / n, and G^T S_L^-1 G / m with the new S_L; lam <- EMA of their diagonals.

        A prior counts as one gradient, and none counts before the first that is not zero. Both
        sides are kept at the same mean of lam.
        """
        left, right = block.sides
        one_sided = not (left.exists and right.exists)
        b, scale = self.config.betas[1], float(np.mean(grad**2))
        if block.weight == 0 and scale > 0:
            block.weight = 1 - b
            for side in block.sides:
                side.values[:] = (scale if one_sided else scale**0.5) if side.exists else 1.0
        if block.weight > 0:
            block.weight = b * block.weight + (1 - b)
        share = (1 - b) / block.weight if block.weight > 0 else 0.0
        of_left = grad @ right.inverse(self.config.damping) @ grad.T / grad.shape[1]
        left.average_values(of_left, share)
        of_right = grad.T @ left.inverse(self.config.damping) @ grad / grad.shape[0]
        right.average_values(of_right, share)
        shift = 1.0 if one_sided else np.sqrt(left.values.mean() / right.values.mean())
        left.values, right.values = left.values / shift, right.values * shift
        return of_left / shift, of_right * shift

    def _exponent(self, block: Block) -> float:
        if self.config.inverse_power is not None:
            return self.config.inverse_power
        if self.config.method == "kl_shampoo":
            return 1 / 2
        return 1 / (2 * sum(side.exists for side in block.sides))

    def _refresh(self, block: Block, sides: Collection[int], at_once: bool) -> None:
        """New roots or eigenbases, used from now on or, overlapped, from the next step on."""
        for side in sides:
            if block.sides[side].exists and block.weight > 0:
                factor = block.sides[side].factor / block.weight
                self.pending.append((block, side, factor, block.weight))
        if at_once:
            self.install()

    def install(self) -> None:
        """Ends pending refreshes; a factor of zeros has no basis, nor has SOAP's first gradient."""
        method, beta2 = self.config.method, self.config.betas[1]
        for block, side, factor, weight in self.pending:
            state = block.sides[side]
            if method == "shampoo":
                state.root = inverse_root(factor, self._exponent(block), self.config.damping)
            elif factor.any() and (method == "kl_shampoo" or block.second.any()):
                values, vectors = np.linalg.eigh((factor + factor.T) / 2)
                basis = vectors[:, ::-1]
                if method == "kl_shampoo":
                    prior = (1 - beta2) * (1 - weight) / (beta2 * weight)
                    state.rotate_values(basis, factor, prior)
                block.rotate(side, basis)
                if method == "soap":
                    block.match_eigenvalues(side, values[::-1], self.config.damping)
        self.pending = []

    def _precondition(self, block: Block, grad: Matrix) -> tuple[Matrix, Matrix]:
        """The bias-corrected first moment M_hat in the parameter's coordinates, and S."""
        beta1, beta2 = self.config.betas
        left, right = block.sides
        rotated = block.into_basis(grad)
        block.first = beta1 * block.first + (1 - beta1) * rotated
        block.second = beta2 * block.second + (1 - beta2) * rotated**2
        average = block.first
        if self.config.nesterov:
            average = beta1 * block.first + (1 - beta1) * rotated
        average = average / (1 - beta1**self.steps)
        if self.is_diagonal:
            return average, average
        if self.config.method == "shampoo":
            return average, left.root @ average @ right.root
        if self.config.method == "soap":
            scale = 1 / (np.sqrt(block.second / (1 - beta2**self.steps)) + self.config.eps)
        else:
            values = (side.damped_values(self.config.damping) for side in block.sides)
            scale = np.multiply.outer(*values) ** -self._exponent(block)
        return block.out_of_basis(average), block.out_of_basis(scale * average)

    def _magnitude(self, average: Matrix, grad: Matrix) -> Matrix:
        """D, the diagonal method's direction."""
        beta2, eps = self.config.betas[1], self.config.eps
        method = self.config.diagonal
        if method == "sgd":
            return average
        if method == "adagrad":
            self.v = self.v + grad**2
        else:
            self.v = beta2 * self.v + (1 - beta2) * grad**2
        correction = 1 - beta2**self.steps if method == "adam" else 1.0
        return average / (np.sqrt(self.v / correction) + eps)

    def _graft(self, direction: Matrix, magnitude: Matrix) -> Matrix:
        """P = S ||D|| / ||S||, block by block; D where ||S|| is of no use."""
        if self.is_diagonal:
            return magnitude
        if self.config.graft is None:
            return np.where(np.isfinite(direction), direction, 0.0)
        update = magnitude.copy()
        for region in (block.region for block in self.blocks):
            norm = np.linalg.norm(direction[region])
            if norm > 0 and np.isfinite(norm):
                update[region] = direction[region] * (np.linalg.norm(magnitude[region]) / norm)
        return update

    def _momentum(self, update: Matrix) -> Matrix:
        """B <- momentum B + P; B, or with Nesterov's look-ahead P + momentum B."""
        momentum = self.config.momentum
        if momentum == 0:
            return update
        self.buffer = momentum * self.buffer + update
        return update + momentum * self.buffer if self.config.nesterov else self.buffer

    def _apply(self, update: Matrix, peak_lr: float) -> None:
        """W <- W - lr u with weight decay in u, and the averages that evaluation reads."""
        config = self.config
        lr, old = float(config.lr), self.weight
        shrink = {"decoupled": lr, "independent": lr / (peak_lr or 1.0), "l2": 0.0}
        displacement = -lr * update - shrink[config.decay_mode] * config.weight_decay * old
        self.weight = old + displacement
        if config.averaging == "ema":
            d = self._averaging_decay()
            self.average = d * self.average + (1 - d) * self.weight
        elif config.averaging == "schedule_free":
            self.weight_sum += lr**2
            c = lr**2 / self.weight_sum if self.weight_sum > 0 else 0.0
            gain = 1 - config.averaging_beta * (1 - c)
            self.weight = (1 - c) * old + c * self.average + gain * displacement
            self.average = self.average + displacement

    def _averaging_decay(self) -> float:
        """The k-th step's part of the old average, for a mean age of k share (arXiv:2312.02696)."""
        if self.config.averaging_decay is None:
            return (1 - 1 / self.steps) ** (1 / self.config.averaging_share - 1)
        return self.config.averaging_decay

    def evaluated(self) -> Matrix:
        """The weight that evaluation reads: the EMA, schedule-free's x, or the weight itself.

        (Defazio et al. 2024, arXiv:2405.15682: x from y = (1 - beta) z + beta x.)
        """
        if self.config.averaging == "ema":
            return self.average
        if self.config.averaging == "schedule_free":
            beta = self.config.averaging_beta
            return (self.weight - (1 - beta) * self.average) / beta
        return self.weight


class ReferenceGroup:
    """One parameter group: several parameters that count steps, and are refreshed, together.

    Args:
      weights: the parameters, any shapes; copied to float64.
      config: their options, with the peak learning rate; may be replaced between steps.
    """

    def __init__(self, weights: Sequence[NDArray[Any]], config: ShampooOptions) -> None:
        self.parameters = [ReferenceShampoo(weight, config) for weight in weights]
        self.config = config
        self.calls, self.peak_lr = 0, float(config.lr)

    def step(self, grads: Sequence[NDArray[Any] | None]) -> None:
        """One step; parameters without a gradient rest, a non-finite gradient makes all rest."""
        if all(grad is None for grad in grads):
            return
        self.calls += 1
        for parameter in self.parameters:
            parameter.config = self.config
            parameter.install()
        finite = all(np.isfinite(grad).all() for grad in grads if grad is not None)
        # Parameters without a gradient as yet have their place in the schedule, too.
        keys = [[block.key for block in parameter.blocks] for parameter in self.parameters]
        due = due_refreshes(keys, self.config, self.calls)
        for parameter, grad, pairs in zip(self.parameters, grads, due, strict=True):
            if grad is not None:
                usable = grad if finite else np.full_like(grad, np.nan)
                parameter.step(usable, pairs, self.peak_lr)
