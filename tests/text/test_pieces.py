import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.pieces import Pieces
from bothways.text.shards import Corpus, EncodedDocument, gather

CAUSAL = CausalLM(bos_id=1, eos_id=2)


def corpus_of(documents):
    """Return a corpus of documents given as lists of sentence lengths; its tokens count on from 10."""
    made, token = [], 10
    for sentences in documents:
        size = sum(sentences)
        starts = np.cumsum([0, *sentences[:-1]])
        ids = np.arange(token, token + size)
        made.append(EncodedDocument(input_ids=ids, sentence_starts=starts, num_bytes=4 * size))
        token += size
    return gather(made)


def in_two_shards(documents):
    half = len(documents) // 2
    return Corpus([*corpus_of(documents[:half]).shards, *corpus_of(documents[half:]).shards])


lengths = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=20), min_size=1, max_size=8)


@given(documents=lengths, tokens=st.integers(1, 60))
def test_pieces_are_whole_sentences_and_together_all_the_text(documents, tokens):
    whole = corpus_of(documents)
    pieces = Pieces(whole, tokens)
    read, expected = (np.concatenate([each.document(index) for index in range(len(each))]) for each in (pieces, whole))
    assert np.array_equal(read, expected)
    sentences = [part.tolist() for index in range(len(pieces)) for part in pieces.document_sentences(index)]
    assert sentences == [part.tolist() for index in range(len(whole)) for part in whole.document_sentences(index)]
    assert pieces.num_tokens == whole.num_tokens
    longest = max(size for document in documents for size in document)
    assert pieces.document_tokens.max() <= 1.5 * tokens + longest


def test_pieces_of_a_document_are_about_equally_long():
    pieces = Pieces(corpus_of([[5] * 100, [5] * 7]), 100)
    assert pieces.document_tokens.tolist() == [100] * 5 + [35]
    assert pieces.document_bytes.tolist() == [400] * 5 + [140]


@pytest.mark.parametrize("make", [corpus_of, in_two_shards])
def test_a_piece_knows_its_document_and_what_is_around_it(make):
    pieces = Pieces(make([[4] * 6, [3], [4] * 3, [2, 2]]), 8)
    assert [pieces.document(index).tolist()[0] for index in range(len(pieces))][:4] == [10, 18, 26, 34]
    origins = [pieces.origin(index) for index in range(len(pieces))]
    assert [origins.count(origin) for origin in dict.fromkeys(origins)] == [3, 1, 2, 1]
    assert [pieces.ends(index) for index in range(len(pieces))] == [False, False, True, True, False, True, True]
    before = [pieces.token_before(index) for index in range(len(pieces))]
    assert [known is None for known in before] == [True, False, False, True, True, False, True]
    assert before[1:3] == [17, 25]


def test_a_whole_document_begins_and_ends():
    whole = in_two_shards([[4] * 6, [3], [2]])
    assert [whole.token_before(index) for index in range(3)] == [None] * 3
    assert all(whole.ends(index) for index in range(3))
    assert len({whole.origin(index) for index in range(3)}) == 3


@given(documents=lengths, tokens=st.integers(1, 60), length=st.integers(1, 40))
def test_a_gpt_predicts_every_token_and_end_once_whatever_the_pieces(documents, tokens, length):
    pieces = Pieces(corpus_of(documents), tokens)
    rows = CAUSAL.prepare(pieces, np.arange(len(pieces)), length, np.random.default_rng(0))
    predicted = np.concatenate([row.targets["language_model"].value for row in rows]).tolist()
    size = pieces.num_tokens
    assert sorted(predicted) == [2] * len(documents) + list(range(10, 10 + size))
    read = np.concatenate([row.input_ids for row in rows]).tolist()
    assert read.count(1) == len(documents)
    follows = {
        (int(row.input_ids[at]), int(value))
        for row in rows
        for at, value in zip(row.targets["language_model"].index, row.targets["language_model"].value, strict=True)
    }
    assert all(before in (1, value - 1) or value == 2 for before, value in follows)


def test_rows_of_one_sequence_are_as_many_as_there_can_be():
    pieces = Pieces(corpus_of([[7] * 40, [3] * 5]), 70)
    rows = CAUSAL.prepare(pieces, np.arange(len(pieces)), 32, np.random.default_rng(0))
    alone = sum(len(row) == 32 and row.sequence_ids.max() == 0 for row in rows)
    assert alone >= 2 * 4
    assert sum(len(row) < 32 for row in rows) <= 1


def test_the_second_text_of_a_pair_that_does_not_belong_is_of_another_document():
    pieces = Pieces(corpus_of([[5] * 60, [5] * 60]), 50)
    masked = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=2000, special_ids=(0, 1, 2, 3), length=40)
    kept = MaskedLM(**{**vars(masked), "mask_share": 0.0})
    of_the_second = 10 + 300  # its first token
    belonging = {True: 0, False: 0}
    for draft in kept.lay_out(pieces, np.arange(len(pieces)), 40, np.random.default_rng(1)):
        for pair in draft:
            sides = [bool(side.input_ids[0] >= of_the_second) for side in (pair.first, pair.second) if len(side)]
            assert len(set(sides)) == (1 if pair.belongs else 2)
            belonging[pair.belongs] += 1
    assert min(belonging.values()) > 3
