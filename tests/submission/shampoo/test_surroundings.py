"""What a caller's modes, hooks and half-done changes must not do to the optimizer."""

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["shampoo", "soap", "kl_shampoo", "schedule_free"])
def test_autocast_around_the_step_changes_nothing(variant, dtype):
    weights, others = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    options = {**OPTIONS, **VARIANTS[variant]}
    optimizer, other = Shampoo(weights, **options), Shampoo(others, **options)
    for seed in range(6):
        set_grads(seed, weights, others)
        with torch.autocast("cpu", dtype):
            optimizer.step()
        other.step()
    optimizer.param_groups[0]["block_size"] = 3
    other.param_groups[0]["block_size"] = 3
    with torch.autocast("cpu", dtype):
        optimizer.state_dict()
    other.state_dict()
    run(optimizer, weights, 1)
    run(other, others, 1)
    assert_equal(weights, others)


def test_autocast_holds_for_the_closure():
    weights = parameters([(6, 5)], torch.float32)
    optimizer = Shampoo(weights)
    dtypes = []

    def closure():
        dtypes.append((weights[0] @ weights[0].T).dtype)
        set_grads(0, weights)

    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(closure)
    assert dtypes == [torch.bfloat16]


@pytest.mark.parametrize("kind", ["torch.save", "deepcopy"])
@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_moments_of_adamw_outlive_a_copy_before_the_next_gradient(method, kind):
    weights = parameters([(6, 5), (4,)])
    adamw = torch.optim.AdamW(weights, lr=0.01)
    run(adamw, weights, 5)
    optimizer = Shampoo(weights, method=method)
    optimizer.load_state_dict(adamw.state_dict())
    other, copies = travelled(optimizer, weights, kind)
    assert float(other.state[copies[0]]["step"]) == 5
    torch.testing.assert_close(
        other.state[copies[0]]["exp_avg"], adamw.state[weights[0]]["exp_avg"]
    )
    run(optimizer, weights, 6, first_seed=5)
    run(other, copies, 6, first_seed=5)
    assert_equal(weights, copies)


def test_moments_of_adamw_outlive_the_first_gradient_of_another_parameter():
    weights = parameters([(6, 5), (4, 3)])
    adamw = torch.optim.AdamW(weights)
    set_grads(0, weights[:1])
    adamw.step()
    optimizer = Shampoo(weights)
    optimizer.load_state_dict(adamw.state_dict())
    run(optimizer, weights, 1)
    assert float(optimizer.state[weights[0]]["step"]) == 2


@pytest.mark.parametrize("kind", ["torch.save", "deepcopy"])
@pytest.mark.parametrize("method", ["shampoo", "soap", "kl_shampoo"])
def test_state_is_whole_after_a_change_of_blocks(method, kind):
    """Before the next step, and after one in which a parameter has no gradient."""
    optimizer, weights = after_steps(4, [(6, 5), (6, 5)], method=method)
    optimizer.param_groups[0]["block_size"] = 3
    other, copies = travelled(optimizer, weights, kind)
    for instance, members in ((optimizer, weights), (other, copies)):
        set_grads(4, members)
        members[1].grad = None
        instance.step()
    third, thirds = travelled(optimizer, weights, kind)
    assert float(third.state[thirds[1]]["step"]) == 4
    for instance, members in ((optimizer, weights), (other, copies), (third, thirds)):
        run(instance, members, 4, first_seed=5)
    assert_equal(weights, copies)
    assert_equal(weights, thirds)


def test_a_group_added_in_eval_mode_does_not_step():
    weights, late = parameters([(3, 3)]), parameters([(2, 2)])
    optimizer = Shampoo(weights, averaging="ema")
    run(optimizer, weights, 1)
    optimizer.eval()
    optimizer.add_param_group({"params": late})
    weights[0].grad = None
    set_grads(0, late)
    with pytest.raises(RuntimeError, match=r"call the optimizer's train\(\)"):
        optimizer.step()


def test_options_of_nadam_that_have_another_meaning_stay_out():
    weights = parameters([(3, 3)])
    optimizer = Shampoo(weights)
    optimizer.load_state_dict(torch.optim.NAdam(weights, lr=0.5).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert "momentum_decay" not in optimizer.param_groups[0]


def test_a_list_of_named_parameters_may_grow():
    weights = parameters([(4, 4), (4, 4)])
    optimizer = Shampoo([("first", weights[0])])
    run(optimizer, weights[:1], 1)
    optimizer.param_groups[0]["params"].append(weights[1])
    run(optimizer, weights, 1)
    assert "param 1" in repr(optimizer)
    assert optimizer.diagnostics()["refreshes"] > 0


def test_parameters_may_be_swapped_after_a_step():
    model = nn.Linear(3, 3)
    optimizer = Shampoo(model.parameters())
    run(optimizer, list(model.parameters()), 2)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        optimizer.zero_grad()
        model.load_state_dict(nn.Linear(3, 3).state_dict())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    run(optimizer, list(model.parameters()), 1)


def test_state_saved_in_eval_mode_before_there_are_averages_loads():
    model, other = nn.Linear(4, 4), nn.Linear(4, 4)
    optimizer = Shampoo(model.parameters(), averaging="ema")
    fresh = Shampoo(other.parameters(), averaging="ema")
    optimizer.eval()
    fresh.load_state_dict(optimizer.state_dict())
    run(fresh, list(other.parameters()), 1)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("flat", [False, True])
def test_averages_are_not_taken_for_weights_that_training_moves(flat, tmp_path):
    """In place, torch.distributed.checkpoint loads only what a new optimizer has."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_state_dict,
        set_state_dict,
    )

    options = StateDictOptions(flatten_optimizer_state_dict=flat)

    def saved(model, optimizer):
        weights, state = get_state_dict(model, optimizer, options=options)
        return {"model": weights, "optimizer": state}

    for number, ends in enumerate(("train", "eval")):
        model, other = nn.Linear(4, 4), nn.Linear(4, 4)
        optimizer = Shampoo(model.parameters(), averaging="ema")
        fresh = Shampoo(other.parameters(), averaging="ema")
        run(optimizer, list(model.parameters()), 3)
        getattr(optimizer, ends)()
        dcp.save(saved(model, optimizer), checkpoint_id=tmp_path / str(number))
        state = saved(other, fresh)
        dcp.load(state, checkpoint_id=tmp_path / str(number))

        def load(state=state, other=other, fresh=fresh):
            set_state_dict(
                other,
                fresh,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
                options=options,
            )

        if ends == "eval":
            with pytest.raises(ValueError, match=r"call train\(\) before saving"):
                load()
        else:
            load()
            assert_equal(model.parameters(), other.parameters())
