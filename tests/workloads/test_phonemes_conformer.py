import pytest
import torch

from submission.algoperf_api import spec
from tests.workloads.naive_ctc import collapsed, naive_edit_distance
from workloads import prng
from workloads.standin import phonemes_conformer
from workloads.standin.conformer import MaskedBatchNorm
from workloads.standin.ctc import frames_needed
from workloads.standin.packaged_data import locate
from workloads.standin.phonemes_conformer import LETTERS, PHONEMES, entry

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def phonemes():
    return phonemes_conformer.PhonemesConformerWorkload()


def spellings(table):
    return ["".join(LETTERS[i - 1] for i in row if i) for row in table["inputs"].tolist()]


def logits(workload, model, inputs):
    batch = {"inputs": inputs}
    return workload.model_fn(model, batch, None, spec.ForwardPassMode.EVAL, None, False)[0]


def test_no_spelling_is_in_two_splits(phonemes):
    words = {split: spellings(phonemes.tables[split]) for split in SPLITS}
    assert {split: len(set(rows)) for split, rows in words.items()} == phonemes_conformer.SIZES
    assert len(set().union(*words.values())) == sum(phonemes_conformer.SIZES.values())


def test_tables_say_what_the_dictionary_says(phonemes):
    path = locate("pocketsphinx", "model/en-us/cmudict-en-us.dict")
    dictionary = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
    for split in SPLITS:
        table = phonemes.tables[split]
        for word, row in zip(spellings(table), table["targets"].tolist(), strict=True):
            assert " ".join(PHONEMES[i - 1] for i in row if i) == dictionary[word]


def test_every_target_fits_into_its_word_s_frames(phonemes):
    for split in SPLITS:
        table = phonemes.tables[split]
        frames = phonemes_conformer.FRAMES_PER_LETTER * (table["inputs"] > 0).sum(1)
        assert (frames_needed(table["targets"]) <= frames).all()


@pytest.mark.parametrize(
    "line", ["ox AA K S", "extraordinary IH K S", "'cause K AH Z", "mr. M IH S", "fix(2) F IH"]
)
def test_words_of_other_kinds_are_not_read(line):
    assert entry(line) is None


def test_a_word_s_logits_depend_on_no_other_word_and_not_on_what_follows_it(phonemes):
    model, _ = phonemes.init_model_fn(prng.key(0))
    torch.nn.init.normal_(model.letter_embedding.weight)
    inputs = phonemes.tables["train"]["inputs"][:8]
    lengths = 2 * (inputs > 0).sum(1)
    together = logits(phonemes, model, inputs)
    for row in range(len(inputs)):
        # The padding's own embedding must not matter.
        with torch.no_grad():
            model.letter_embedding.weight[0] += 3
        alone = logits(phonemes, model, inputs[row : row + 1])[0]
        torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=1e-4)
        assert (alone[lengths[row] :].argmax(-1) == 0).all()


def test_wer_counts_edits_per_phoneme(phonemes):
    model, _ = phonemes.init_model_fn(prng.key(1))
    torch.nn.init.normal_(model.head.weight, std=0.3)
    result = phonemes._eval_model_on_split("validation", 30, 16, model, None, None, "")
    table = phonemes.tables["validation"]
    paths = logits(phonemes, model, table["inputs"][:30]).argmax(-1).tolist()
    targets = [[i for i in row if i] for row in table["targets"][:30].tolist()]
    errors = sum(
        naive_edit_distance(tuple(collapsed(path)), tuple(row))
        for path, row in zip(paths, targets, strict=True)
    )
    assert result["wer"] == pytest.approx(errors / sum(map(len, targets)))


def test_batch_statistics_are_those_of_real_frames():
    norm, reference = MaskedBatchNorm(6), torch.nn.BatchNorm1d(6)
    for layer in (norm, reference):
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    real = torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None]
    out = norm(x, real[..., None].float())
    torch.testing.assert_close(out[real], reference(x[real]))
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    norm.eval()
    assert torch.equal(norm(x, real[..., None].float()), norm(x))
    frozen = norm.running_mean.clone()
    norm.train()
    norm.momentum = 0.0
    norm(x)
    assert torch.equal(norm.running_mean, frozen)
