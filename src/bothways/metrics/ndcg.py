"""nDCG: how near the best documents stand to the top, graded relevance included."""

from bothways.metrics._ranking import Rankings, Relevant, mean_over_queries

HIGHER_IS_BETTER = True


def ndcg(rankings: Rankings, relevant: Relevant, *, k: int = 10) -> float:
    """Return the mean over queries of normalised discounted cumulative gain at ``k``, from 0 to 1.

    The gain is the sum over the first ``k`` places of grade / log2(place + 1), and it is divided by that of the best
    possible ranking (Järvelin and Kekäläinen, 2002; trec_eval's ``ndcg_cut``, by ir-measures). A query without a
    ranking counts 0.

    Args:
        rankings: query id to document ids, best first.
        relevant: query id to its relevant document ids, or to their grades.
        k: how many places count.
    Raises:
        UserError: nothing to score, ``k`` below 1, a query without relevant documents, or a ranking that lists a
            document twice or whose query is unknown.
    """
    from ir_measures import nDCG

    return mean_over_queries(nDCG, rankings, relevant, k=k)
