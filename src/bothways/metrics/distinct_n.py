"""Distinct-n: how little generated texts repeat themselves and one another."""

from collections.abc import Sequence

from bothways.errors import UserError
from bothways.language import words
from bothways.metrics.metric import check_items

HIGHER_IS_BETTER = True


def distinct_n(texts: Sequence[str], *, n: int = 2) -> float:
    """Return the share of different ones among all sequences of ``n`` words, from 0 to 1 (after Li et al., 2016).

    Words are in lower case, in Chinese single ideographs; no sequence crosses from one text into the next. Texts too
    short to hold any score 0. Compare only sets of texts of like size: the share falls as texts grow.

    Args:
        texts: what a model has generated.
        n: the length of the sequences in words.
    Raises:
        UserError: there are no texts, or ``n`` is below 1.
    """
    check_items("texts", texts)
    if n < 1:
        raise UserError(f"n must be at least 1, not {n}")
    sequences = [sequence for text in texts for sequence in _sequences(text.lower(), n)]
    return len(set(sequences)) / len(sequences) if sequences else 0.0


def _sequences(text: str, n: int) -> list[tuple[str, ...]]:
    tokens = [text[start:stop] for start, stop in words(text)]
    return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
