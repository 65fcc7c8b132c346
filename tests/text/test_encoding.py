from itertools import pairwise

import numpy as np
import pytest

from bothways.language import sentences
from bothways.text.encoding import Encoder
from bothways.text.tokenizing.tokenizer import Tokenizer

TEXTS = [
    "The first sentence. And the second one! Is there a third?\n\nYes, after a blank line.",
    "我们今天去北京旅游。明天回来！好吗？",
    "  One sentence only, without an end",
    "",
    "Before it.\n\n\x07\n\nAfter a sentence that WordPiece sees nothing of.",
    "Ünïcödé… 🙂 ends here. 🙂🙂 begins here. 中文 and English. 完。",
]


@pytest.fixture(scope="module", params=["bpe", "wordpiece"])
def tokenizer(request):
    return Tokenizer.train(TEXTS * 2, kind=request.param, vocab_size={"bpe": 290, "wordpiece": 120}[request.param])


def test_a_document_has_exactly_the_ids_that_the_tokenizer_gives(tokenizer):
    encoded = list(Encoder(tokenizer).encode(TEXTS))
    assert [document.input_ids.tolist() for document in encoded] == [tokenizer.encode(text) for text in TEXTS]
    assert [document.num_bytes for document in encoded] == [len(text.encode()) for text in TEXTS]


def test_sentences_begin_where_the_text_says(tokenizer):
    for text, document in zip(TEXTS, Encoder(tokenizer).encode(TEXTS), strict=True):
        bounds = [*document.sentence_starts.tolist(), len(document.input_ids)]
        parts = [document.input_ids[start:stop] for start, stop in pairwise(bounds)]
        expected = [tokenizer.encode(text[start:stop]) for start, stop in sentences(text)]
        assert [part.tolist() for part in parts] == [part for part in expected if part]


def test_the_first_sentence_begins_with_the_first_token(tokenizer):
    for document in Encoder(tokenizer).encode(TEXTS):
        assert document.sentence_starts[:1].tolist() == ([0] if len(document.input_ids) else [])


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_size_of_batches_changes_nothing(tokenizer, batch_size):
    whole = [document.input_ids.tolist() for document in Encoder(tokenizer).encode(TEXTS)]
    assert [d.input_ids.tolist() for d in Encoder(tokenizer).encode(iter(TEXTS), batch_size=batch_size)] == whole


@pytest.mark.parametrize("fast", [True, False])
def test_a_word_begins_in_the_first_of_the_tokens_of_its_first_character(fast):
    tokenizer = Tokenizer.train(["a few words only"] * 3, kind="bpe", vocab_size=262)
    (document,) = Encoder(tokenizer, words="characters", fast=fast).encode(["a \U0001f600\U0001f600 b"])
    assert len(document.input_ids) == 12  # a, a space, twice four bytes, a space, b
    assert np.flatnonzero(document.word_starts).tolist() == [0, 2, 6, 11]
