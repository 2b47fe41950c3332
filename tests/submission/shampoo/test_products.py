"""Products: their precision whatever the user's setting is, and Gram matrices by halves."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.benchmark.tensor_float32 import TensorFloat32
from submission.shampoo import Shampoo, eigenbasis, products, roots
from submission.shampoo.symmetric_stack import LEAF, SymmetricStack

BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
pytestmark = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"),
    reason="the settings that these tests read are torch's from 2.9 on",
)
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "addmm_", "baddbmm_"}


def settings():
    return tuple(backend.fp32_precision for backend in BACKENDS)


def use(setting):
    """Makes it the process's: of v1.0's function, of all backends, or of none."""
    torch.set_float32_matmul_precision("highest")
    for backend in BACKENDS:
        backend.fp32_precision = "none"
    if setting in ("high", "medium", "highest"):
        torch.set_float32_matmul_precision(setting)
    elif setting is not None:
        torch.backends.fp32_precision = setting


@pytest.fixture(autouse=True)
def _settings_as_they_were():
    before = [torch.backends.fp32_precision, *settings()]
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = before[0]
    for backend, setting in zip(BACKENDS, before[1:], strict=True):
        backend.fp32_precision = setting


class Precisions(TorchDispatchMode):
    """Collects the settings of GPUs and CPUs at every float32 product."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in PRODUCTS and args[-1].dtype == torch.float32:
            self.seen.add(settings())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("setting", [None, "highest", "high", "medium", "ieee", "tf32"])
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_a_lower_setting_is_raised_and_set_back_and_a_higher_one_stays(setting, precision):
    use(setting)
    before = settings()
    with products.at_least(precision):
        for given, now in zip(before, settings(), strict=True):
            exact = given in ("ieee", "none") or (given == "tf32" and precision == "tf32")
            assert now == (given if exact else precision)
        with contextlib.suppress(ZeroDivisionError), products.at_least("ieee"):
            1 / 0  # noqa: B018
    assert settings() == before


def test_what_followed_the_setting_for_all_follows_it_again():
    use("tf32")
    with products.at_least("ieee"):
        pass
    torch.backends.fp32_precision = "ieee"
    assert settings() == ("ieee", "ieee")


def matrices(size, columns, stack=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(stack, size, columns, generator=generator)
    return gradient @ gradient.mT / columns


@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_iterations_take_the_precision_that_their_damping_needs(setting):
    use(setting)
    cases = [(0.25, 1e-6, "ieee"), (0.25, 1e-5, "tf32"), (0.5, 1e-5, "tf32"), (1 / 3, 1e-3, "ieee")]
    inputs = matrices(8, 20)
    for exponent, damping, lower in cases:
        with Precisions() as precisions:
            roots.inverse_root(inputs, exponent, damping, "products")
        allowed = "ieee" if setting == "highest" else lower
        assert precisions.seen == {(allowed, allowed)}


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_bases_and_checks_take_all_of_float32(setting):
    use(setting)
    inputs = matrices(8, 20)
    with Precisions() as precisions:
        basis = torch.eye(8).repeat(3, 1, 1)
        for solver in ("eigh", "qr", "cholesky_qr"):
            basis = eigenbasis.eigenbasis(inputs, basis, solver).vectors
        roots.inverse_root(inputs, 0.25, 1e-5, "eigh")
    assert precisions.seen == {("ieee", "ieee")}


def test_a_users_tf32_does_not_reach_roots_at_a_small_damping():
    inputs = matrices(24, 4)
    exact = roots.inverse_root(inputs, 0.25, 1e-6, "products")
    use("high")
    with TensorFloat32(always=False):
        result = roots.inverse_root(inputs, 0.25, 1e-6, "products")
        rounded = roots.inverse_root(inputs, 0.25, 1e-5, "products")
    for expected, value in zip(exact, result, strict=True):
        assert torch.equal(expected, value)
    assert (rounded.residual > exact.residual).all()


@pytest.mark.parametrize(("bits", "limit"), [(10, 2**-11), (7, 2**-8)])
def test_factors_of_rounded_gradients_are_those_of_gradients_nearby(bits, limit):
    """So they are positive semi-definite, however small an eigenvalue is."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(1, 300, 5, generator=generator)
    stacks = [SymmetricStack(1, 300, 128, torch.float32, torch.device("cpu")) for _ in range(2)]
    with TensorFloat32(bits):
        stacks[0].average(stacks[0].pairs(gradient), torch.tensor(0.0), 1.0, seed=0)
    scale = 2.0 ** (bits + 1)
    exponent = torch.floor(torch.log2(gradient.abs()))
    nearby = torch.round(gradient * scale / 2 ** (exponent + 1)) * 2 ** (exponent + 1) / scale
    assert (nearby - gradient).abs().max() <= limit * gradient.abs().max()
    stacks[1].average(stacks[1].pairs(nearby), torch.tensor(0.0), 1.0, seed=0)
    factor, expected = (stack.dense(slice(None), torch.float32) for stack in stacks)
    assert torch.allclose(factor, expected, rtol=1e-5, atol=1e-4)
    smallest = torch.linalg.eigvalsh(factor.double()).min()
    assert smallest > -1e-6 * torch.linalg.matrix_norm(factor, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"root_solver": "products"},
        {"root_solver": "products", "damping": 1e-5},
        {"method": "soap", "basis_solver": "cholesky_qr"},
        {"method": "kl_shampoo", "basis_solver": "qr"},
    ],
)
def test_training_in_tf32_ends_where_it_does_in_float32(options):
    losses = []
    for setting in ("highest", "high"):
        use(setting)
        generator = torch.Generator().manual_seed(0)
        target = torch.randn(12, 16, generator=generator)
        inputs = torch.randn(64, 16, generator=generator) * torch.logspace(0, -2, 16)
        weight = torch.nn.Parameter(torch.zeros(12, 16))
        optimizer = Shampoo([weight], lr=0.05, refresh_interval=2, **options)
        with TensorFloat32(always=False):
            for _ in range(30):
                optimizer.zero_grad()
                loss = (inputs @ (weight - target).mT).square().mean()
                loss.backward()
                optimizer.step()
        assert optimizer.diagnostics()["failed_roots"] == 0
        losses.append(loss.item())
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


class Multiplications(TorchDispatchMode):
    """Counts the multiplications of products."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in PRODUCTS:
            left, right = args[-2:]
            self.count += left.numel() * right.shape[-1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("size", "share"), [(100, 1.0), (256, 0.75), (512, 0.625)])
def test_halves_of_factors_are_not_multiplied_twice(size, share):
    stack = SymmetricStack(2, size, LEAF, torch.float32, torch.device("cpu"))
    with Multiplications() as counted:
        stack.average(stack.pairs(torch.ones(2, size, 3)), torch.tensor(0.0), 1.0, seed=0)
    assert counted.count == pytest.approx(2 * size**2 * 3 * share)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [4, 9, 14])
def test_halved_matrices_are_what_was_averaged_and_multiply_as_whole_ones(size, dtype):
    generator, every = torch.Generator().manual_seed(0), slice(None)
    vectors, inputs = torch.randn(2, 2, size, 5, generator=generator)
    stack = SymmetricStack(2, size, 3, dtype, torch.device("cpu"))
    for seed in range(2):
        stack.average(stack.pairs(vectors), torch.tensor(0.5), 0.5, seed)
    full = stack.dense(every, torch.float32)
    limit = {"rtol": 0, "atol": 40 * torch.finfo(dtype).eps}
    torch.testing.assert_close(full, 0.75 * vectors @ vectors.mT, **limit)
    assert dtype == torch.float32 or torch.equal(full, full.mT)
    for out in (None, torch.empty(2, size, 5)):
        torch.testing.assert_close(stack.times(inputs, out), full @ inputs, **limit)
        other = None if out is None else out.mT
        turned = stack.times_from_right(inputs.mT, other)
        torch.testing.assert_close(turned, inputs.mT @ full, **limit)
    stack.assign(every, torch.zeros_like(full), torch.tensor([True, False]))
    assert torch.equal(stack.dense(every, torch.float32)[1], full[1])
    assert not stack.storage[0].any()
