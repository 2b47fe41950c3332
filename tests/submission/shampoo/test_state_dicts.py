"""State that is saved, copied, read and loaded, as with any torch optimizer."""

import copy

import pytest
import torch

from submission.shampoo import Shampoo
from tests.submission.shampoo.streams import (
    OPTIONS,
    VARIANTS,
    after_steps,
    assert_equal,
    parameters,
    run,
    set_grads,
    travelled,
)


@pytest.mark.parametrize("how", ["torch.save", "deepcopy", "pickle"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_travelled_optimizer_continues_bitwise(how, dtype, variant):
    """4 steps in, with refreshes at 1, 2, 3: some are owed or on their way. And so do averages."""
    steps = 4
    optimizer, weights = after_steps(steps, dtype=dtype, **VARIANTS[variant])
    other, copies = travelled(optimizer, weights, how)
    for instance, row in ((optimizer, weights), (other, copies)):
        run(instance, row, 6, first_seed=5)
    assert_equal(weights, copies)
    optimizer.eval()
    other.eval()
    assert_equal(weights, copies)


def test_an_optimizer_that_saw_only_gradients_that_are_not_finite_continues_bitwise():
    """Blocks without a step yet are no new ones, whose roots their next gradient would refresh."""
    optimizer, weights = after_steps(0, refresh_interval=5)
    for weight in weights:
        weight.grad = torch.full_like(weight, torch.nan)
    optimizer.step()
    other, copies = travelled(optimizer, weights, "torch.save")
    for instance, row in ((optimizer, weights), (other, copies)):
        run(instance, row, 4)
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
    torchs_state = get_optimizer_state_dict(model, optimizer)["state"]
    after = optimizer.state_dict()["state"]
    for index, (name, _) in enumerate(model.named_parameters()):
        for key, value in before[index].items():
            assert torch.equal(value, after[index][key])
            assert torch.equal(value, torchs_state[name][key])


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
    options = VARIANTS[variant]
    (optimizer, weights), (other, untouched) = (after_steps(4, **options) for _ in range(2))
    for weight, saved in zip(weights, optimizer.state_dict()["state"].values(), strict=True):
        entry = optimizer.state[weight]
        assert dict(entry).keys() == saved.keys()
        for copied in entry.values():
            copied.zero_()
        assert all(torch.equal(entry[name], value) for name, value in saved.items())
        for name, value in entry.items():
            entry[name] = value.to("cpu").clone()  # as scripts do that move state to a device
    run(optimizer, weights, 3, first_seed=4)
    run(other, untouched, 3, first_seed=4)
    assert_equal(weights, untouched)
    for weight, twin in zip(weights, untouched, strict=True):
        assert_equal(optimizer.state[weight].values(), other.state[twin].values())
    saved = copy.deepcopy(other.state_dict())
    saved["state"][0]["step"].fill_(1)
    other.load_state_dict(saved)
    optimizer.state[weights[0]]["step"] = 1  # of one of the parameters that share a stack
    run(optimizer, weights, 1, first_seed=7)
    run(other, untouched, 1, first_seed=7)
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
    for how in ("torch.save", "deepcopy"):
        other, copies = travelled(optimizer, weights, how)
        assert torch.equal(other.state[copies[0]]["slow"], torch.ones(6, 5))
        assert other.state_dict()["state"][0]["count"] == 3


def test_a_copy_keeps_the_state_of_a_parameter_whose_gradient_is_missing_at_first():
    optimizer, weights = after_steps(3, [(6, 5), (4, 5)])
    other, copies = travelled(optimizer, weights, "deepcopy")
    for instance, owned in ((optimizer, weights), (other, copies)):
        set_grads(3, owned)
        owned[1].grad = None
        instance.step()
        run(instance, owned, 2, first_seed=4)
    assert_equal(weights, copies)


def test_a_copy_made_in_eval_mode_leaves_it_for_good():
    optimizer, weights = after_steps(2, averaging="ema")
    optimizer.eval()
    other, copies = travelled(optimizer, weights, "deepcopy")
    other.train()
    third, thirds = travelled(other, copies, "torch.save")
    run(third, thirds, 1)


def test_hooks_may_replace_a_loaded_state_dict_and_see_what_was_loaded():
    optimizer, _ = after_steps(2, [(6, 5)], torch.bfloat16)
    saved = optimizer.state_dict()
    seen = []

    def doubled(_, state_dict):
        entry = state_dict["state"][0]
        return {**state_dict, "state": {0: {**entry, "exp_avg": 2 * entry["exp_avg"]}}}

    optimizer.register_load_state_dict_pre_hook(doubled)
    optimizer.register_load_state_dict_post_hook(
        lambda loaded: seen.append(loaded.state_dict()["state"][0]["exp_avg"])
    )
    for _ in range(2):
        optimizer.load_state_dict(saved)
    assert len(seen) == 2
    assert all(torch.equal(exp_avg, 2 * saved["state"][0]["exp_avg"]) for exp_avg in seen)


def test_a_wrapper_of_the_same_class_reads_what_the_optimizer_has_loaded():
    """As Lightning's: methods are the optimizer's, attributes are found by `__getattr__`."""

    class Wrapper:
        def __init__(self, optimizer):
            self.wrapped = optimizer
            self.__class__ = type("Wrapped", (Wrapper, Shampoo), {})

        def __getattr__(self, name):
            return getattr(self.wrapped, name)

    optimizer, weights = after_steps(2, averaging="ema")
    wrapper = Wrapper(optimizer)
    saved = wrapper.state_dict()
    run(optimizer, weights, 1)
    optimizer.load_state_dict(saved)
    run(optimizer, weights, 2)
    expected, read = optimizer.state_dict(), wrapper.state_dict()
    assert read["param_groups"] == expected["param_groups"]
    for number, entry in expected["state"].items():
        assert_equal(entry.values(), read["state"][number].values())


def test_state_dict_hooks_see_what_is_saved_and_may_replace_it():
    optimizer, weights = after_steps(2, [(6, 5)])
    seen = []
    optimizer.register_state_dict_pre_hook(lambda live: seen.append(live.state[weights[0]]))
    optimizer.register_state_dict_post_hook(
        lambda _, saved: {**saved, "more": list(saved["state"][0])}
    )
    saved = optimizer.state_dict()
    assert seen == [optimizer.state[weights[0]]]
    assert saved["more"] == list(optimizer.state[weights[0]])
    assert saved["param_groups"][0]["root_dtype"] == "float32"


def test_loading_a_state_without_steps_leaves_all_options_open():
    weights = parameters([(6, 5)])
    optimizer = Shampoo(weights, **OPTIONS)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["block_size"] = 3
    run(optimizer, weights, 1)


def test_options_that_a_checkpoint_does_not_know_have_their_defaults():
    optimizer, weights = after_steps(2, [(6, 5)])
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["overlap"], saved["param_groups"][0]["peak_lr"]
    other = Shampoo(weights, overlap=True)
    other.load_state_dict(saved)
    assert other.param_groups[0]["overlap"]
    assert other.param_groups[0]["peak_lr"] == OPTIONS["lr"]


@pytest.mark.parametrize("solver", ["coupled_newton", "newton_denman_beavers"])
def test_checkpoints_with_a_root_solver_that_is_gone_go_on_with_its_successor(solver):
    optimizer, weights = after_steps(2, [(6, 5)])
    saved = optimizer.state_dict()
    saved["param_groups"][0]["root_solver"] = solver
    other = Shampoo(weights, **OPTIONS)
    other.load_state_dict(saved)
    assert other.param_groups[0]["root_solver"] == "products"
    run(other, weights, 2)


def assert_averages_go_on(optimizer, weights, saved, steps):
    """Another optimizer, from `saved`, evaluates after some steps what this one does."""
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    other = Shampoo(copies)
    other.load_state_dict(saved)
    for instance, row in ((optimizer, weights), (other, copies)):
        run(instance, row, steps)
        instance.eval()
    assert_equal(weights, copies)
    return other


def test_checkpoints_with_options_of_averages_that_are_gone_go_on():
    optimizer, weights = after_steps(2, [(6, 5)], averaging="ema")
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"averaging_start": 100, "averaging_blend": 0.5}
    other = assert_averages_go_on(optimizer, weights, saved, steps=3)
    assert "averaging_start" not in str(other)


def test_counts_survive_checkpoints():
    optimizer, weights = after_steps(4, [(6, 5)])
    weights[0].grad[0, 0] = torch.nan
    optimizer.step()
    other, _ = travelled(optimizer, weights, "torch.save")
    assert other.diagnostics() == optimizer.diagnostics()
    assert other.diagnostics()["skipped_steps"] == 1


def test_averages_of_a_version_without_shares_keep_their_decay():
    optimizer, weights = after_steps(3, [(6, 5)], averaging="ema", averaging_decay=0.7)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["averaging_share"]
    del saved["state"][0]["average_steps"]
    assert_averages_go_on(optimizer, weights, saved, steps=2)
