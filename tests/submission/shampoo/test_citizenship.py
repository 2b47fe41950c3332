"""Shampoo as a citizen of torch.optim."""

import copy

import pytest
import torch

from submission.shampoo import Shampoo, parameter_groups, soap
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    assert_equal,
    parameters,
    run,
    set_grads,
)


@pytest.mark.parametrize(
    "variant", ["shampoo", "soap, qr", "kl_shampoo", "bfloat16 state", "schedule_free"]
)
def test_the_default_device_does_not_matter(variant):
    """ "meta" stands for a GPU, which many scripts make the default."""
    weights, others = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizers = [Shampoo(w, **{**OPTIONS, **VARIANTS[variant]}) for w in (weights, others)]
    for seed in range(5):
        set_grads(seed, weights, others)
        if seed == 3:
            weights[2].grad = others[2].grad = None
        optimizers[0].step()
        with torch.device("meta"):
            optimizers[1].step()
            optimizers[1].load_state_dict(optimizers[1].state_dict())
            optimizers[1].diagnostics()
    assert_equal(weights, others)


def test_channels_last_weights_and_gradients_give_the_contiguous_result():
    plain, last = parameters([(8, 4, 3, 3)]), parameters([(8, 4, 3, 3)])
    last[0].data = last[0].data.to(memory_format=torch.channels_last)
    first, second = Shampoo(plain, **OPTIONS), Shampoo(last, **OPTIONS)
    for seed in range(4):
        set_grads(seed, plain, last)
        last[0].grad = last[0].grad.to(memory_format=torch.channels_last)
        first.step()
        second.step()
    assert torch.allclose(plain[0], last[0], atol=1e-12)
    assert last[0].is_contiguous(memory_format=torch.channels_last)


def test_groups_have_their_own_options_and_may_be_added_later():
    weights = parameters([(6, 5), (6, 5)])
    optimizer = Shampoo([weights[0]], lr=0.01)
    run(optimizer, weights[:1], 2)
    optimizer.add_param_group({"params": [weights[1]], "lr": 0.0})
    value = weights[1].detach().clone()
    run(optimizer, weights, 2)
    assert torch.equal(weights[1], value)


def test_a_learning_rate_may_be_a_tensor():
    weights, plain = parameters([(6, 5)]), parameters([(6, 5)])
    run(Shampoo(weights, lr=torch.tensor([0.01])), weights, 2)
    run(Shampoo(plain, lr=0.01), plain, 2)
    assert torch.allclose(weights[0], plain[0], rtol=1e-6)


def test_closure_is_evaluated_and_its_value_returned():
    weight = torch.nn.Parameter(torch.eye(4))
    optimizer = Shampoo([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert weight.square().sum() < 4


def test_complex_parameters_and_sparse_gradients_are_refused():
    with pytest.raises(ValueError, match=r"complex.*, wave"):
        Shampoo([("wave", torch.nn.Parameter(torch.ones(2, 2, dtype=torch.complex64)))])
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = Shampoo(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda model: Shampoo(model.named_parameters()),
        lambda model: Shampoo(parameter_groups(model)),
        lambda model: soap(model.named_parameters()),
    ],
)
def test_lazy_modules_are_refused_by_name_until_they_have_been_called(make):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LazyLinear(2))
    with pytest.raises(ValueError, match=r"got 1\.weight, an UninitializedParameter: call"):
        make(model)
    loss = model(torch.ones(5, 4)).square().mean()
    optimizer, before = make(model), [weight.detach().clone() for weight in model.parameters()]
    loss.backward()
    optimizer.step()
    for weight, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(weight, old)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("variant", ["shampoo", "soap", "schedule_free"])
def test_a_parameter_that_is_given_twice_moves_once(variant, named):
    """Of tied weights, say, of which torch warns."""
    weights, others = parameters([(6, 5), (3,)]), parameters([(6, 5), (3,)])
    given = [weights[0], *weights, weights[1]]
    if named:
        given = list(zip("abca", given, strict=True))
    optimizers = [Shampoo(w, **{**OPTIONS, **VARIANTS[variant]}) for w in (given, others)]
    for seed in range(5):
        set_grads(seed, weights, others)
        for optimizer in optimizers:
            optimizer.step()
    assert_equal(weights, others)
    assert len(optimizers[0].param_groups[0].get("param_names", "ac")) == 2
    optimizers[1].load_state_dict(optimizers[0].state_dict())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("decay", [0.03, 0.05])
def test_low_precision_weights_decay_as_under_torchs_adamw(decay, layout):
    """Rounding 1 - lr * weight_decay itself to bfloat16 gives another decay."""
    weight, expected = (
        torch.nn.Parameter(torch.ones(4, 3, 2, 2).bfloat16().to(memory_format=layout))
        for _ in range(2)
    )
    optimizers = [
        Shampoo([weight], lr=0.1, weight_decay=decay),
        torch.optim.AdamW([expected], lr=0.1, weight_decay=decay),
    ]
    for _ in range(100):
        weight.grad, expected.grad = torch.zeros_like(weight), torch.zeros_like(expected)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(weight, expected)
    assert weight.max() < 0.7


def test_dtypes_may_mix_and_either_may_lack_gradients():
    weights = [*parameters([(6, 5), (3,)]), *parameters([(6, 5)], torch.bfloat16)]
    weights.append(torch.nn.Parameter(torch.zeros(0, 4)))
    optimizer = Shampoo(weights, lr=0.01, weight_decay=0.1)
    for kept in ([0, 1, 3], [2, 3], [3], [0, 1, 2, 3]):
        set_grads(0, weights)
        for index, weight in enumerate(weights):
            if index not in kept:
                weight.grad = None
        before = [weight.detach().clone() for weight in weights]
        optimizer.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, weights, strict=True)]
        assert moved == [i in kept and weight.numel() > 0 for i, weight in enumerate(weights)]


def test_no_gradients_is_no_step():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights)
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("case", ["plain", "overflow", "clipped"])
def test_grad_scaler_unscales_and_skips_also_without_the_host_knowing(case, fused):
    overflow = case == "overflow"
    plain, scaled = (parameters([(6, 5), (4,)], torch.float32) for _ in range(2))
    first, second = Shampoo(plain, lr=0.01), Shampoo(scaled, lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    scaler.scale(torch.zeros(()))
    set_grads(0, plain, scaled)
    for weight in scaled:
        weight.grad *= scaler.get_scale()
    if overflow:
        scaled[1].grad[0] = torch.inf
    if case == "clipped":
        scaler.unscale_(second)
        for weights in (plain, scaled):
            torch.nn.utils.clip_grad_norm_(weights, 0.5)
    before = [weight.detach().clone() for weight in scaled]
    scaler.step(second)
    scaler.update()
    first.step()
    assert_equal(scaled, before if overflow else plain)
    assert second.diagnostics()["skipped_steps"] == (overflow and fused is True)
    assert scaler.get_scale() == (2.0**11 if overflow else 2.0**12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaled_gradients_of_low_precision_are_unscaled_in_that_of_the_state(dtype):
    """As under torch's fused AdamW; without fused=True the scaler itself refuses float16."""
    vector = torch.nn.Parameter(torch.ones(5, dtype=dtype))
    matrix = torch.nn.Parameter(torch.ones(4, 3, dtype=dtype))
    expected = torch.nn.Parameter(torch.ones(5, dtype=dtype))
    rivals = Shampoo([vector, matrix], lr=0.1, eps=1e-15, weight_decay=0.0, fused=True)
    adamw = torch.optim.AdamW([expected], lr=0.1, eps=1e-15, weight_decay=0.0, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(torch.zeros(()))
    for weight in (vector, matrix, expected):  # 4e-9 is 0 in float16
        weight.grad = torch.full_like(weight, 4e-9 * scaler.get_scale())
    for optimizer in (rivals, adamw):
        scaler.step(optimizer)
    assert_equal([vector, vector.grad], [expected, expected.grad])
    assert (matrix < 0.95).all()


def test_gradients_of_a_compiled_model_are_taken_like_any_other():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="aot_eager")
    optimizers = [Shampoo(model.parameters(), lr=0.01), Shampoo(compiled.parameters(), lr=0.01)]
    inputs = torch.randn(8, 6)
    for _ in range(4):
        for net, optimizer in zip((model, compiled), optimizers, strict=True):
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_a_compiled_step_is_the_step(method):
    weights, others = parameters(), parameters()
    optimizer = Shampoo(weights, method=method, lr=0.01)
    other = Shampoo(others, method=method, lr=0.01)
    step = torch.compile(optimizer.step, backend="eager")
    for seed in range(4):
        set_grads(seed, weights, others)
        step()
        other.step()
    assert_equal(weights, others)


def test_a_compiled_training_step_runs_the_optimizer_as_it_is():
    def train(model, optimizer, inputs):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    twin, inputs = copy.deepcopy(model), torch.randn(8, 6)
    optimizers = [Shampoo(net.parameters(), lr=0.01) for net in (model, twin)]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(train, backend="eager")
    for _ in range(4):
        train(model, optimizers[0], inputs)
        compiled(twin, optimizers[1], inputs)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # the model's
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)
