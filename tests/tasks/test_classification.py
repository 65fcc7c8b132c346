import pytest

from bothways.errors import UserError
from bothways.tasks.classification import Classification

EXAMPLES = [{"text": f"text {number}", "label": "abc"[number % 3]} for number in range(9)]


@pytest.fixture
def task():
    return Classification().fitted_to(EXAMPLES)


def test_it_learns_its_labels_sorted():
    assert Classification().fitted_to(EXAMPLES[::-1]).labels == ("a", "b", "c")


@pytest.mark.parametrize(("examples", "message"), [(EXAMPLES[:1] * 4, "all 4 examples have 'a'"), ([], "have 'none'")])
def test_one_class_is_none(examples, message):
    with pytest.raises(UserError, match=f"at least two labels, and {message}" if examples else "two labels"):
        Classification().fitted_to(examples)


@pytest.mark.parametrize("labels", [None, ()])
def test_a_model_without_classes_is_refused_with_the_remedy(labels):
    with pytest.raises(UserError, match="no classes; fine-tune it first: bothways finetune classification"):
        Classification().restored(labels)


def test_a_label_that_was_not_learnt_is_refused_by_name(task, make_loaded):
    loaded = make_loaded("bidirectional", task.objective().heads)
    with pytest.raises(UserError, match="the label 'd' is not among those learnt: a, b, c"):
        task.render({"text": "x", "label": "d"}, loaded.tokenizer, loaded.model.config)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_label_is_the_likeliest_class(task, make_loaded, attention):
    loaded = make_loaded(attention, task.objective().heads)
    for prediction in task.predict(loaded, EXAMPLES):
        probabilities = prediction["probabilities"]
        assert list(probabilities) == ["a", "b", "c"]
        assert sum(probabilities.values()) == pytest.approx(1)
        assert prediction["label"] == max(probabilities, key=probabilities.get)


def test_no_example_is_no_prediction(task, make_loaded):
    assert task.predict(make_loaded("bidirectional", task.objective().heads), []) == []


def test_macro_f1_counts_a_rare_class_as_much_as_a_frequent_one(task):
    examples = [{"label": label} for label in "aaaaaaaab"]
    figures = task.measure([{"label": "a"}] * 9, examples)
    assert figures["accuracy"] == pytest.approx(8 / 9)
    assert figures["macro_f1"] == pytest.approx((16 / 17 + 0) / 2)


def test_the_baseline_is_the_commonest_label(task):
    assert task.baseline([{"label": label} for label in "abb"]) == [{"label": "b"}] * 3
