import numpy as np
import pytest
import torch

from bothways.batch import collate
from bothways.objectives.causal_lm import CausalLM

BOS, EOS = 1, 2
OBJECTIVE = CausalLM(bos_id=BOS, eos_id=EOS)


def prepare(corpus, length, documents=None, seed=0):
    """Return the rows of documents, put back in the order of the text."""
    documents = np.arange(len(corpus)) if documents is None else np.array(documents)
    rows = list(OBJECTIVE.prepare(corpus, documents, length, np.random.default_rng(seed)))
    order = np.random.default_rng(seed).permutation(len(rows))
    return [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]


def target(row):
    return row.targets["language_model"]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 8, 100])
def test_every_token_is_predicted_once_and_the_end_too(make_numbered, length):
    corpus = make_numbered([[3, 4], [1], [9, 2, 6]])
    rows = prepare(corpus, length)
    documents = [corpus.document(index).tolist() for index in range(3)]
    read = np.concatenate([row.input_ids for row in rows])
    predicted = np.concatenate([target(row).value for row in rows])
    expected = [pair for document in documents for pair in zip((BOS, *document), (*document, EOS), strict=True)]
    assert sorted(zip(read.tolist(), predicted.tolist(), strict=True)) == sorted(expected)
    assert all(np.array_equal(target(row).index, np.arange(len(row))) for row in rows)
    assert [len(row) for row in rows[:-1]] == [length] * (len(rows) - 1)
    assert 1 <= len(rows[-1]) <= length


def test_a_target_is_the_token_that_comes_next(make_numbered):
    [row] = prepare(make_numbered([[2, 3], [4]]), 100)
    followed = np.append(row.input_ids[1:], BOS)
    assert target(row).value.tolist() == np.where(followed == BOS, EOS, followed).tolist()


def test_no_document_sees_another(make_numbered):
    [row] = prepare(make_numbered([[2, 3], [4]]), 100)
    assert row.sequence_ids.tolist() == [0] * 6 + [1] * 5
    assert row.position_ids.tolist() == [*range(6), *range(5)]
    assert row.reach.tolist() == list(range(11))


def test_documents_are_laid_out_in_the_order_asked_for(make_numbered):
    corpus = make_numbered([[2], [3], [4]])
    expected = [BOS, *corpus.document(2), BOS, *corpus.document(0)]
    for seed in (1, 2):
        rows = prepare(corpus, 4, documents=[2, 0], seed=seed)
        assert np.concatenate([row.input_ids for row in rows]).tolist() == expected


def test_rows_come_in_random_order_so_that_a_long_text_is_spread(make_numbered):
    corpus = make_numbered([[40] * 10])

    def first_tokens(seed):
        rows = OBJECTIVE.prepare(corpus, np.array([0]), 8, np.random.default_rng(seed))
        return [int(row.input_ids[0]) for row in rows]

    one, other = first_tokens(1), first_tokens(2)
    assert one != other != sorted(other)
    assert sorted(one) == sorted(other)


def test_what_stands_before_a_target_text_is_read_and_not_predicted():
    row = OBJECTIVE.sequence(np.array([30, 31]), prompt=np.array([20, 21, 22]))
    assert row.input_ids.tolist() == [BOS, 20, 21, 22, 30, 31]
    assert target(row).index.tolist() == [3, 4, 5]
    assert target(row).value.tolist() == [30, 31, EOS]


def test_an_empty_text_predicts_only_its_end():
    row = OBJECTIVE.sequence(np.zeros(0, dtype=np.int64), prompt=np.array([20]))
    assert row.input_ids.tolist() == [BOS, 20]
    assert (target(row).index.tolist(), target(row).value.tolist()) == ([1], [EOS])


@torch.no_grad()
def test_the_loss_is_the_sum_of_surprises(make_model):
    model = make_model(OBJECTIVE.heads)
    texts = [[5, 6, 7], [8], [9, 10, 11, 12]]
    rows = [OBJECTIVE.sequence(np.array(text)) for text in texts]
    nats = 0.0
    for text in texts:
        batch = collate([OBJECTIVE.sequence(np.array(text))])
        probabilities = model.read("language_model", model(batch), batch).softmax(-1)
        for position, token in enumerate([*text, EOS]):
            nats -= float(probabilities[position, token].log())
    batch = collate(rows, length=6)
    loss = OBJECTIVE.loss(model, batch)["causal_lm"]
    assert loss.sum.item() == pytest.approx(nats, rel=1e-12)
    assert loss.count == OBJECTIVE.counts(batch)["causal_lm"] == 11
    assert loss.weight == 1


def test_packing_changes_no_loss(make_model, make_numbered):
    model = make_model(OBJECTIVE.heads)
    corpus = make_numbered([[2, 3], [4], [1, 1, 1]])
    with torch.no_grad():
        packed = OBJECTIVE.loss(model, collate(prepare(corpus, 15)))["causal_lm"]
        apart = [OBJECTIVE.loss(model, collate(prepare(corpus, 15, [index])))["causal_lm"] for index in range(3)]
    assert packed.sum.item() == pytest.approx(sum(float(loss.sum) for loss in apart), rel=1e-12)
    assert packed.count == sum(loss.count for loss in apart) == 15


def test_what_comes_after_changes_no_prediction_before(make_model):
    model = make_model(OBJECTIVE.heads)
    with torch.no_grad():
        first, second = (
            model.read("language_model", model(batch), batch)[:3]
            for text in ([5, 6, 7, 8], [5, 6, 20, 30])
            for batch in [collate([OBJECTIVE.sequence(np.array(text))])]
        )
    assert torch.equal(first, second)
