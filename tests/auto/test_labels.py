import numpy as np
import pytest
import torch

from bothways.auto.labels import held_out, positions, read_labels, reading_of, two_or_more
from bothways.errors import UserError


class Column:
    """A table's column, as pandas has it: ``tolist``, an index of its own, no plain list."""

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def tolist(self):
        return list(self.values)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1], [0, 1]),
        ((True, False), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, 2], dtype=np.int8), [1, 2]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        ([np.int64(3), np.int64(4)], [3, 4]),
        (torch.tensor([0, 1]), [0, 1]),
        ([torch.tensor(0), torch.tensor(1)], [0, 1]),
        (Column(["好", "坏"]), ["好", "坏"]),
        ((label for label in "ab"), ["a", "b"]),
    ],
)
def test_labels_of_any_make_become_plain_values(labels, expected):
    found = read_labels(labels)
    assert found == expected
    assert [type(label) for label in found] == [type(label) for label in expected]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there is not one label"),
        ("positive", "a list with one label for each text, not 'positive'"),
        (7, "a list with one label for each text, not 7"),
        ([1, None], r"labels\[1\] is missing \(None\)"),
        ([0.0, float("nan")], r"labels\[0\] is 0.0"),
        ([float("nan"), 1.0], r"labels\[0\] is missing \(nan\)"),
        (["a", np.nan], r"labels\[1\] is missing \(nan\)"),
        (np.array([0.5, 1.0]), "whole numbers, booleans or text"),
        ([[1], [0]], r"one for each text, and labels\[0\] is \[1\]"),
        (torch.eye(2), "one for each text"),
        ([1, "a"], r"all be of one type, and there are 1 \(int\), 'a' \(str\)"),
        ([True, 0], r"True \(bool\), 0 \(int\)"),
        ([{"label": 1}], r"labels\[0\] is {'label': 1}"),
    ],
)
def test_what_is_no_label_gets_a_sentence(labels, message):
    with pytest.raises(UserError, match=message):
        read_labels(labels)


def test_one_class_is_not_enough():
    assert two_or_more(["b", "a", "b"]) == ("a", "b")
    with pytest.raises(UserError, match="all 3 labels are 'a'"):
        two_or_more(["a", "a", "a"])


@pytest.mark.parametrize(
    ("labels", "known", "reading"),
    [
        (["a"], ("a", "b"), ("a", "b")),
        (["c"], ("a", "b"), None),
        ([1], ("a", "b"), (0, 1)),
        ([2], ("a", "b"), None),
        ([1, 5], ("1", "3", "5"), (1, 3, 5)),
        ([-1], ("-1", "1"), (-1, 1)),
        ([0], (False, True), (0, 1)),
        ([True], (0, 1), None),
        (["1"], (0, 1), None),
        ([0], None, None),
    ],
)
def test_known_classes_in_the_type_of_the_labels(labels, known, reading):
    assert reading_of(labels, known) == reading


def test_positions_follow_the_classes():
    assert positions(["b", "a", "b"], ("a", "b")).tolist() == [1, 0, 1]
    assert positions([5, 1], ("1", "3", "5")).tolist() == [2, 0]
    with pytest.raises(UserError, match=r"labels\[1\] is 'c', which is no class of this model; its classes: 'a', 'b'"):
        positions(["a", "c"], ("a", "b"))
    with pytest.raises(UserError, match="'d2', 'd3' and 2 more"):
        positions(["e"], (*(f"c{n}" for n in range(8)), "d2", "d3", "d4", "d5"))


def test_the_same_share_of_each_class_is_held_out():
    labels = ["a"] * 80 + ["b"] * 20
    out = held_out(labels, 0.1, 0)
    assert sum(out[:80]) == 8
    assert sum(out[80:]) == 2
    assert (out == held_out(labels, 0.1, 0)).all()
    assert (out != held_out(labels, 0.1, 1)).any()
    assert sum(held_out(labels, 0.5, 0, most=10)) == 10


def test_no_class_is_held_out_whole():
    labels = [0, 1, 1, 1, 2, 2]
    out = held_out(labels, 0.9, 0)
    assert {label for label, held in zip(labels, out, strict=True) if not held} == {0, 1, 2}
