"""nDCG, reciprocal rank and recall against their definitions, written out here."""

import math
import random

import pytest

from bothways.errors import UserError
from bothways.metrics.ndcg import ndcg
from bothways.metrics.recall import recall
from bothways.metrics.reciprocal_rank import reciprocal_rank

ALL = [ndcg, reciprocal_rank, recall]


def gain(grades, k):
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades[:k], start=1))


def own_ndcg(ranking, grades, k):
    return gain([grades.get(document, 0) for document in ranking], k) / gain(sorted(grades.values(), reverse=True), k)


def own_reciprocal_rank(ranking, grades, k):
    return next((1 / place for place, document in enumerate(ranking[:k], 1) if grades.get(document, 0) > 0), 0.0)


def own_recall(ranking, grades, k):
    found = sum(grades.get(document, 0) > 0 for document in ranking[:k])
    return found / sum(grade > 0 for grade in grades.values())


OWN = {ndcg: own_ndcg, reciprocal_rank: own_reciprocal_rank, recall: own_recall}


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("metric", ALL)
def test_against_the_definition(metric, seed):
    generator = random.Random(seed)
    documents = [f"文{number}" for number in range(12)]
    rankings, relevant = {}, {}
    for query in map(str, range(generator.randint(1, 6))):
        judged = generator.sample(documents, generator.randint(1, 8))
        relevant[query] = {document: generator.randint(0, 3) for document in judged} | {judged[0]: 2}
        if generator.random() < 0.8:
            rankings[query] = generator.sample(documents, generator.randint(0, 12))
    k = generator.randint(1, 12)
    expected = [OWN[metric](rankings.get(query, []), grades, k) for query, grades in relevant.items()]
    assert metric(rankings, relevant, k=k) == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def test_by_hand():
    rankings, relevant = {"q": ["a", "b", "c", "d"]}, {"q": ["b", "d", "x"]}
    assert reciprocal_rank(rankings, relevant) == 0.5
    assert recall(rankings, relevant) == pytest.approx(2 / 3)
    assert recall(rankings, relevant, k=3) == pytest.approx(1 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg(rankings, relevant) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


@pytest.mark.parametrize("metric", ALL)
def test_a_query_without_ranking_counts_zero(metric):
    assert metric({"p": ["a"]}, {"p": {"a"}, "q": {"a"}}) == 0.5
    assert metric({"p": ["a"], "q": []}, {"p": {"a"}, "q": {"a"}}) == 0.5
    assert metric({}, {"q": {"a"}}) == 0


@pytest.mark.parametrize("metric", ALL)
def test_the_order_given_is_kept_beyond_ten_and_whatever_the_names(metric):
    ranking = [str(number) for number in range(30, 0, -1)]
    grades = {"11": 1, "3": 2, "29": 1}
    assert metric({"q": ranking}, {"q": grades}, k=25) == pytest.approx(OWN[metric](ranking, grades, 25))


@pytest.mark.parametrize("metric", ALL)
def test_mistakes_are_refused(metric):
    with pytest.raises(UserError, match="relevant is empty"):
        metric({}, {})
    with pytest.raises(UserError, match="k must be at least 1, not 0"):
        metric({"q": ["a"]}, {"q": ["a"]}, k=0)
    with pytest.raises(UserError, match="query 'p' has no relevant document"):
        metric({}, {"q": ["a"], "p": {"a": 0}})
    with pytest.raises(UserError, match="ranking of query 'p', but relevant does not know"):
        metric({"p": ["a"]}, {"q": ["a"]})
    with pytest.raises(UserError, match="ranking of query 'q' lists a document more than once"):
        metric({"q": ["a", "b", "a"]}, {"q": ["a"]})
