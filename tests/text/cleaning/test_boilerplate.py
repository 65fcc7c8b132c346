import itertools
import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.cleaning.boilerplate import (
    LineCounts,
    boilerplate_lines,
    certain_documents,
    count_lines,
    merge_line_counts,
    propose_lines,
)


def line(name: object) -> str:
    return f"This is the line named {name}"


def both_passes(parts, *, capacity, min_documents, order=None):
    order = range(len(parts)) if order is None else order
    proposed = merge_line_counts(propose_lines(parts[i], capacity=capacity) for i in order)
    assert len(proposed.counts) <= capacity
    counts = merge_line_counts(count_lines(parts[i], proposed) for i in reversed(order))
    return boilerplate_lines(counts, min_documents), counts


def test_a_line_counts_once_a_document_and_without_the_space_around_it():
    parts = [[f"{line('a')}\n  {line('a')}\t\n{line('b')}"], [f"x\n{line('a')}"]]
    lines, counts = both_passes(parts, capacity=100, min_documents=2)
    assert lines == {line("a")}
    assert counts.counts == {line("a"): 2, line("b"): 1}
    assert (counts.documents, counts.lines) == (2, 3)


def test_short_and_long_lines_are_never_boilerplate():
    short, long = "CHAPTER XII.", "A paragraph that is long. " * 8
    seven, six = "本文由志愿者", "本文由志愿者译"
    texts = ["\n".join([short, long, seven, six, "nineteen characters", "with one more it has"])] * 3
    lines, _ = both_passes([texts], capacity=100, min_documents=3)
    assert lines == {six, "with one more it has"}


def corpus(seed: int, documents: int) -> list[str]:
    rng = random.Random(seed)
    return ["\n".join(line(int(rng.paretovariate(0.7))) for _ in range(12)) for _ in range(documents)]


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 8), st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_what_is_found_is_exact_and_does_not_depend_on_parts_or_order(seed, capacity, min_documents, order):
    texts = corpus(seed, 60)
    truth = Counter(itertools.chain.from_iterable(set(text.split("\n")) for text in texts))
    parts = [texts[0:1], texts[1:30], [], texts[30:]]
    found, counts = both_passes(parts, capacity=capacity, min_documents=min_documents, order=order)
    least = max(min_documents, truth.total() // (capacity + 1) + 1)
    assert certain_documents(counts) == truth.total() // (capacity + 1) + 1
    assert found == {line for line, count in truth.items() if count >= least}
    assert found == both_passes([texts], capacity=capacity, min_documents=min_documents)[0]


def test_memory_is_bounded_by_the_capacity():
    proposed = LineCounts(capacity=50)
    for i in range(1000):
        proposed.count("\n".join([line("everywhere"), *(line((i, j)) for j in range(5))]))
        assert len(proposed.counts) <= 100
    other = propose_lines((line(i) for i in range(1000)), capacity=50)
    assert len(other.counts) <= 50
    proposed.add(other)
    assert len(proposed.counts) <= 50
    assert line("everywhere") in proposed.counts


def test_a_line_that_is_just_frequent_enough_is_proposed():
    # A stands in 2 documents of 3 lines in all: more than 3 / (1 + 1).
    assert propose_lines([line("A"), line("B"), line("A")], capacity=1).counts.keys() == {line("A")}
    assert not propose_lines([line("A"), line("B")], capacity=1).counts


def test_counts_survive_json():
    proposed = propose_lines(corpus(1, 20), capacity=30)
    assert LineCounts.from_dict(json.loads(json.dumps(proposed.to_dict()))) == proposed


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="min_documents must be at least 2"):
        boilerplate_lines(LineCounts(exact=True), 1)
    with pytest.raises(UserError, match="at least one"):
        merge_line_counts([])
    with pytest.raises(UserError, match="capacity"):
        propose_lines([], capacity=0)
    with pytest.raises(AssertionError, match="second pass"):
        boilerplate_lines(propose_lines(["a"]), 2)
