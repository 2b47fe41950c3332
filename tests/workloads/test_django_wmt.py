import pytest
import torch

from submission.algoperf_api import spec
from workloads import prng
from workloads.standin import django_wmt
from workloads.standin.django_wmt import LANGUAGES, TOKENS, VOCABULARY, DjangoWmtWorkload
from workloads.standin.vocabulary import END, PADDING, UNKNOWN

KEY = prng.key(3)


@pytest.fixture(scope="module")
def translation():
    return DjangoWmtWorkload()


@pytest.fixture(scope="module")
def model(translation):
    return translation.init_model_fn(KEY)[0]


@pytest.fixture(scope="module")
def batch(translation):
    return next(translation._build_input_queue(KEY, "train", "", 16))


def logits(translation, model, batch):
    return translation.model_fn(model, batch, None, spec.ForwardPassMode.EVAL, None, False)[0]


def test_no_message_is_in_two_splits_and_all_languages_are_in_each(translation):
    pairs = translation.pairs()
    messages = [{message for _, message, _ in rows} for rows in pairs.values()]
    assert sum(map(len, messages)) == len(set.union(*messages)) > 2000
    total = sum(map(len, pairs.values()))
    for split, rows in pairs.items():
        assert {language for language, _, _ in rows} == set(LANGUAGES)
        assert len({row[:2] for row in rows}) == len(rows)
        assert 0.05 < len(rows) / total < (0.9 if split == "train" else 0.15)


def test_the_vocabulary_holds_nothing_of_validation_and_test(translation, monkeypatch):
    pairs = translation.pairs()
    for split in ("validation", "test"):
        pairs[split][0] = LANGUAGES[0], "Page", "☃"
    monkeypatch.setattr(translation, "pairs", lambda: pairs)
    tables = translation.load_tables()
    for split in ("validation", "test"):
        assert [UNKNOWN, END] in tables[split]["targets"][:, :2].tolist()
    assert not (tables["train"]["targets"] == UNKNOWN).any()
    assert torch.equal(tables["train"]["inputs"], translation.tables["train"]["inputs"])


def test_rows_begin_with_a_language_end_with_the_end_and_weigh_what_is_predicted(translation):
    for table in translation.tables.values():
        first = table["inputs"][:, 0]
        assert set(first.tolist()) == set(range(UNKNOWN + 1, UNKNOWN + 1 + len(LANGUAGES)))
        for side in ("inputs", "targets"):
            tokens = table[side]
            assert tokens.shape[1] == TOKENS and tokens.min() >= 0 and tokens.max() < VOCABULARY
            lengths = (tokens != PADDING).sum(1)
            last = tokens.gather(1, lengths[:, None] - 1)
            assert (last == END).all() and ((tokens == END).sum(1) == 1).all()
        assert torch.equal(table["weights"], (table["targets"] != PADDING).float())


def test_a_token_s_prediction_sees_the_tokens_before_it_alone(translation, model, batch):
    changed = batch | {"targets": batch["targets"].clone()}
    changed["targets"][:, 6:] = 40
    before, after = (logits(translation, model, given) for given in (batch, changed))
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_a_translation_depends_on_the_message_and_the_language_but_not_on_padding(
    translation, model, batch
):
    before = logits(translation, model, batch)
    for position in (0, 1):
        changed = batch | {"inputs": batch["inputs"].clone()}
        changed["inputs"][:, position] += 1
        after = logits(translation, model, changed)
        assert not torch.isclose(before, after).all(2).all(1).any()
    memory = model.encoder.register_forward_hook(
        lambda _, inputs, output: torch.where(inputs[2][:, 0, 0, :, None], output, 100.0)
    )
    try:
        torch.testing.assert_close(logits(translation, model, batch), before)
    finally:
        memory.remove()
    with torch.no_grad():
        saved = model.token_embedding.weight[PADDING].clone()
        visible = (batch["inputs"] != PADDING)[:, None, None]
        first = model.encoder(model.token_embedding(batch["inputs"]), 0.0, visible)
        model.token_embedding.weight[PADDING] += 5
        second = model.encoder(model.token_embedding(batch["inputs"]), 0.0, visible)
        model.token_embedding.weight[PADDING] = saved
    real = visible[:, 0, 0]
    torch.testing.assert_close(first[real], second[real])


def test_cross_attention_is_that_of_its_definition(model):
    attention = model.decoder.blocks[0].cross_attention
    generator = torch.Generator().manual_seed(0)
    x, memory = (torch.randn(1, rows, 64, generator=generator) for rows in (3, 5))
    visible = torch.tensor([True, True, False, True, False])
    query = attention.q_proj(x[0])
    key, value = attention.kv_proj(memory[0]).split(64, dim=1)
    mixed = torch.zeros(3, 64)
    size = 64 // attention.heads
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / size**0.5
        scores[:, ~visible] = -torch.inf
        mixed[:, part] = scores.softmax(1) @ value[:, part]
    attended = attention(x, memory, visible[None, None, None])
    torch.testing.assert_close(attended[0], attention.out_proj(mixed), rtol=1e-4, atol=1e-5)


def test_the_metric_is_the_share_of_tokens_that_are_right(translation, model):
    result = translation._eval_model_on_split("test", 50, 20, model, None, KEY, "")
    table = {key: values[:50] for key, values in translation.tables["test"].items()}
    guesses = logits(translation, model, table).argmax(-1)
    real = table["targets"] != PADDING
    right = [
        guess == token
        for guess, token in zip(
            guesses[real].tolist(), table["targets"][real].tolist(), strict=True
        )
    ]
    assert result["accuracy"] == pytest.approx(sum(right) / len(right))


def test_types_are_those_of_an_encoder_and_a_decoder(translation, model):
    types = translation.model_params_types
    kinds = {
        kind.name: sum(value == kind and not name.endswith("bias") for name, value in types.items())
        for kind in set(types.values())
    }
    # Two blocks on each side; only the decoder's attend to a memory.
    assert kinds["ATTENTION_QKV"] == 4 and kinds["ATTENTION_OUT"] == 6
    assert kinds["ATTENTION_Q"] == kinds["ATTENTION_KV"] == 2
    assert kinds["EMBEDDING"] == 3 and kinds["WEIGHT"] == 2 * 4 + 1


def test_messages_are_split_by_their_hash_alone():
    names = [f"message {number}" for number in range(2000)]
    shares = [sum(django_wmt.split_of(name) == split for name in names) / 2000
              for split in ("train", "validation", "test")]  # fmt: skip
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)
