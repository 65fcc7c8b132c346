import json
import math

import pytest

from bothways.evaluation.evaluate import Scores, evaluate_task, intervals
from bothways.evaluation.training_overlap import Seen
from bothways.metrics.bootstrap import all_alike, bootstrap
from bothways.tasks.classification import Classification
from bothways.text.overlap.overlap import OverlapReport

EXAMPLES = [{"text": f"text {number}", "label": "ab"[number % 3 == 0]} for number in range(60)]
TASK = Classification().fitted_to(EXAMPLES)
WRONG = (3, 4, 5, 9, 40)


@pytest.fixture
def predictions():
    labels = [example["label"] for example in EXAMPLES]
    return [{"label": {"a": "b", "b": "a"}[label] if at in WRONG else label} for at, label in enumerate(labels)]


def test_a_mean_has_the_interval_of_the_examples_own_scores(predictions):
    found = intervals(TASK, predictions, EXAMPLES, seed=4)["accuracy"]
    assert found == bootstrap([float(at not in WRONG) for at in range(60)], seed=4)
    assert found.value == pytest.approx(55 / 60)
    assert found.low < found.value < found.high


def test_a_figure_that_is_no_mean_has_an_interval_over_the_examples(predictions):
    found = intervals(TASK, predictions, EXAMPLES)["macro_f1"]
    assert found.value == TASK.measure(predictions, EXAMPLES)["macro_f1"]
    assert found.low < found.value < found.high
    # about as wide as that of the accuracy, which errs on the same examples
    accuracy = intervals(TASK, predictions, EXAMPLES)["accuracy"]
    assert 0.5 < (found.high - found.low) / (accuracy.high - accuracy.low) < 2


def test_the_seed_decides_the_interval_and_never_the_value(predictions):
    one, again, other = (intervals(TASK, predictions, EXAMPLES, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["macro_f1"].value == other["macro_f1"].value
    assert one["macro_f1"] != other["macro_f1"]


def test_all_right_is_no_certainty():
    right = [{"label": example["label"]} for example in EXAMPLES]
    assert intervals(TASK, right, EXAMPLES) == dict.fromkeys(("accuracy", "macro_f1"), all_alike(1.0, 60))
    assert 0.9 < all_alike(1.0, 60).low < 0.95


def test_the_baseline_is_measured_on_the_same_examples(predictions):
    scores = evaluate_task(TASK, "classification", predictions, EXAMPLES, model="sorter", attention="bidirectional")
    assert scores.baseline == TASK.measure([{"label": "a"}] * 60, EXAMPLES)
    assert scores.baseline["accuracy"] == pytest.approx(40 / 60)
    assert (scores.task, scores.model, scores.n) == ("classification", "sorter", 60)


def test_scores_are_plain_values_with_the_names_that_the_file_promises(predictions):
    values = evaluate_task(
        TASK, "classification", predictions, EXAMPLES, model="sorter", attention="bidirectional"
    ).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert list(values) == ["task", "model", "attention", "metrics", "baseline", "n", "overlap", "overlap_note"]
    assert values["overlap"] is None
    assert values["overlap_note"] == "it is not known which texts this model was trained on"
    assert values["metrics"]["accuracy"].keys() == {"value", "low", "high"}
    assert values["baseline"]["name"] == Classification.BASELINE
    assert math.isfinite(values["baseline"]["macro_f1"])


def test_unequal_numbers_are_a_bug_and_not_passed_over(predictions):
    with pytest.raises(ValueError, match="longer"):
        intervals(TASK, predictions[1:], EXAMPLES)


def test_overlap_stands_beside_the_scores(predictions):
    report = OverlapReport(of=60, exact=3, ngram=2, near=1)
    seen = Seen(report=report, files=("train.csv",), note="")
    values = evaluate_task(
        TASK, "classification", predictions, EXAMPLES, model="sorter", attention="bidirectional", seen=seen
    ).to_dict()
    assert values["overlap"] == {"exact": 3, "ngram": 2, "near": 1, "share": 0.1, "of": 60, "train": ["train.csv"]}
    assert "overlap_note" not in values
    assert "queries_in_collection" not in values
    collection = OverlapReport(of=60, exact=4, ngram=0, near=0)
    scores = Scores(
        task="retrieval",
        model="m",
        attention="causal",
        metrics={},
        baseline={},
        baseline_name="BM25",
        n=60,
        seen=Seen(report=report, in_collection=collection),
    )
    assert scores.to_dict()["queries_in_collection"] == 4


def test_scores_with_nothing_measured_are_plain_too():
    empty = Scores(task="t", model="m", attention="causal", metrics={}, baseline={}, baseline_name="chance", n=0)
    values = empty.to_dict()
    del values["overlap_note"]
    assert values == {
        "task": "t",
        "model": "m",
        "attention": "causal",
        "metrics": {},
        "baseline": {"name": "chance"},
        "n": 0,
        "overlap": None,
    }
