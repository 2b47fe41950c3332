"""The input queue: what a batch depends on, and that a resumed queue goes on without a seam."""

import pytest
import torch

from workloads import prng
from workloads.standin.batches import TrainQueue, eval_batches

KEY = prng.key(1)


def table(rows):
    values = torch.arange(rows)
    return {"inputs": values[:, None].float(), "targets": values}


def noise(batch, generator):
    return batch | {"inputs": batch["inputs"] + generator.random()}


def take(queue, count):
    return [next(queue) for _ in range(count)]


def equal(first, second):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        for a, b in zip(first, second, strict=True)
    )


def test_each_epoch_visits_rows_once_in_a_new_order_and_drops_the_remainder():
    queue = TrainQueue(table(10), KEY, 3)
    epochs = [torch.cat([b["targets"] for b in take(queue, 3)]).tolist() for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert epochs[0] != epochs[1] != epochs[2]
    assert {row for epoch in epochs for row in epoch} == set(range(10))


def test_batches_depend_on_the_key_alone():
    def build(key):
        return take(TrainQueue(table(10), key, 3, noise), 7)

    torch.manual_seed(0)
    first = build(KEY)
    torch.manual_seed(1)
    assert equal(first, build(KEY))
    assert not equal(first, build(prng.key(2)))


@pytest.mark.parametrize("given_out", [0, 1, 3, 5])
def test_a_resumed_queue_goes_on_where_it_stopped(given_out):
    queue = TrainQueue(table(10), KEY, 3, noise)
    take(queue, given_out)
    state = queue.state_dict()
    assert all(type(value) is int for value in state.values())
    expected = take(queue, 8)
    resumed = TrainQueue(table(10), KEY, 3, noise)
    take(resumed, 2)
    resumed.load_state_dict(state)
    assert equal(expected, take(resumed, 8))


def test_a_state_of_another_stream_is_refused():
    state = TrainQueue(table(10), KEY, 3).state_dict()
    with pytest.raises(ValueError, match="rng_0"):
        TrainQueue(table(10), prng.key(2), 3).load_state_dict(state)
    with pytest.raises(ValueError, match="batch_size"):
        TrainQueue(table(10), KEY, 4).load_state_dict(state)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_an_impossible_batch_size_is_refused(batch_size):
    with pytest.raises(ValueError, match="between 1 and the 10 rows"):
        TrainQueue(table(10), KEY, batch_size)


def test_a_table_s_own_weights_travel_with_its_rows():
    weighted = table(10) | {"weights": torch.arange(10) / 10}
    for batch in take(TrainQueue(weighted, KEY, 3), 4):
        torch.testing.assert_close(batch["weights"], batch["targets"] / 10)


def test_evaluation_batches_pad_the_last_with_weight_zero():
    batches = list(eval_batches(table(10), 4))
    assert [len(b["targets"]) for b in batches] == [4, 4, 4]
    assert torch.cat([b["weights"] for b in batches]).tolist() == [1.0] * 10 + [0.0] * 2
    assert torch.cat([b["targets"] for b in batches]).tolist() == [*range(10), 0, 0]
