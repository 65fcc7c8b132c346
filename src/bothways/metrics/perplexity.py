"""Perplexity: among how many equally likely tokens the model hesitates; comparable only under the same tokenizer."""

import math

from bothways.errors import UserError

HIGHER_IS_BETTER = False


def perplexity(*, nats: float, num_tokens: int) -> float:
    """Return ``exp(nats / num_tokens)``, from 1 (perfect) to infinity.

    Args:
        nats: the negative log-likelihood, natural logarithm, summed over the tokens.
        num_tokens: how many tokens were predicted.
    Raises:
        UserError: no token was predicted.
    """
    if num_tokens <= 0:
        raise UserError(f"perplexity needs at least one predicted token, and num_tokens is {num_tokens}")
    try:
        return math.exp(nats / num_tokens)
    except OverflowError:  # beyond the largest float: a broken model, not a broken call
        return math.inf
