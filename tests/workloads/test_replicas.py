"""Ranks that share a batch: rows, dropout masks, gradients and names are those of one process."""

import pytest
import torch
from torch import nn

from common.cli import UserError
from tests import training_ranks
from workloads import prng
from workloads.standin import replicas
from workloads.standin.batches import TrainQueue
from workloads.standin.django_wmt import Translator
from workloads.standin.flights_dlrm import NUMERIC, TABLE_SIZES, Dlrm
from workloads.standin.mnist_digits import shift_images
from workloads.standin.mnist_vit import VisionTransformer
from workloads.standin.molecules_gnn import GraphNetwork, graph_tables
from workloads.standin.smiles import parse
from workloads.standin.stdlib_lm import LanguageModel
from workloads.standin.unet import UNet

WORLD, BATCH = 2, 8


def images():
    return (torch.randn(BATCH, 1, 28, 28),)


def slices():
    return (torch.randn(BATCH, 16, 16),)


def text():
    return (torch.randint(0, 256, (BATCH, 64)),)


def translations():
    return tuple(torch.randint(0, 200, (2, BATCH, 16)))


def flights():
    return (torch.cat([torch.randn(BATCH, len(NUMERIC)), torch.ones(BATCH, len(TABLE_SIZES))], 1),)


def molecules():
    return tuple(map(torch.from_numpy, graph_tables([parse("C[NH2+]C=O"), parse("CC#N")] * 4)))


MODELS = {
    VisionTransformer: images,
    LanguageModel: text,
    Dlrm: flights,
    UNet: slices,
    Translator: translations,
    GraphNetwork: molecules,
}


def gradients(rank, kind):
    """The gradients of a loss with dropout over the rank's share of a batch, by bare names."""
    torch.manual_seed(0)
    whole = MODELS[kind]()
    model = kind()
    if kind is VisionTransformer:  # whose head starts at zero and lets no gradient through
        nn.init.normal_(model.head.weight, std=0.1)
    model = replicas.replicate(model, lambda replica: replica(*(part[:1] for part in whole)))
    torch.manual_seed(1)
    share = [part[replicas.rows(BATCH)] for part in whole]
    model(*share, dropout_rate=0.3).square().mean().backward()
    return {name: p.grad for name, p in replicas.bare(model).named_parameters()}, torch.rand(1)


@pytest.mark.parametrize("kind", MODELS)
def test_ranks_drop_and_differentiate_what_one_process_would(kind):
    expected, next_random = gradients(0, kind)
    for grads, random in training_ranks.run(WORLD, gradients, kind):
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-7, msg=name)
        assert random == next_random, "the random state is another one after the forward pass"


def refusals(rank):
    messages = []
    for attempt in (
        lambda: replicas.rows(BATCH + 1),
        lambda: replicas.replicate(
            nn.Sequential(nn.BatchNorm1d(3)), lambda net: net(torch.ones(2, 3))
        ),
    ):
        try:
            attempt()
        except UserError as error:
            messages.append(str(error))
    return messages


def test_what_cannot_be_shared_is_refused():
    rows, norm = training_ranks.run(WORLD, refusals)[1]
    assert "--nproc=2: the global batch of 9 examples does not divide evenly" in rows
    assert "Sequential has batch normalisation" in norm


def test_shares_of_a_queue_make_up_its_batches_with_their_augmentation():
    table = {"inputs": torch.randn(20, 1, 28, 28), "targets": torch.arange(20)}

    def take(share):
        def shifted(batch, generator):
            return shift_images(batch, generator, background=0.0)

        queue = TrainQueue(table, prng.key(1), BATCH, shifted, share)
        return [next(queue) for _ in range(5)], queue.state_dict()

    whole, state = take(slice(None))
    parts = [take(slice(start, start + BATCH // WORLD)) for start in (0, BATCH // WORLD)]
    for index, batch in enumerate(whole):
        for name, rows in batch.items():
            assert torch.equal(torch.cat([part[index][name] for part, _ in parts]), rows)
    assert [part_state for _, part_state in parts] == [state] * WORLD


def test_alone_nothing_is_shared_or_wrapped():
    model = nn.Linear(2, 2)
    assert (replicas.rank(), replicas.count(), replicas.rows(7)) == (0, 1, slice(0, 7))
    assert replicas.replicate(model, lambda _: pytest.fail("called")) is model
    compiled = torch.compile(model)
    assert any(name.startswith("_orig_mod.") for name in compiled.state_dict())
    assert replicas.bare(compiled) is model
