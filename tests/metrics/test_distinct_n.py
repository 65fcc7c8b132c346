"""Distinct-n, by hand."""

import pytest

from bothways.errors import UserError
from bothways.metrics.distinct_n import distinct_n


def test_by_hand():
    assert distinct_n(["the cat and the dog"], n=1) == pytest.approx(4 / 5)
    assert distinct_n(["The cat, the cat!", "a the"]) == pytest.approx(3 / 4)  # pairs: the-cat, cat-the, the-cat, a-the
    assert distinct_n(["好好好好"], n=3) == pytest.approx(1 / 2)


def test_no_sequence_crosses_texts():
    assert distinct_n(["a b", "a b"]) == 0.5
    assert distinct_n(["a b", "b a"]) == 1


def test_too_short_texts_score_zero():
    assert distinct_n(["", "one"], n=2) == 0


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="n must be at least 1, not 0"):
        distinct_n(["a"], n=0)
    with pytest.raises(UserError, match="texts must be a list"):
        distinct_n("a b")
