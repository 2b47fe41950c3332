import pytest

from workloads.standin.vocabulary import END, PADDING, UNKNOWN, Vocabulary

TEXTS = ["the page of the site", "the page", "a page %(name)s", "%(name)s"]


def test_frequent_pieces_are_tokens_and_others_are_spelt():
    characters = len(set("".join(TEXTS)))
    vocabulary = Vocabulary(TEXTS, 3 + 1 + characters + 3, tags=["<de>"])
    assert len(vocabulary) == 3 + 1 + characters + 3
    # " page" comes three times, "%(name)s" and "the" twice, and other words once.
    assert len(vocabulary.encode("the page")) == 2
    assert len(vocabulary.encode("%(name)s")) == 1
    assert len(vocabulary.encode(" of")) == 3
    assert vocabulary.encode(" of") == [vocabulary.encode(character)[0] for character in " of"]


def test_texts_can_be_read_back_and_tokens_are_told_apart():
    vocabulary = Vocabulary(TEXTS, 40, tags=["<de>", "<fr>"])
    names = {token: name for name, token in vocabulary._tokens.items()}
    for text in [*TEXTS, "the pages of a stone"]:
        assert "".join(names[token] for token in vocabulary.encode(text)) == text
    assert vocabulary.encode("xü") == [UNKNOWN, UNKNOWN]
    tags = [vocabulary.tag("<de>"), vocabulary.tag("<fr>")]
    assert len({PADDING, END, UNKNOWN, *tags}) == 5
    assert max(names) == len(vocabulary) - 1 and len(vocabulary) <= 40


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts():
    first, second = Vocabulary(TEXTS, 24), Vocabulary(TEXTS[::-1], 24)
    assert first._tokens == second._tokens


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="characters have no room among 8 tokens"):
        Vocabulary(TEXTS, 8)
