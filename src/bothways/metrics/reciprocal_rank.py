"""Mean reciprocal rank: how far down one must read to the first relevant document."""

from bothways.metrics._ranking import Rankings, Relevant, mean_over_queries

HIGHER_IS_BETTER = True


def reciprocal_rank(rankings: Rankings, relevant: Relevant, *, k: int = 10) -> float:
    """Return the mean over queries of 1 / (place of the first relevant document), from 0 to 1: MRR@k, by ir-measures.

    A query with no relevant document among the first ``k``, or without a ranking, counts 0.

    Args:
        rankings: query id to document ids, best first.
        relevant: query id to its relevant document ids, or to their grades.
        k: how many places count.
    Raises:
        UserError: nothing to score, ``k`` below 1, a query without relevant documents, or a ranking that lists a
            document twice or whose query is unknown.
    """
    from ir_measures import RR

    return mean_over_queries(RR, rankings, relevant, k=k)
