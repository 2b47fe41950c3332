"""Shampoo as a citizen of torch.optim."""

import copy
import io
import pickle

import pytest
import torch

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    assert_equal,
    parameters,
    run,
    set_grads,
)


def _through_torch_save(optimizer, weights):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    other = Shampoo(copies)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other, copies


def _through_deepcopy(optimizer, weights):
    del weights
    other = copy.deepcopy(optimizer)
    return other, other.param_groups[0]["params"]


def _through_pickle(optimizer, weights):
    del weights
    other = pickle.loads(pickle.dumps(optimizer))
    return other, other.param_groups[0]["params"]


@pytest.mark.parametrize("travel", [_through_torch_save, _through_deepcopy, _through_pickle])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_travelled_optimizer_continues_bitwise(travel, dtype, variant):
    """4 steps in, with refreshes at 1, 2, 3: some are owed or on their way."""
    steps = 4
    weights = parameters(dtype=dtype)
    optimizer = Shampoo(weights, **{**OPTIONS, **VARIANTS[variant]})
    run(optimizer, weights, steps)
    other, copies = travel(optimizer, weights)
    run(optimizer, weights, 6, first_seed=5)
    run(other, copies, 6, first_seed=5)
    assert_equal(weights, copies)


def test_state_is_per_parameter_and_does_not_depend_on_stacking():
    together, apart = parameters([(6, 5), (6, 5)]), parameters([(6, 5), (6, 5)])
    first = Shampoo(together, **OPTIONS)
    second = Shampoo([{"params": [apart[0]]}, {"params": [apart[1]]}], **OPTIONS)
    run(first, together, 4)
    run(second, apart, 4)
    for a, b in zip(
        first.state_dict()["state"].values(), second.state_dict()["state"].values(), strict=True
    ):
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[name], b[name], atol=1e-12) for name in a)


@pytest.mark.parametrize("shape", [(5, 6), (7, 5)])
def test_state_that_does_not_fit_is_refused_and_nothing_changes(shape):
    weights, others = parameters([(6, 5)]), parameters([shape])
    optimizer, other = Shampoo(weights, **OPTIONS), Shampoo(others, lr=0.5)
    run(optimizer, weights, 1)
    run(other, others, 2)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"state_dict: 'exp_avg' of the parameter of shape"):
        other.load_state_dict(optimizer.state_dict())
    after = other.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(
        torch.equal(before["state"][0][key], after["state"][0][key]) for key in before["state"][0]
    )


def test_reading_the_state_changes_nothing_also_through_torchs_checkpoint_helpers():
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    model = torch.nn.Linear(5, 6).double()
    weights = list(model.parameters())
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 3)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    found = get_optimizer_state_dict(model, optimizer)["state"]
    after = optimizer.state_dict()["state"]
    for index, (name, _) in enumerate(model.named_parameters()):
        for key, value in before[index].items():
            assert torch.equal(value, after[index][key])
            assert torch.equal(value, found[name][key])


@pytest.mark.parametrize("averaging", [None, "schedule_free"])
@pytest.mark.parametrize("method", ["shampoo", "soap"])
def test_flattened_state_returns_through_torchs_checkpoint_helpers(method, averaging):
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    options = {**OPTIONS, "method": method, "momentum": 0.5, "averaging": averaging}
    flat = StateDictOptions(flatten_optimizer_state_dict=True)
    model = torch.nn.Linear(7, 6).double()
    optimizer = Shampoo(model.parameters(), **options)
    run(optimizer, list(model.parameters()), 4)
    twin = copy.deepcopy(model)
    other = Shampoo(twin.parameters(), **options)
    saved = get_optimizer_state_dict(model, optimizer, options=flat)
    set_optimizer_state_dict(twin, other, saved, options=flat)
    run(optimizer, list(model.parameters()), 3, first_seed=9)
    run(other, list(twin.parameters()), 3, first_seed=9)
    assert_equal(model.parameters(), twin.parameters())


@pytest.mark.parametrize("variant", ["shampoo", "soap", "kl_shampoo", "ema"])
def test_state_can_be_read_and_written_by_parameter(variant):
    weights, untouched = parameters(), parameters()
    optimizer, other = (
        Shampoo(w, **{**OPTIONS, **VARIANTS[variant]}) for w in (weights, untouched)
    )
    run(optimizer, weights, 4)
    run(other, untouched, 4)
    for weight, saved in zip(weights, optimizer.state_dict()["state"].values(), strict=True):
        entry = optimizer.state[weight]
        assert dict(entry).keys() == saved.keys()
        assert all(torch.equal(entry[name], value) for name, value in saved.items())
        for name, value in entry.items():
            entry[name] = value.to("cpu").clone()  # as scripts do that move state to a device
    run(optimizer, weights, 3, first_seed=4)
    run(other, untouched, 3, first_seed=4)
    assert_equal(weights, untouched)
    optimizer.state[weights[2]]["exp_avg"] = torch.zeros(12, 9)
    assert not optimizer.state_dict()["state"][2]["exp_avg"].any()
    with pytest.raises(ValueError, match="'exp_avg' of the parameter of shape"):
        optimizer.state[weights[2]]["exp_avg"] = torch.zeros(1)


def test_what_others_keep_in_the_state_is_kept_and_saved():
    weights = parameters([(6, 5), (6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    optimizer.state[weights[0]]["slow"] = torch.ones(6, 5)
    set_grads(0, weights[:1])
    optimizer.step()
    optimizer.state[weights[0]]["count"] = 3
    run(optimizer, weights, 2)  # the second parameter has the stacks built anew
    for travel in (_through_torch_save, _through_deepcopy):
        other, copies = travel(optimizer, weights)
        assert torch.equal(other.state[copies[0]]["slow"], torch.ones(6, 5))
        assert other.state_dict()["state"][0]["count"] == 3


def test_a_copy_keeps_the_state_of_a_parameter_whose_gradient_is_missing_at_first():
    weights = parameters([(6, 5), (4, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 3)
    other, copies = _through_deepcopy(optimizer, weights)
    for each, owned in ((optimizer, weights), (other, copies)):
        set_grads(3, owned)
        owned[1].grad = None
        each.step()
        run(each, owned, 2, first_seed=4)
    assert_equal(weights, copies)


def test_a_copy_made_in_eval_mode_leaves_it_for_good():
    weights = parameters()
    optimizer = Shampoo(weights, **OPTIONS, averaging="ema")
    run(optimizer, weights, 2)
    optimizer.eval()
    other, copies = _through_deepcopy(optimizer, weights)
    other.train()
    third, thirds = _through_torch_save(other, copies)
    run(third, thirds, 1)


def test_hooks_may_replace_a_loaded_state_dict_and_see_what_was_loaded():
    weights = parameters([(6, 5)], torch.bfloat16)
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 2)
    saved = optimizer.state_dict()
    seen = []

    def doubled(_, state_dict):
        entry = state_dict["state"][0]
        return {**state_dict, "state": {0: {**entry, "exp_avg": 2 * entry["exp_avg"]}}}

    optimizer.register_load_state_dict_pre_hook(doubled)
    optimizer.register_load_state_dict_post_hook(
        lambda each: seen.append(each.state_dict()["state"][0]["exp_avg"])
    )
    for _ in range(2):
        optimizer.load_state_dict(saved)
    assert len(seen) == 2
    assert all(torch.equal(found, 2 * saved["state"][0]["exp_avg"]) for found in seen)


def test_loading_a_state_without_steps_leaves_all_options_open():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["block_size"] = 3
    run(optimizer, weights, 1)


def test_options_that_a_checkpoint_does_not_know_have_their_defaults():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 2)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["overlap"], saved["param_groups"][0]["peak_lr"]
    other = Shampoo(weights, overlap=True)
    other.load_state_dict(saved)
    assert other.param_groups[0]["overlap"]
    assert other.param_groups[0]["peak_lr"] == OPTIONS["lr"]


@pytest.mark.parametrize(
    "variant", ["shampoo", "soap, qr", "adaptive", "kl_shampoo", "bfloat16 state", "schedule_free"]
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


def test_onecycle_and_tensor_learning_rates():
    weights, others = parameters([(6, 5)]), parameters([(6, 5)])
    optimizer = Shampoo(weights, lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    for seed in range(5):
        set_grads(seed, weights)
        optimizer.step()
        schedule.step()
    assert weights[0].isfinite().all()
    run(Shampoo(others, lr=torch.tensor([0.01]), weight_decay=0.0), others, 2)
    plain = parameters([(6, 5)])
    run(Shampoo(plain, lr=0.01), plain, 2)
    assert torch.allclose(others[0], plain[0], rtol=1e-6)


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
    with pytest.raises(ValueError, match="complex"):
        Shampoo([torch.nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))])
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = Shampoo(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("decay", [0.03, 0.05])
def test_low_precision_weights_decay_as_under_torchs_adamw(decay, layout):
    """Rounding 1 - lr * weight_decay itself to bfloat16 gives another decay."""
    ours, theirs = (
        torch.nn.Parameter(torch.ones(4, 3, 2, 2).bfloat16().to(memory_format=layout))
        for _ in range(2)
    )
    optimizers = [
        Shampoo([ours], lr=0.1, weight_decay=decay),
        torch.optim.AdamW([theirs], lr=0.1, weight_decay=decay),
    ]
    for _ in range(100):
        ours.grad, theirs.grad = torch.zeros_like(ours), torch.zeros_like(theirs)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(ours, theirs)
    assert ours.max() < 0.7


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
        assert moved == [
            index in kept and weight.numel() > 0 for index, weight in enumerate(weights)
        ]


def test_no_gradients_is_no_step():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights)
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("overflow", [False, True])
def test_grad_scaler_unscales_and_skips_without_the_host_knowing(overflow):
    plain, scaled = (
        parameters([(6, 5), (4,)], torch.float32),
        parameters([(6, 5), (4,)], torch.float32),
    )
    first, second = Shampoo(plain, lr=0.01), Shampoo(scaled, lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    scaler.scale(torch.zeros(()))
    set_grads(0, plain, scaled)
    for weight in scaled:
        weight.grad *= scaler.get_scale()
    if overflow:
        scaled[1].grad[0] = torch.inf
    before = [weight.detach().clone() for weight in scaled]
    scaler.step(second)
    scaler.update()
    first.step()
    assert_equal(scaled, before if overflow else plain)
    assert second.diagnostics()["skipped_steps"] == overflow
    assert scaler.get_scale() == (2.0**11 if overflow else 2.0**12)


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


def test_counts_survive_checkpoints():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    run(optimizer, weights, 4)
    weights[0].grad[0, 0] = torch.nan
    optimizer.step()
    other, _ = _through_torch_save(optimizer, weights)
    assert other.diagnostics() == optimizer.diagnostics()
    assert other.diagnostics()["skipped_steps"] == 1


def test_state_in_eval_mode_returns_to_training_after_a_checkpoint():
    weights = parameters()
    optimizer = Shampoo(weights, **OPTIONS, averaging="schedule_free")
    run(optimizer, weights, 3)
    trained = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    other, copies = _through_torch_save(optimizer, weights)
    other.train()
    assert_equal(trained, copies)
