"""Accuracy, macro F1, Matthews correlation and the confusion matrix, against scikit-learn and by hand."""

import random

import pytest
import sklearn.metrics

from bothways.errors import UserError
from bothways.metrics.accuracy import accuracy
from bothways.metrics.confusion_matrix import confusion_matrix
from bothways.metrics.macro_f1 import macro_f1
from bothways.metrics.matthews_correlation import matthews_correlation


def random_labels(seed):
    generator = random.Random(seed)
    names = ["cat", "dog", "猫", ""][: generator.randint(1, 4)]
    size = generator.randint(1, 60)
    return generator.choices(names, k=size), generator.choices(names, k=size)


pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("seed", range(60))
def test_against_scikit_learn(seed):
    predictions, references = random_labels(seed)
    assert accuracy(predictions, references) == pytest.approx(sklearn.metrics.accuracy_score(references, predictions))
    labels = ["猫", "", "dog", "cat"]
    matrix = confusion_matrix(predictions, references, labels=labels)
    expected = sklearn.metrics.confusion_matrix(references, predictions, labels=labels)
    assert [list(row) for row in matrix.counts] == expected.tolist()


@pytest.mark.parametrize("seed", range(60))
def test_against_the_definition(seed):
    predictions, references = random_labels(seed)
    matrix = confusion_matrix(predictions, references)
    assert macro_f1(predictions, references) == pytest.approx(macro_f1_of(matrix))
    assert matthews_correlation(predictions, references) == pytest.approx(matthews_of(matrix))


def macro_f1_of(matrix):
    size = range(len(matrix.labels))
    hits = [2 * matrix.counts[i][i] for i in size]
    totals = [sum(matrix.counts[i]) + sum(matrix.counts[j][i] for j in size) for i in size]
    return sum(hit / total for hit, total in zip(hits, totals, strict=True)) / len(totals)


def matthews_of(matrix):
    size = range(len(matrix.labels))
    true = [sum(matrix.counts[i]) for i in size]
    guess = [sum(matrix.counts[j][i] for j in size) for i in size]
    items, hits = sum(true), sum(matrix.counts[i][i] for i in size)
    above = hits * items - sum(t * g for t, g in zip(true, guess, strict=True))
    below = (items**2 - sum(t * t for t in true)) * (items**2 - sum(g * g for g in guess))
    return above / below**0.5 if below else 0.0


def test_by_hand():
    predictions, references = [1, 1, 0, 0, 1], [1, 0, 0, 0, 0]
    assert accuracy(predictions, references) == 0.6
    assert macro_f1(predictions, references) == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert matthews_correlation(predictions, references) == pytest.approx((1 * 2 - 2 * 0) / (3 * 1 * 4 * 2) ** 0.5)


def test_a_class_that_is_only_predicted_or_only_true_counts_zero():
    assert macro_f1(["a", "b"], ["a", "a"]) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(["a", "a"], ["a", "b"]) == pytest.approx((2 / 3 + 0) / 2)


def test_matthews_of_one_class_is_zero():
    assert matthews_correlation([1, 1], [1, 1]) == 0
    assert matthews_correlation([1, 1], [1, 0]) == 0
    assert matthews_correlation([1, 0], [0, 1]) == pytest.approx(-1)


def test_confusion_matrix_rows_are_true_and_labels_may_be_ordered():
    matrix = confusion_matrix(["b", "b", "a"], ["a", "b", "a"])
    assert (matrix.labels, matrix.counts) == (("a", "b"), ((1, 1), (0, 1)))
    matrix = confusion_matrix(["b", "b", "a"], ["a", "b", "a"], labels=["c", "b", "a"])
    assert (matrix.labels, matrix.counts) == (("c", "b", "a"), ((0, 0, 0), (0, 1, 0), (0, 1, 1)))
    assert confusion_matrix([2, 10, 2], [10, 10, 2]).labels == (2, 10)
    assert confusion_matrix([None, 1], ["a", 1]).labels == (None, 1, "a")


def test_confusion_matrix_refuses_a_label_that_labels_lacks():
    with pytest.raises(UserError, match="labels lacks 'b', which the data contain"):
        confusion_matrix(["b"], ["a"], labels=["a", "c"])


@pytest.mark.parametrize("metric", [accuracy, macro_f1, matthews_correlation, confusion_matrix])
def test_unpaired_input_is_refused(metric):
    with pytest.raises(UserError, match="there are 1 predictions and 2 references"):
        metric(["a"], ["a", "b"])
    with pytest.raises(UserError, match="predictions is empty"):
        metric([], ["a"])
    with pytest.raises(UserError, match="references must be a list of items, not one string"):
        metric(["a"], "a")
