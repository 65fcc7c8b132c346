"""What AutoModelForSequenceClassification refuses: one sentence each, before anything is changed."""

import pytest
import torch

from bothways.auto import AutoModelForSequenceClassification
from bothways.errors import UserError


def test_long_texts_are_cut_and_that_is_said_while_long_encodings_are_refused(fitted, capsys):
    texts = ["the film was great", "the film " * 100, "a plot"]
    assert len(fitted.predict(texts)) == 3
    assert "1 of 3 texts have more than 64 tokens" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"inputs\[1\] has 202 tokens, .* at most 64; give the tokenizer trunc"):
        fitted.predict(fitted.tokenizer(texts))
    assert len(fitted.predict(fitted.tokenizer(texts, truncation=True))) == 3


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (["a", "b", "c"], [0, 1], "there are 3 inputs and 2 labels"),
        ([], [], "there is not one label"),
        ([], [0, 1], "there is not one example"),
        (["a", "b"], [1, 1], "all 2 labels are 1; a classifier needs at least two classes"),
        (["a", "b"], [1, None], r"labels\[1\] is missing"),
        (["a", "b"], [0, float("nan")], r"labels\[1\] is missing \(nan\)"),
        (["a", None], [0, 1], r"inputs\[1\] is missing \(None\)"),
        (["a", float("nan")], [0, 1], r"inputs\[1\] is missing \(nan\)"),
        (["a", 7], [0, 1], r"inputs\[1\] is no text: 7"),
        ([("a", "b"), "c"], [0, 1], r"inputs\[1\] is one text, and inputs\[0\] a pair"),
        (["a", ("b", "c")], [0, 1], r"inputs\[1\] is a pair of texts, and inputs\[0\] one"),
        ([("a", "b", "c")], [0], "is no text"),
        ([[5, 6], [5, 7]], [0, 1], "is no text"),
        (torch.tensor([[5, 6], [5, 7]]), [0, 1], "is no text"),
        (7, [0, 1], "give texts or encodings"),
        ({"text": ["a", "b"]}, [0, 1], "encodings need the column 'input_ids', and these have 'text'"),
        ({"input_ids": [[2], [2]], "position_ids": [[0], [0]]}, [0, 1], "cannot read the column 'position_ids'"),
        ({"input_ids": []}, [0, 1], "there is not one example"),
        ({"input_ids": [[2, 3], []]}, [0, 1], r"inputs\[1\] has no tokens"),
        ({"input_ids": [[2], [3]], "attention_mask": [[1], [0]]}, [0, 1], r"inputs\[1\] has no tokens"),
        ({"input_ids": [[2, 9999], [3, 4]]}, [0, 1], r"inputs\[0\] holds token id 9999, but the model knows only 0 to"),
        ({"input_ids": [[2, -1], [3, 4]]}, [0, 1], "holds token id -1"),
        ({"input_ids": [[0.5], [3]]}, [0, 1], "must be a list of token ids"),
        ({"input_ids": [[2, 0], [3, 4]]}, [0, 1], "hold padding and no attention_mask"),
        ({"input_ids": [[2], [3]], "attention_mask": [[1]]}, [0, 1], "2 rows of input_ids and 1 of attention_mask"),
        (
            {"input_ids": [[2], [3]], "attention_mask": [[1], [1, 1]]},
            [0, 1],
            r"inputs\[1\] has 1 input_ids and 2 numbers",
        ),
        ({"input_ids": [[2], [3]], "token_type_ids": [[0], [2]]}, [0, 1], "beyond the 2 that the model knows"),
        ([{"input_ids": [2], "attention_mask": [1]}, {"input_ids": [2]}], [0, 1], "have the column 'attention_mask'"),
    ],
)
def test_mistakes_get_a_sentence_and_change_nothing(fitted, inputs, labels, message):
    before = {name: weight.clone() for name, weight in fitted.model.named_parameters()}
    with pytest.raises(UserError, match=message):
        fitted.fit(inputs, labels, progress=False)
    assert fitted.labels == (0, 1)
    assert all(torch.equal(weight, before[name]) for name, weight in fitted.model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"epochs": "three"}, "epochs must be a finite number, not 'three'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": -1.0}, "training.learning_rate must be above 0"),
        ({"seed": -1}, "seed must be between 0"),
        ({"validation": 1.0}, "validation must be inputs with labels, or a share from 0"),
        ({"validation": "a tenth"}, "validation must be inputs with labels, or a share from 0"),
        ({"validation": True}, "validation must be inputs with labels, or a share from 0"),
        ({"validation": (["a"],)}, "validation must be two things"),
        ({"validation": (["a"], [5])}, r"labels\[0\] is 5, which is no class of this model"),
        ({"validation": (["a", "b"], [1])}, "there are 2 inputs and 1 labels"),
        ({"validation": 0.0001}, "less than one of each class"),
    ],
)
def test_wrong_options_get_a_sentence(fresh, reviews, options, message):
    with pytest.raises(UserError, match=message):
        fresh.fit(*reviews, **options, progress=False)


def test_other_mistakes_get_a_sentence(fitted, folders, tmp_path):
    with pytest.raises(UserError, match=r"labels\[1\] is 7, which is no class of this model; its classes: 0, 1"):
        fitted.score(["a", "b"], [0, 7])
    with pytest.raises(UserError, match="num_labels must be a whole number of at least 2, not 1"):
        AutoModelForSequenceClassification.from_pretrained(folders["bert"], num_labels=1)
    with pytest.raises(UserError, match="there is no folder"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "nowhere")


def test_a_table_is_not_taken_for_its_column_names(fitted):
    class Table(dict):
        columns = ("text", "label")

    class Frame:
        columns = ("text", "label")

        def __iter__(self):
            return iter(self.columns)

    for table in (Table(text=["a"], label=[0]), Frame()):
        with pytest.raises(UserError, match="column"):
            fitted.predict(table)
