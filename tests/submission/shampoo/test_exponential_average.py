"""The horizon of exponential averages, and their dtype."""

import pytest
import torch

from submission.shampoo.averaging import averager
from tests.submission.shampoo.test_averaging import OPTIONS, assert_equal, run, weights_of


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("start", [0, 300])
def test_the_mean_age_of_averaged_weights_is_a_share_of_the_steps(share, start):
    average, (weight,) = averager("ema"), weights_of([()])
    options = {**OPTIONS, "averaging_share": share, "averaging_start": start}
    for step in range(1, 1001):
        with torch.no_grad():
            weight.fill_(step)
        average.finish([weight], average.begin([weight]), torch.tensor(True), options)
    average.eval([weight], options)
    # Of steps in the open interval whose centres are the whole numbers.
    steps = 1000 - start
    assert 1000 - weight.item() == pytest.approx(share * steps, abs=1)


def test_the_first_weights_are_forgotten_at_the_first_step():
    average, weights = averager("ema"), weights_of()
    run(average, weights, range(1))
    trained = [weight.detach().clone() for weight in weights]
    average.eval(weights, OPTIONS)
    assert_equal(weights, trained)


def test_the_share_of_averages_saved_without_steps_begins_anew():
    average, (weight,) = averager("ema"), weights_of([(3,)])
    average.load(weight, {"average": torch.ones(3, dtype=torch.float64)})
    assert average.state_tensors(weight)["average_steps"] == 0
    run(average, [weight], range(1))
    assert_equal([average.state_tensors(weight)["average"]], [weight])


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
