"""Recall: how many of the relevant documents are found at all."""

from bothways.metrics._ranking import Rankings, Relevant, mean_over_queries

HIGHER_IS_BETTER = True


def recall(rankings: Rankings, relevant: Relevant, *, k: int = 10) -> float:
    """Return the mean over queries of the share of relevant documents found among the first ``k``, from 0 to 1.

    By ir-measures. With more than ``k`` relevant documents a query cannot reach 1. A query without a ranking counts 0.

    Args:
        rankings: query id to document ids, best first.
        relevant: query id to its relevant document ids, or to their grades.
        k: how many places count.
    Raises:
        UserError: nothing to score, ``k`` below 1, a query without relevant documents, or a ranking that lists a
            document twice or whose query is unknown.
    """
    from ir_measures import R

    return mean_over_queries(R, rankings, relevant, k=k)
