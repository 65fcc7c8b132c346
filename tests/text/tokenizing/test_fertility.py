import json

import numpy as np
import pytest

from bothways.errors import UserError
from bothways.text.tokenizing.fertility import Fertility, Meter, comes_back, language_of, measure
from bothways.text.tokenizing.tokenizer import KINDS, Tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog, and packs my box with five dozen liquor jugs! "
CHINESE = "我们今天去北京旅游，明天回家。他喜欢在晚上读历史书。"
RUSSIAN = "Быстрая лиса прыгает через собаку."
TRAINED = [ENGLISH * 30, CHINESE * 30]
SIZES = {"bpe": 320, "wordpiece": 115, "unigram": 420}


@pytest.fixture(scope="module")
def trained():
    return {kind: Tokenizer.train(TRAINED, kind=kind, vocab_size=size, exact=False) for kind, size in SIZES.items()}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        (CHINESE + ENGLISH, "zh"),
        (RUSSIAN, "other"),
        (RUSSIAN + "cat", "other"),
        ("Müller, œuvre", "en"),
        ("", "other"),
        ("123 !?", "other"),
        ("ab вг", "en"),
        ("a вг", "other"),
    ],
)
def test_the_language_of_a_text(text, language):
    assert language_of(text) == language


def test_counts_by_language(trained):
    result = measure(trained["bpe"], [ENGLISH, CHINESE, RUSSIAN, ENGLISH]).to_dict()
    english, chinese, other = (result["languages"][name] for name in ("en", "zh", "other"))
    tokens = len(trained["bpe"].encode(ENGLISH))
    assert english["texts"] == 2
    assert english["characters"] == english["bytes"] == 2 * len(ENGLISH)
    assert english["words"] == 2 * 18
    assert english["tokens"] == 2 * tokens
    assert english["bytes_per_token"] == len(ENGLISH) / tokens
    assert english["tokens_per_word"] == tokens / 18
    assert english["words_per_token"] == 18 / tokens
    assert chinese["characters"] == len(CHINESE)
    assert chinese["bytes"] == 3 * len(CHINESE)
    assert chinese["words"] == len(CHINESE) - 3  # each character but the three stops
    assert other["words"] == 5
    assert result["tokens"] == english["tokens"] + chinese["tokens"] + other["tokens"]
    assert result["characters_per_token"] == result["characters"] / result["tokens"]


def test_words_with_apostrophes_and_hyphens_are_one(trained):
    assert measure(trained["bpe"], ["don't well-kept fox's, 'tis"]).total.words == 4


def test_a_known_number_of_words_is_taken(trained):
    meter = Meter(trained["bpe"])
    meter.add("a b c", trained["bpe"].encode("a b c"), num_words=77)
    assert meter.fertility.total.words == 77


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_count_as_texts_do(trained, kind):
    texts = [ENGLISH, CHINESE, "", "🙂 unknown ж", RUSSIAN]
    pairs = [(text, trained[kind].encode(text)) for text in texts]
    whole = measure(trained[kind], texts).to_dict()
    assert measure(trained[kind], pairs).to_dict() == whole
    assert measure(trained[kind], iter([texts[0], *pairs[1:3], *texts[3:]])).to_dict() == whole
    json.dumps(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_add_up_to_the_whole_in_any_order(trained, kind):
    texts = [ENGLISH, CHINESE, "🙂 ж", RUSSIAN, "ж ж", "the fox"]
    whole = measure(trained[kind], texts).to_dict()
    for order in ((0, 1, 2), (2, 0, 1)):
        parts = [measure(trained[kind], texts[at : at + 2]) for at in (0, 2, 4)]
        total = Fertility.of(trained[kind])
        for at in order:
            total.merge(parts[at])
        assert total.to_dict() == whole


def test_counts_of_two_tokenizers_do_not_add_up(trained):
    with pytest.raises(UserError, match="two different tokenizers cannot be added up"):
        Fertility.of(trained["bpe"]).merge(Fertility.of(trained["wordpiece"]))


def test_unknown_tokens_and_characters(trained):
    texts = ["the ж fox", "жжъ\U00030000 dog", "the fox"]
    result = measure(trained["wordpiece"], texts).to_dict()
    assert result["unknown"] == 2
    assert result["unknown_rate"] == 2 / result["tokens"]
    assert result["unknown_characters"] == [
        {"character": "ж", "code_point": "U+0436", "texts": 2},
        {"character": "ъ", "code_point": "U+044A", "texts": 1},
        {"character": "\U00030000", "code_point": "U+30000", "texts": 1},
    ]
    assert measure(trained["bpe"], texts).to_dict()["unknown"] == 0
    assert measure(trained["unigram"], texts).to_dict()["unknown"] == 0


def test_the_vocabulary_used(trained):
    tokenizer = trained["wordpiece"]
    fertility = measure(tokenizer, ["fox fox dog"])
    ordinary = len(tokenizer) - 4  # but [PAD] [CLS] [SEP] [MASK]
    ids = tokenizer.encode("fox fox dog")
    assert fertility.vocabulary_used == len(set(ids)) / ordinary
    assert fertility.used.sum() == len(ids)
    assert fertility.used[ids[0]] == np.count_nonzero(np.array(ids) == ids[0])


def test_the_longest_tokens(trained):
    fertility = measure(trained["bpe"], [ENGLISH])
    longest = fertility.longest(5)
    produced = {trained["bpe"].backend.decode([index]) for index in trained["bpe"].encode(ENGLISH)}
    assert longest == sorted(produced, key=lambda token: (-len(token), token))[:5]
    assert len(fertility.longest()) <= 20


@pytest.mark.parametrize("kind", KINDS)
def test_texts_come_back(trained, kind):
    texts = [ENGLISH, CHINESE, "  the\tQUICK\n fox,  ", "Bróẃn fóx", "quick\u200b dog\x00"]
    assert measure(trained[kind], texts).to_dict()["round_trip"] == {"checked": 5, "not_back": 0}


def test_what_does_not_come_back_is_counted(trained):
    wordpiece, bpe = trained["wordpiece"], trained["bpe"]
    assert not comes_back(wordpiece, "the ж fox", wordpiece.encode("the ж fox"))
    assert not comes_back(bpe, "the fox", bpe.encode("the  fox"))
    assert not comes_back(bpe, "the fox", bpe.encode("The fox"))
    assert comes_back(wordpiece, "The  Fox", wordpiece.encode("the fox"))
    assert not comes_back(wordpiece, "the fox", wordpiece.encode("the dog"))
    assert comes_back(trained["unigram"], "a▁b", trained["unigram"].encode("a▁b"))
    assert measure(wordpiece, ["the fox", "the ж"]).to_dict()["round_trip"] == {"checked": 2, "not_back": 1}


@pytest.mark.parametrize(("every", "checked"), [(1, 7), (3, 3), (0, 0), (100, 1)])
def test_one_text_in_so_many_is_checked(trained, every, checked):
    assert measure(trained["bpe"], ["the fox"] * 7, check_every=every).checked == checked


def test_an_impossible_share_of_checks_is_refused(trained):
    with pytest.raises(UserError, match="check_every must be 0 or more, not -1"):
        measure(trained["bpe"], [], check_every=-1)


def test_nothing_has_no_ratios(trained):
    result = measure(trained["bpe"], []).to_dict()
    assert result["tokens"] == 0
    assert result["bytes_per_token"] is None
    assert result["unknown_rate"] is None
    assert result["languages"] == {}
    assert result["vocabulary_used"] == 0
