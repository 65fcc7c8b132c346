"""Bits per byte: how well a language model predicts text, comparable between tokenizers and between languages."""

import math

from bothways.errors import UserError

HIGHER_IS_BETTER = False


def bits_per_byte(*, nats: float, num_bytes: int) -> float:
    """Return ``nats / (ln 2 · num_bytes)``: the bits that the model needs for one byte of the text; 0 is perfect.

    A model that gives all 256 bytes the same chance needs 8; the definition is that of The Pile (Gao et al., 2020).

    Args:
        nats: the negative log-likelihood of the text, natural logarithm, summed over all its tokens.
        num_bytes: the length of the same text in UTF-8.
    Raises:
        UserError: the text is empty.
    """
    if num_bytes <= 0:
        raise UserError(f"bits per byte needs at least one byte of text, and num_bytes is {num_bytes}")
    return nats / (math.log(2) * num_bytes)
