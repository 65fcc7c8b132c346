import lzma
import math
import random

import numpy as np
import pytest

from bothways.evaluation.baselines import (
    most_frequent_share,
    tfidf_logistic_regression,
    unigram_bits_per_byte,
    xz_bits_per_byte,
)
from bothways.text.shards import EncodedDocument, gather


def corpus(*documents):
    return gather(
        EncodedDocument(input_ids=np.array(ids, dtype=np.int64), sentence_starts=np.array([0]), num_bytes=len(ids))
        for ids in documents
    )


def topic(kind, rng):
    words = {"sea": ["ship", "wave", "harbour"], "land": ["road", "hill", "cart"]}[kind]
    return " ".join(rng.choice(words) if at % 3 == 0 else "the" for at in range(9))


def test_tfidf_learns_what_words_tell():
    rng = random.Random(0)
    labels = ["sea", "land"] * 40
    texts = [topic(label, rng) for label in labels]
    guessed = tfidf_logistic_regression(texts[:60], labels[:60], texts[60:])
    assert guessed == labels[60:]


def test_tfidf_learns_what_pairs_of_words_tell():
    texts = ["not good but bad", "not bad but good", "bad but not good", "good but not bad"] * 5
    labels = ["bad", "good", "bad", "good"] * 5
    assert tfidf_logistic_regression(texts, labels, texts[:4]) == labels[:4]


def test_tfidf_reads_chinese_by_characters():
    texts, labels = ["这本书很好", "房间太吵了", "书写得好", "房间很吵"] * 3, ["book", "hotel"] * 6
    assert tfidf_logistic_regression(texts, labels, ["好书", "吵的房间"]) == ["book", "hotel"]


def test_tfidf_is_the_same_every_time():
    rng = random.Random(1)
    labels = [rng.choice(["sea", "land"]) for _ in range(60)]
    texts = [topic(rng.choice(["sea", "land"]), rng) for _ in labels]  # labels that nothing tells
    assert tfidf_logistic_regression(texts, labels, texts) == tfidf_logistic_regression(texts, labels, texts)


def test_the_unigram_knows_the_frequencies_of_training_with_one_added_to_each():
    train = corpus([0, 0, 0, 1], [2])
    assert unigram_bits_per_byte(train, corpus([0, 1]), 4) == pytest.approx(-math.log2(4 / 9 * 2 / 9) / 2)
    assert unigram_bits_per_byte(train, corpus([3, 3], [3]), 4) == pytest.approx(math.log2(9))


def test_the_unigram_of_the_text_itself_comes_near_its_entropy():
    rng = np.random.default_rng(0)
    ids = rng.choice(5, size=20_000, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    share = np.bincount(ids) / len(ids)
    found = unigram_bits_per_byte(corpus(ids), corpus(ids), 5)  # a token is a byte here
    assert found == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-4)


def test_the_share_of_the_commonest_token():
    assert most_frequent_share(corpus([1, 1, 2]), np.array([1, 2, 2, 1]), 3) == 0.5
    assert most_frequent_share(corpus([1, 1, 2]), np.array([0, 2]), 3) == 0


def test_xz_sees_all_texts_as_one_stream():
    once, twice = xz_bits_per_byte(["abc" * 200]), xz_bits_per_byte(["abc" * 200] * 2)
    assert twice < 0.6 * once, "what the second text repeats costs almost nothing"
    stream = "河流\nriver".encode()
    expected = 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / len(stream)
    assert xz_bits_per_byte(["河流", "river"]) == expected


def test_xz_cannot_shrink_noise():
    noise = "".join(chr(byte) for byte in np.random.default_rng(0).integers(33, 127, size=5000))
    assert math.log2(94) < xz_bits_per_byte([noise]) < 7.5
