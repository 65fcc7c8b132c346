"""What the metrics of retrieval share: checks, and the call of ir-measures (trec_eval's numbers)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bothways.errors import UserError
from bothways.metrics.metric import check_items

Rankings = Mapping[str, Sequence[str]]
"""Query id to document ids, best first."""

Relevant = Mapping[str, Mapping[str, int] | Collection[str]]
"""Query id to the ids of its relevant documents, or to their grades (0: not relevant)."""


def mean_over_queries(measure: Any, rankings: Rankings, relevant: Relevant, *, k: int) -> float:
    """Return the mean over all queries of ``relevant`` of an ir-measures measure cut at ``k``.

    Raises:
        UserError: nothing to score, ``k`` below 1, a query without relevant documents, or a ranking that lists a
            document twice or whose query is unknown.
    """
    from ir_measures import Qrel, ScoredDoc, iter_calc

    check_items("relevant", relevant)
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    grades = {query: _grades(query, documents) for query, documents in relevant.items()}
    for query, ranking in rankings.items():
        _check_ranking(query, ranking, known=query in grades)
    judged = [Qrel(query, document, grade) for query in grades for document, grade in grades[query].items()]
    ranked = [
        ScoredDoc(query, document, -place)
        for query, ranking in rankings.items()
        for place, document in enumerate(ranking[:k])
    ]
    return sum(result.value for result in iter_calc([measure @ k], judged, ranked)) / len(grades)


def _grades(query: str, documents: Mapping[str, int] | Collection[str]) -> dict[str, int]:
    grades = dict(documents) if isinstance(documents, Mapping) else dict.fromkeys(documents, 1)
    if not any(grade > 0 for grade in grades.values()):
        raise UserError(f"query {query!r} has no relevant document, so no ranking of it can be scored; leave it out")
    return grades


def _check_ranking(query: str, ranking: Sequence[str], *, known: bool) -> None:
    if not known:
        raise UserError(f"there is a ranking of query {query!r}, but relevant does not know that query")
    if len(set(ranking)) < len(ranking):
        raise UserError(f"the ranking of query {query!r} lists a document more than once")
