"""Averages of iterates against the formulas in float64, one weight at a time."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from submission.plan.options import ShampooOptions
from submission.shampoo.averaging import averager
from tests.submission.shampoo.operators import Operators
from tests.submission.shampoo.streams import assert_equal

MODES = ["ema", "schedule_free"]
SHAPES = [(), (3,), (2, 4), (2, 3, 2, 2)]
OPTIONS = vars(ShampooOptions(lr=0.1, averaging_share=0.1, averaging_beta=0.8))


def weights_of(shapes=SHAPES, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [torch.nn.Parameter(value.to(torch.bfloat16).to(dtype)) for value in draw]


def directions(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in weights]


@torch.no_grad()
def step(average, weights, updates, options=OPTIONS, finite=True):
    """Plain gradient descent along `updates`, averaged."""
    moving = average.begin(weights)
    for tensor, update in zip(moving, updates, strict=True):
        if finite:
            tensor.sub_((float(options["lr"]) * update).to(tensor.dtype))
    average.finish(weights, moving, torch.tensor(finite), options)


def run(average, weights, seeds, options=OPTIONS):
    for seed in seeds:
        step(average, weights, directions(weights, seed), options)


def reference(mode, start, stream, options):
    """(training's weight, evaluation's weight) after `stream`, a list of (lr, update)."""
    beta = options["averaging_beta"]
    y = x = z = average = start
    total = 0.0
    for step, (lr, update) in enumerate(stream, 1):
        if mode == "ema":
            y = y - lr * update
            average = averaged(average, y, step, options)
            x = average
        else:
            total += lr**2
            z = z - lr * update
            share = lr**2 / total if total else 0.0
            x = (1 - share) * x + share * z
            y = (1 - beta) * z + beta * x
    return y, x


def averaged(average, weight, k, options):
    """The average after the k-th step."""
    decay = options["averaging_decay"]
    if decay is None:
        decay = (1 - 1 / k) ** (1 / options["averaging_share"] - 1)
    return decay * average + (1 - decay) * weight


PLAIN = {**OPTIONS, "averaging_decay": 0.9}
STREAM = st.lists(
    st.tuples(st.sampled_from([0.0, 1e-3, 0.1, 2.0]), st.booleans(), st.sets(st.integers(0, 3))),
    max_size=8,
)


@settings(max_examples=60)
@example("ema", [(0.1, True, set())] * 3, PLAIN)
@example("ema", [(0.1, True, set())] * 3, OPTIONS)
@given(
    st.sampled_from(MODES),
    STREAM,
    st.fixed_dictionaries(
        {
            "averaging_beta": st.sampled_from([0.3, 0.9, 1.0]),
            "averaging_decay": st.sampled_from([None, 0.0, 0.9]),
            "averaging_share": st.sampled_from([0.03, 0.2, 0.5]),
        }
    ),
)
def test_any_stream_agrees_with_the_formulas(mode, stream, options):
    average, weights = averager(mode), weights_of()
    starts = [weight.detach().numpy().copy() for weight in weights]
    taken = [[] for _ in weights]
    for seed, (lr, finite, absent) in enumerate(stream):
        updates = directions(weights, seed)
        present = [i for i in range(len(weights)) if i not in absent]
        step(
            average,
            [weights[i] for i in present],
            [updates[i] for i in present],
            {**options, "lr": lr},
            finite,
        )
        for i in present if finite else ():
            taken[i].append((lr, updates[i].numpy()))
    expected = [
        reference(mode, start, row, options) for start, row in zip(starts, taken, strict=True)
    ]
    trained = [weight.detach().clone() for weight in weights]
    for position in (0, 1):
        for weight, pair in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight.detach().numpy(), pair[position], 1e-12, 1e-12)
        average.eval(weights, options)
    average.train(weights)
    assert_equal(weights, trained)


@pytest.mark.parametrize("mode", MODES)
def test_float32_agrees_with_the_formulas(mode):
    average, weights = averager(mode), weights_of(dtype=torch.float32)
    starts = [weight.detach().double().numpy() for weight in weights]
    run(average, weights, range(30))
    average.eval(weights, OPTIONS)
    for i, (weight, start) in enumerate(zip(weights, starts, strict=True)):
        stream = [(0.1, directions(weights, seed)[i].numpy()) for seed in range(30)]
        expected = reference(mode, start, stream, OPTIONS)[1]
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_skipped_step_changes_nothing(mode, dtype):
    average, weights = averager(mode), weights_of(dtype=dtype)
    for seeds in (range(0), range(4)):  # skipped first, and later
        run(average, weights, seeds)
        step(average, weights, directions(weights, 0), finite=False)
        before = [weight.detach().clone() for weight in weights]
        state = [copy.deepcopy(average.state_tensors(weight)) for weight in weights]
        step(average, weights, directions(weights, 9), finite=False)
        assert_equal(weights, before)
        for weight, saved in zip(weights, state, strict=True):
            assert_equal(average.state_tensors(weight).values(), saved.values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lr", [torch.tensor(0.1), torch.tensor([0.1], dtype=torch.float64)])
def test_lr_may_be_a_tensor(mode, lr):
    results = []
    for value in (float(lr), lr):
        average, weights = averager(mode), weights_of()
        run(average, weights, range(3), {**OPTIONS, "lr": value})
        results.append(weights)
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-7)


def test_bf16_weights_are_the_float32_ones_rounded():
    exact, rounded = weights_of(dtype=torch.float32), weights_of(dtype=torch.bfloat16)
    start = [weight.detach().clone() for weight in rounded]
    averages = averager("schedule_free"), averager("schedule_free")
    options = {**OPTIONS, "lr": 1e-3}  # each step is below bf16's spacing, all together above it
    for average, weights in zip(averages, (exact, rounded), strict=True):
        for _ in range(50):
            step(average, weights, [torch.ones_like(weight) for weight in weights], options)
    assert_equal([weight.bfloat16() for weight in exact], rounded)
    assert not any(torch.equal(a, b) for a, b in zip(rounded, start, strict=True))
    for average, weights in zip(averages, (exact, rounded), strict=True):
        average.eval(weights, options)
    assert_equal([weight.bfloat16() for weight in exact], rounded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_someone_else_writes_are_followed(dtype):
    average, (weight,) = averager("schedule_free"), weights_of([(20,)], dtype)
    run(average, [weight], range(3))
    with torch.no_grad():
        weight.fill_(1000.0)
    assert (average.begin([weight])[0] - 1000).abs().max() < 0.1


@pytest.mark.parametrize("mode", MODES)
def test_modes_change_nothing_twice_or_before_the_first_step(mode):
    average, weights = averager(mode), weights_of()
    start = [weight.detach().clone() for weight in weights]
    average.eval(weights, OPTIONS)
    assert_equal(weights, start)
    average.train(weights)
    assert_equal(weights, start)

    run(average, weights, range(3))
    trained = [weight.detach().clone() for weight in weights]
    average.train(weights)
    assert_equal(weights, trained)
    average.eval(weights, OPTIONS)
    averaged = [weight.detach().clone() for weight in weights]
    assert not any(torch.equal(a, b) for a, b in zip(averaged, trained, strict=True))
    average.eval(weights, OPTIONS)
    assert_equal(weights, averaged)
    average.train(weights)
    assert_equal(weights, trained)


@pytest.mark.parametrize("mode", MODES)
def test_no_step_in_eval_mode(mode):
    average, weights = averager(mode), weights_of()
    run(average, weights, range(2))
    average.eval(weights, OPTIONS)
    before = [weight.detach().clone() for weight in weights]
    with pytest.raises(RuntimeError, match=r"train\(\)"):
        average.begin(weights)
    assert_equal(weights, before)
    average.train(weights)
    run(average, weights, range(1))


@pytest.mark.parametrize("mode", MODES)
def test_weights_may_be_rounded_before_they_are_evaluated(mode):
    average, weights = averager(mode), weights_of(dtype=torch.float32)
    run(average, weights, range(3))
    average.eval(weights, OPTIONS)
    exact = [weight.detach().clone() for weight in weights]
    average.train(weights)
    for weight in weights:
        weight.data = weight.data.bfloat16()
    average.eval(weights, OPTIONS)
    for weight, value in zip(weights, exact, strict=True):
        torch.testing.assert_close(weight.detach().float(), value, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("saved_in_eval", [False, True])
def test_state_survives_a_checkpoint(mode, dtype, saved_in_eval):
    average, weights = averager(mode), weights_of(dtype=dtype)
    run(average, weights[1:], range(1))
    run(average, weights, range(1, 4))
    if saved_in_eval:
        average.eval(weights, OPTIONS)
    file = io.BytesIO()
    torch.save([(weight.detach(), average.state_tensors(weight)) for weight in weights], file)
    file.seek(0)
    again, copies = averager(mode), []
    for value, state in torch.load(file, weights_only=True):
        copies.append(torch.nn.Parameter(value))
        again.load(copies[-1], {**state, "step": torch.tensor(3.0)})
    assert again.training != saved_in_eval
    for instance, row in ((average, weights), (again, copies)):
        instance.train(row)
        run(instance, row, range(4, 6))
    assert_equal(weights, copies)
    for instance, row in ((average, weights), (again, copies)):
        instance.eval(row, OPTIONS)
    assert_equal(weights, copies)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("mode", MODES)
def test_copies_go_their_own_way(mode, clone):
    average, weights = averager(mode), weights_of()
    run(average, weights, range(2))
    again, copies = clone((average, weights))
    for instance, row in ((average, weights), (again, copies)):
        run(instance, row, range(2, 4))
        instance.eval(row, OPTIONS)
    assert_equal(weights, copies)


def test_a_state_that_does_not_fit_is_refused():
    average, (weight,) = averager("schedule_free"), weights_of([(3, 2)], torch.bfloat16)
    run(average, [weight], range(1))
    good = copy.deepcopy(average.state_tensors(weight))
    for broken in (
        {**good, "z": torch.zeros(2, 3)},
        {**good, "train_weight": torch.zeros(3)},
        {name: good[name] for name in ("z", "remainder")},
    ):
        with pytest.raises(ValueError, match=r"state_dict: .* of shape \(3, 2\)"):
            average.load(weight, broken)
    assert_equal(average.state_tensors(weight).values(), good.values())
    average.load(weight, {"exp_avg": torch.zeros(3, 2)})
    assert average.state_tensors(weight) == {}


def test_the_state_of_full_precision_weights_has_no_remainder():
    average, (weight,) = averager("schedule_free"), weights_of([(3, 2)], torch.bfloat16)
    saved = {"z": torch.ones(3, 2), "weight_sum": torch.ones((), dtype=torch.float64)}
    average.load(weight, saved)
    assert not average.state_tensors(weight)["remainder"].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_step_takes_as_many_operators_for_many_weights_as_for_two(mode, dtype, loaded):
    counts = []
    for shapes in ([(3,), (2, 2)], [(3,), (2, 2)] * 20):
        average, weights = averager(mode), weights_of(shapes, dtype)
        run(average, weights[1:], range(1))
        run(average, weights, range(2))
        if loaded:
            for weight in weights:
                average.load(weight, copy.deepcopy(average.state_tensors(weight)))
        finite = torch.tensor(True)
        with torch.no_grad(), Operators() as operators:
            average.finish(weights, average.begin(weights), finite, OPTIONS)
        counts.append(operators.counts)
    assert counts[0] == counts[1]
    assert not counts[0].keys() & {"_local_scalar_dense", "is_nonzero", "item"}


@pytest.mark.parametrize("mode", MODES)
def test_dtypes_and_layouts_may_mix(mode):
    mixed = [
        *weights_of([(2, 3, 4, 4)], torch.float32),
        *weights_of([(5,), ()], torch.bfloat16),
        *weights_of([(5,)], torch.float64),
    ]
    mixed[0].data = mixed[0].data.to(memory_format=torch.channels_last)
    plain = [
        torch.nn.Parameter(w.detach().clone(memory_format=torch.contiguous_format)) for w in mixed
    ]
    for row in (mixed, plain):
        average = averager(mode)
        run(average, row, range(3))
        average.eval(row, OPTIONS)
    assert_equal(mixed, plain)
    assert mixed[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_mean_age_of_averaged_weights_is_a_share_of_the_steps(share):
    average, (weight,) = averager("ema"), weights_of([()])
    options = {**OPTIONS, "averaging_share": share}
    for step in range(1, 1001):
        with torch.no_grad():
            weight.fill_(step)
        average.finish([weight], average.begin([weight]), torch.tensor(True), options)
    average.eval([weight], options)
    # Of steps in the open interval whose centres are the whole numbers.
    assert 1000 - weight.item() == pytest.approx(share * 1000, abs=1)


def test_the_share_of_averages_saved_without_steps_begins_anew():
    average, (weight, other) = averager("ema"), weights_of([(3,), (3,)])
    run(average, [weight, other], range(2))
    average.load(weight, {"average": torch.ones(3, dtype=torch.float64)})
    assert average.state_tensors(weight)["average_steps"] == 0
    run(average, [weight, other], range(1))
    assert_equal([average.state_tensors(weight)["average"]], [weight])
    assert average.state_tensors(other)["average_steps"] == 3, "not the loaded one's count"


def test_the_ema_of_bf16_weights_is_in_float32():
    average, (weight,) = averager("ema"), weights_of([(50,)], torch.bfloat16)
    start = weight.detach().clone()
    with torch.no_grad():
        average.begin([weight])[0].add_(1)
    options = {**OPTIONS, "averaging_decay": 0.999}
    average.finish([weight], [weight], torch.tensor(True), options)
    expected = start.float().lerp(weight.detach().float(), 0.001)
    assert average.state_tensors(weight)["average"].dtype == torch.float32
    torch.testing.assert_close(
        average.state_tensors(weight)["average"], expected, rtol=1e-6, atol=0
    )


def test_an_unknown_mode_is_refused():
    assert averager(None) is None
    with pytest.raises(ValueError, match="'swa'"):
        averager("swa")
