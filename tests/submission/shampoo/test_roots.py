"""Inverse roots against the reference, and on the inputs that break solvers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.benchmark.tensor_float32 import TensorFloat32
from submission.plan import reference
from submission.plan.solvers import resolve_root_solver
from submission.shampoo import roots
from tests.submission.shampoo.operators import Operators

EIGH, PRODUCTS = "eigh", "products"
SOLVERS = (EIGH, PRODUCTS)
PRODUCT_EXPONENTS = (1.0, 0.5, 1 / 3, 0.25, 1 / 6)
SOLVERS_AND_EXPONENTS = [
    *((EIGH, exponent) for exponent in (1.0, 0.5, 0.3, 0.25)),
    *((PRODUCTS, exponent) for exponent in PRODUCT_EXPONENTS),
]
# What makes the host wait for a CUDA device.
SYNCHRONISING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"}


def covariance(size, rank, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    return (factor @ factor.T / rank).to(dtype)


def with_eigenvalues(values, seed, dtype=torch.float64):
    values = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(random)[0]
    return ((vectors * values) @ vectors.T).to(dtype)


def log_uniform(size, condition, seed, dtype=torch.float64):
    return with_eigenvalues(np.logspace(0, -np.log10(condition), size), seed, dtype)


def expected(matrices, exponent, damping):
    stack = [reference.inverse_root(m.double().numpy(), exponent, damping) for m in matrices]
    return torch.from_numpy(np.stack(stack))


def alone(matrices, exponent, damping, solver):
    """`inverse_root` without another solver that repeats what this one failed at."""
    if solver == EIGH:
        return roots.inverse_root(matrices, exponent, damping, EIGH)
    return roots.by_products(matrices, exponent, damping)


def errors(result, exact):
    """Relative, in the Frobenius norm."""
    difference = torch.linalg.matrix_norm(result.roots.double() - exact)
    return difference / torch.linalg.matrix_norm(exact)


@settings(max_examples=60)
@given(
    st.sampled_from(SOLVERS_AND_EXPONENTS),
    st.integers(1, 24),
    st.integers(1, 30),
    st.sampled_from([1e-3, 1e-2]),
    st.integers(0, 10**6),
)
def test_agrees_with_the_reference(solver_and_exponent, size, rank, damping, seed):
    solver, exponent = solver_and_exponent
    matrices = torch.stack([covariance(size, rank, seed + i) for i in range(3)])
    exact = expected(matrices, exponent, damping).numpy()
    double = alone(matrices, exponent, damping, solver)
    assert double.trusted.all()
    tolerance = 1e-10 if solver == EIGH else 1e-8
    limit = tolerance * np.abs(exact).max()
    np.testing.assert_allclose(double.roots.numpy(), exact, rtol=0, atol=limit)
    single = alone(matrices.float(), exponent, damping, solver)
    assert single.trusted.all()
    assert single.roots.dtype == single.residual.dtype == torch.float32
    np.testing.assert_allclose(single.roots.numpy(), exact, rtol=0, atol=5e-3 * np.abs(exact).max())


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e8])
@pytest.mark.parametrize(("solver", "exponent"), SOLVERS_AND_EXPONENTS)
def test_stays_within_its_error_at_high_condition_numbers(solver, exponent, condition):
    matrices = torch.stack([log_uniform(64, condition, seed, torch.float32) for seed in range(2)])
    exact = expected(matrices, exponent, 1e-6)
    single = alone(matrices, exponent, 1e-6, solver)
    assert single.trusted.all()
    # 1/exponent: the error of an eigenvalue shows in the root by its power.
    limit = {EIGH: 4e-7, PRODUCTS: 3e-8}[solver] * exponent
    assert (errors(single, exact) < 1e-6 + limit * min(condition, 1e6)).all()
    double = alone(matrices.double(), exponent, 1e-6, solver)
    assert (errors(double, exact) < 1e-9).all()


def test_without_damping_is_the_inverse_root():
    matrix = covariance(6, 20, 0)[None]
    root = roots.by_products(matrix, 0.25, 0.0).roots
    identity = root @ root @ root @ root @ matrix
    assert torch.allclose(identity, torch.eye(6, dtype=torch.float64), atol=1e-8)


HARD = {
    "identity": torch.eye(8),
    "rank one": torch.ones(8, 8),
    "low rank": covariance(8, 3, 1, torch.float32),
    "tiny": covariance(8, 3, 1, torch.float32) * 1e-30,
    "denormal": covariance(8, 3, 1, torch.float32) * 1e-42,
    "large": covariance(8, 3, 1, torch.float32) * 1e8,
    "huge": covariance(8, 3, 1, torch.float32) * 1e37,
    "repeated": with_eigenvalues([1, 1, 1, 1, 1e-3, 1e-3, 1e-3, 0], 2, torch.float32),
    "non-PSD": covariance(8, 3, 1, torch.float32) - 1e-7 * torch.eye(8),
    "diagonal": torch.diag(torch.tensor([1.0, 1, 1, 1, 1e-6, 0, 0, 0])),
    "sparse diagonal": torch.diag(torch.cat([torch.tensor([3.0, 1, 1e-2, 1e-3]), torch.zeros(60)])),
    "1x1": torch.tensor([[3.0]]),
    "crowded": with_eigenvalues(np.linspace(0.99, 1, 32), 3, torch.float32),
    "not symmetric": covariance(8, 9, 4, torch.float32) + 1e-7 * torch.ones(8, 8).triu(),
}


@pytest.mark.parametrize("exponent", [0.25, 0.5])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("matrix", HARD.values(), ids=HARD)
def test_hard_inputs_give_trusted_roots(matrix, solver, exponent):
    # Rounding to multiples of 1e-45 makes small eigenvalues more negative than the damping.
    solve = roots.inverse_root if matrix is HARD["denormal"] else alone
    result = solve(matrix[None], exponent, 1e-6, solver)
    assert result.trusted.all()
    assert result.roots.isfinite().all()
    assert (errors(result, expected(matrix[None], exponent, 1e-6)) < 0.06).all()


@pytest.mark.parametrize(("solver", "exponent"), SOLVERS_AND_EXPONENTS)
def test_a_zero_matrix_counts_as_the_identity(solver, exponent):
    result = alone(torch.zeros(2, 5, 5), exponent, 1e-6, solver)
    assert result.trusted.all()
    assert torch.equal(result.roots, torch.eye(5).repeat(2, 1, 1))
    assert result.condition.tolist() == [1, 1]
    assert result.residual.tolist() == [0, 0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_scale_never_matters(solver):
    matrix = covariance(6, 4, 3)[None]
    root = roots.inverse_root(matrix, 0.25, 1e-4, solver).roots
    scaled = roots.inverse_root(matrix * 1e8, 0.25, 1e-4, solver).roots
    assert torch.allclose(scaled * 1e2, root, rtol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_roots_are_symmetric_to_the_last_bit_and_the_matrices_as_they_were(solver):
    matrices = torch.stack([covariance(17, 5, seed, torch.float32) for seed in range(3)])
    before = matrices.clone()
    root = roots.inverse_root(matrices, 0.25, 1e-6, solver).roots
    assert torch.equal(root, root.mT)
    assert torch.equal(matrices, before)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_condition_number_is_that_of_the_damped_matrix(solver):
    matrices = torch.stack([log_uniform(40, 1e3, 0), torch.eye(40, dtype=torch.float64)])
    condition = roots.inverse_root(matrices, 0.25, 1e-2, solver).condition
    exact = torch.tensor([(1 + 1e-2) / (1e-3 + 1e-2), 1.0]).double()
    lower = 1 if solver == EIGH else 0.8
    assert (condition > lower * exact - 1e-3).all()
    assert (condition < exact + 1e-3).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_matrix_that_is_not_finite_is_not_trusted_and_spoils_no_neighbour(solver, value):
    good = covariance(4, 8, 0)
    bad = good.clone()
    bad[1, 2] = bad[2, 1] = value
    result = roots.inverse_root(torch.stack([good, bad, good]), 0.25, 1e-6, solver)
    assert result.trusted.tolist() == [True, False, True]
    alone = roots.inverse_root(good[None], 0.25, 1e-6, solver)
    assert torch.allclose(result.roots[[0, 2]], alone.roots, rtol=1e-12)


def wrong_eigh(monkeypatch, is_wrong):
    eigh = torch.linalg.eigh

    def patched(matrices):
        values, vectors = eigh(matrices)
        if is_wrong(matrices):
            values[0] *= 1.1
        return values, vectors

    monkeypatch.setattr(torch.linalg, "eigh", patched)


def test_a_decomposition_that_does_not_reproduce_its_matrix_is_repeated(monkeypatch):
    matrices = torch.stack([covariance(5, 8, 0, torch.float32)] * 2)
    wrong_eigh(monkeypatch, lambda matrices: matrices.dtype == torch.float32)
    result = roots.inverse_root(matrices, 0.25, 1e-6, EIGH)
    assert result.trusted.all()
    assert (errors(result, expected(matrices, 0.25, 1e-6)) < 1e-5).all()


def test_and_not_trusted_if_that_does_not_help(monkeypatch):
    wrong_eigh(monkeypatch, lambda matrices: True)
    result = roots.inverse_root(torch.stack([covariance(5, 8, 0)] * 2), 0.25, 1e-6, EIGH)
    assert result.trusted.tolist() == [False, True]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_that_does_not_converge_leaves_the_matrix_untrusted(solver, monkeypatch):
    def never(matrices):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "eigh", never)
    indefinite = with_eigenvalues([1, 0.5, -0.5], 0)
    result = roots.inverse_root(torch.stack([indefinite] * 2), 0.25, 1e-6, solver)
    assert result.trusted.tolist() == [False, False]


def test_an_eigenvalue_below_the_damping_that_stays_finite_is_not_trusted_either():
    bad = with_eigenvalues([*np.logspace(0, -3, 15), -1.1e-6], 1)
    result = roots.by_products(torch.stack([bad, log_uniform(16, 1e3, 0)]), 0.5, 1e-6)
    assert result.roots.isfinite().all()
    assert result.trusted.tolist() == [False, True]
    assert result.residual[0] > 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_root_out_of_range_is_not_trusted(solver):
    matrices = torch.stack([covariance(6, 2, 0, torch.float32), torch.eye(6)])
    matrices[0] *= 1e-37
    result = roots.inverse_root(matrices, 1.0, 1e-6, solver)
    assert result.trusted.tolist() == [False, True]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_matrices_have_the_same_roots_whatever_else_is_random(solver):
    matrices = torch.stack([covariance(9, 20, seed, torch.float32) for seed in range(2)])
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(roots.inverse_root(matrices, 0.25, 1e-6, solver))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


@pytest.mark.parametrize("exponent", [0.25, 0.5])
@pytest.mark.parametrize("size", [8, 200])
def test_where_an_iteration_diverges_eigh_takes_over_for_that_matrix(exponent, size, monkeypatch):
    good = log_uniform(size, 1e3, 0, torch.float32)
    values = np.append(np.logspace(0, -3, size - 1), -1e-4)
    bad = with_eigenvalues(values, 1, torch.float32)
    calls = []
    decompose = roots.decompose

    def recorded(matrices):
        calls.append((matrices.dtype, len(matrices)))
        return decompose(matrices)

    monkeypatch.setattr(roots, "decompose", recorded)
    matrices = torch.stack([good, bad, good])
    result = roots.inverse_root(matrices, exponent, 1e-6, PRODUCTS)
    assert calls == [(torch.float64, 1)]
    assert result.trusted.all()
    assert (errors(result, expected(matrices, exponent, 1e-6)) < 1e-3).all()


@pytest.mark.parametrize("exponent", [0.5, 0.25, 1 / 6])
def test_iterations_survive_products_in_tf32(exponent):
    matrices = torch.stack(
        [
            log_uniform(96, 1e8, 0, torch.float32),
            covariance(96, 4, 1, torch.float32),
            with_eigenvalues(1 / np.arange(1, 97) ** 2, 2, torch.float32),
            torch.ones(96, 96),
        ]
    )
    with TensorFloat32():
        result = roots.by_products(matrices, exponent, 1e-5)
    assert (result.residual < 0.05).all()
    large = log_uniform(256, 1e8, 0, torch.float32)[None]
    with TensorFloat32():
        assert (roots.by_products(large, exponent, 1e-5).residual < 0.05).all()
    assert (errors(result, expected(matrices, exponent, 1e-5)) < 2e-3).all()


@pytest.mark.parametrize("exponent", PRODUCT_EXPONENTS)
def test_iterations_do_not_wait_for_the_device(exponent):
    matrices = torch.stack([covariance(6, 9, seed, torch.float32) for seed in range(3)])
    with Operators() as operators:
        roots.by_products(matrices, exponent, 1e-6)
    assert operators.counts["bmm"] > 0
    assert not operators.counts.keys() & SYNCHRONISING


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_number_of_operators_does_not_grow_with_the_stack(solver):
    counts = []
    for stack in (1, 2, 9):
        matrices = torch.stack([covariance(6, 9, seed) for seed in range(stack)])
        with Operators() as operators:
            roots.inverse_root(matrices, 0.25, 1e-6, solver)
        counts.append(operators.counts)
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_large_stack_is_worked_off_in_parts(solver, monkeypatch):
    matrices = torch.stack([covariance(5, 9, seed) for seed in range(7)])
    whole = roots.inverse_root(matrices, 0.5, 1e-6, solver)
    sizes = []
    solve = roots._solve

    def recorded(part, *arguments):
        sizes.append(len(part))
        return solve(part, *arguments)

    monkeypatch.setattr(roots, "_solve", recorded)
    monkeypatch.setattr(roots, "_MAX_ELEMENTS", 3 * 25)
    parts = roots.inverse_root(matrices, 0.5, 1e-6, solver)
    assert sizes == [3, 3, 1]
    monkeypatch.setattr(roots, "_MAX_ELEMENTS", 24)
    assert len(roots.inverse_root(matrices[:2], 0.5, 1e-6, solver).roots) == 2
    for together, apart in zip(whole, parts, strict=True):
        assert torch.allclose(together.double(), apart.double(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_empty_stack_has_no_roots(solver):
    results = roots.inverse_root(torch.zeros(0, 4, 4), 0.5, 1e-6, solver)
    assert results.roots.shape == (0, 4, 4)
    assert [len(result) for result in results] == [0] * 4


def test_refuses_unknown_solvers_and_exponents_they_cannot_do():
    matrices = torch.eye(2)[None]
    with pytest.raises(ValueError, match=r"solver must be one of .* got 'svd'"):
        roots.inverse_root(matrices, 0.5, 1e-6, "svd")
    with pytest.raises(ValueError, match=r"exponent must be 1 over an integer .* got 0\.3"):
        roots.inverse_root(matrices, 0.3, 1e-6, PRODUCTS)
    with pytest.raises(ValueError, match=r"solver 'coupled_newton' is gone: 'products' takes"):
        roots.inverse_root(matrices, 0.5, 1e-6, "coupled_newton")


@pytest.mark.parametrize(
    ("exponent", "on_an_accelerator"),
    [
        (0.5, PRODUCTS),
        (0.25, PRODUCTS),
        (1 / 3, PRODUCTS),
        (1.0, PRODUCTS),
        (1 / 8, PRODUCTS),
        (1 / 9, EIGH),
        (0.3, EIGH),
    ],
)
def test_auto_takes_eigh_on_a_cpu_and_products_elsewhere(exponent, on_an_accelerator):
    assert resolve_root_solver("auto", exponent, accelerated=False) == EIGH
    assert resolve_root_solver("auto", exponent, accelerated=True) == on_an_accelerator
