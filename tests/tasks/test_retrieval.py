import math

import numpy as np
import pytest
import torch

from bothways.batch import collate
from bothways.tasks.retrieval import SHOWN, Retrieval, bm25, collection, fused, ranked

EXAMPLES = [
    {"query": "who moves the river", "document": "the river moves under a mountain"},
    {"query": "an engine", "document": "one small engine reads every signal"},
    {"query": "river mountain", "document": "the river moves under a mountain"},
    {"query": "large kernel", "document": "a kernel, large and old"},
]


@pytest.fixture
def loaded(make_loaded):
    return make_loaded("bidirectional", {"embedding": 0})


def test_each_document_of_the_collection_comes_once():
    assert collection(EXAMPLES) == [EXAMPLES[number]["document"] for number in (0, 1, 3)]


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_query_and_document_share_a_row_and_do_not_see_each_other(make_loaded, attention):
    loaded = make_loaded(attention, {"embedding": 0})
    batch = collate([Retrieval().render(example, loaded.tokenizer, loaded.model.config) for example in EXAMPLES[:2]])
    loaded.model.eval()
    with torch.inference_mode():
        vectors = loaded.model.read("embedding", loaded.model(batch), batch)
    target = batch.targets["embedding"]
    assert target.value.tolist() == [0, 1, 0, 1]
    assert target.group.tolist() == [0, 0, 1, 1]
    texts = [example[side] for example in EXAMPLES[:2] for side in ("query", "document")]
    expected = Retrieval().similarity(loaded, texts, texts)
    assert (vectors @ vectors.T).numpy() == pytest.approx(expected, abs=1e-5)


def test_the_similarity_is_a_cosine(loaded):
    table = Retrieval().similarity(loaded, ["the river", "an engine"], ["an engine", "a kernel", "the river"])
    assert table.shape == (2, 3)
    assert np.abs(table).max() <= 1 + 1e-6
    assert [table[0, 2], table[1, 0]] == pytest.approx([1, 1], abs=1e-6)


def test_what_is_longer_than_is_read_makes_no_difference(loaded):
    task = Retrieval(query_length=8, document_length=12)
    long = "river moves mountain " * 30
    one, two = task.similarity(loaded, [long + "engine", long + "kernel"], [long + "signal"])
    assert one == two
    assert len(task.render({"query": long, "document": long}, loaded.tokenizer, loaded.model.config)) == 20


def test_other_documents_change_no_score(loaded):
    few, many = (Retrieval().predict(loaded, examples) for examples in (EXAMPLES[:2], EXAMPLES))
    for before, after in zip(few, many, strict=False):
        assert before["scores"] == pytest.approx(after["scores"][:2], abs=1e-6)


def test_rankings_are_by_score_and_the_earlier_document_wins_a_tie():
    [made] = ranked(np.array([[0.5, 0.9, 0.5, -1.0]]))
    assert made["ranking"] == [1, 0, 2, 3]
    assert made["scores"].tolist() == [0.5, 0.9, 0.5, -1.0]
    assert len(ranked(np.zeros((1, 3 * SHOWN)))[0]["ranking"]) == SHOWN


@pytest.mark.parametrize("rank", [1, 2, 10, 11, 100, 101])
def test_the_rank_of_the_right_document_says_all(rank):
    examples = [{"query": "q", "document": f"document {number}"} for number in range(150)]
    order = [number for number in range(150) if number != 7]
    order.insert(rank - 1, 7)
    right = {"ranking": order[:SHOWN]}
    each = Retrieval().measure_each([right] * 150, examples)
    assert each["mrr"][7] == (1 / rank if rank <= SHOWN else 0)
    assert each["ndcg@10"][7] == (1 / math.log2(rank + 1) if rank <= 10 else 0)
    assert each["recall@10"][7] == (rank <= 10)
    figures = Retrieval().measure([right] * 150, examples)
    assert figures == pytest.approx({name: sum(scores) / 150 for name, scores in each.items()})


def test_two_queries_may_have_one_document():
    rankings = [{"ranking": [0]}, {"ranking": [1]}, {"ranking": [0]}, {"ranking": [2]}]
    assert Retrieval().measure(rankings, EXAMPLES) == {"mrr": 1.0, "ndcg@10": 1.0, "recall@10": 1.0}


# BM25


def test_bm25_finds_the_words_of_the_query():
    assert [made["ranking"][0] for made in Retrieval().baseline(EXAMPLES)] == [0, 1, 0, 2]


def test_bm25_reads_chinese_by_characters():
    assert bm25(["河流"], ["山很高", "河流很长"]).argmax() == 1


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("query", "documents"),
    [("nowhere", ["river", "mountain"]), ("???", ["river", "mountain"]), ("river", [":)", ";)"]), ("??", ["!"])],
)
def test_bm25_without_a_word_in_common_scores_nothing(query, documents):
    table = bm25([query, "river"], documents)
    assert table.shape == (2, len(documents))
    assert np.isfinite(table).all()


# Both together


def test_fusing_gives_both_tables_the_same_weight():
    first, second = np.array([[0.0, 1.0, 2.0]]), np.array([[20.0, 0.0, 10.0]])
    assert fused(first, second) == pytest.approx(fused(100 * first + 7, second))
    assert fused(first, second).argmax() == 2
    assert fused(first, second) == pytest.approx(fused(second, first))


def test_a_table_without_any_difference_decides_nothing():
    scores = np.array([[3.0, 1.0, 2.0]])
    assert ranked(fused(np.ones((1, 3)), scores))[0]["ranking"] == [0, 2, 1]
