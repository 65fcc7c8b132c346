"""AutoModelForQuestionAnswering: answers as they stand in passages."""

import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoModelForQuestionAnswering, AutoTokenizer
from bothways.errors import UserError

JUDGING = ("lovely", "brilliant", "moving", "great", "dull", "awful", "tedious", "bad")
LEARN = {"epochs": 12, "batch_size": 8, "learning_rate": 2e-3, "progress": False}


def ask(reviews):
    """Return questions about reviews, with the one word that judges as the answer."""
    texts, _ = reviews
    answers = [next(word for word in text.split() if word in JUDGING) for text in texts]
    return [("was the film", text) for text in texts], answers


@pytest.fixture(scope="module")
def fitted(folders, reviews):
    return AutoModelForQuestionAnswering.from_pretrained(folders["bert"]).fit(*ask(reviews), **LEARN)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_every_family_learns(family, folders, reviews, unseen):
    model = AutoModelForQuestionAnswering.from_pretrained(folders[family]).fit(*ask(reviews), **LEARN)
    pairs, answers = ask(unseen)
    assert model.score(pairs, answers) > 0.9
    found = model.predict_answers(pairs[:20])
    for (_, passage), [answer] in zip(pairs, found, strict=False):
        assert passage[answer.start : answer.end] == answer.text
        assert 0 < answer.score <= 1


def test_what_is_saved_says_the_same_here_and_in_transformers(fitted, unseen, tmp_path):
    fitted.save_pretrained(tmp_path / "model")
    pairs, _ = ask(unseen)
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model")
    assert again.predict(pairs) == fitted.predict(pairs)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokens = tokenizer(
        [pair[0] for pair in pairs[:4]], [pair[1] for pair in pairs[:4]], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        expected, said = theirs(**tokens), fitted(**tokens).logits
    real = tokens.attention_mask.bool()
    assert torch.allclose(said[..., 0][real], expected.start_logits[real], atol=1e-4)
    assert torch.allclose(said[..., 1][real], expected.end_logits[real], atol=1e-4)


def test_an_answer_in_a_long_passage_is_found_in_the_part_that_has_it(fitted):
    rng = np.random.default_rng(3)
    right = 0
    for place in range(20):
        words = [str(word) for word in rng.choice(["the", "film", "plot", "story", "was", "and", "a"], 200)]
        words[10 * place] = "lovely"
        [answer] = fitted.predict([("was the film", " ".join(words))])
        right += answer == "lovely"
    assert right >= 18


def test_a_passage_that_does_not_say_is_learnt_too(folders, reviews, unseen):
    pairs, answers = ask(reviews)
    silent = [
        (question, passage.replace(answer, "story")) for (question, passage), answer in zip(pairs, answers, strict=True)
    ]
    model = AutoModelForQuestionAnswering.from_pretrained(folders["bert"])
    model.fit(pairs + silent, answers + [""] * len(silent), **LEARN)
    assert model.answers_none
    others, right = ask(unseen)
    empty = [
        (question, passage.replace(answer, "story")) for (question, passage), answer in zip(others, right, strict=True)
    ]
    figures = model.evaluate(others + empty, right + [""] * len(empty))
    assert figures["exact_match"] > 0.85
    assert all(found[0].text for found in model.predict_answers(empty, none=False))
    assert len(model.predict_answers(others[:1], top_k=3)[0]) == 3


def test_answers_may_be_as_squad_has_them(folders, reviews):
    pairs, answers = ask(reviews)
    squad = [
        {"text": [answer, "another"], "answer_start": [passage.index(answer), 0]}
        for (_, passage), answer in zip(pairs, answers, strict=True)
    ]
    table = {"question": [pair[0] for pair in pairs], "context": [pair[1] for pair in pairs]}
    model = AutoModelForQuestionAnswering.from_pretrained(folders["bert"]).fit(table, squad, **LEARN)
    assert model.score(table, squad) > 0.9
    assert model.predict(pairs[0]) == model.predict([pairs[0]])


def test_the_place_of_a_word_is_its_first_unless_it_is_told():
    from bothways.auto.question_answering import _place

    assert _place("a", "a plot a", 0) == (0, 1)
    assert _place({"text": ["a"], "answer_start": [7]}, "a plot a", 0) == (7, 8)
    assert _place({"text": [], "answer_start": []}, "a plot a", 0) is None


@pytest.mark.parametrize(
    ("inputs", "answers", "message"),
    [
        (
            [("q", "a plot")],
            ["film"],
            r"answers\[0\] is 'film', which the passage does not say; give it letter for letter",
        ),
        ([("q", "a plot")], [{"text": "plot", "answer_start": 1}], "does not say at character 1"),
        ([("q", "a plot")], ["plot", "a"], "there are 1 questions and 2 answers"),
        ([("q", "a plot")], [3], r"answers\[0\] must be its text"),
        (["a plot"], ["plot"], r"inputs\[0\] must be a pair"),
        ([("q", "")], [""], r"inputs\[0\] must be a pair"),
        ("a plot", ["plot"], "give pairs"),
        ([], [], "give pairs"),
    ],
)
def test_mistakes_get_a_sentence(folders, inputs, answers, message):
    model = AutoModelForQuestionAnswering.from_pretrained(folders["bert"])
    with pytest.raises(UserError, match=message):
        model.fit(inputs, answers, **LEARN)


def test_an_untrained_head_says_so_even_when_saved(folders, tmp_path):
    model = AutoModelForQuestionAnswering.from_pretrained(folders["bert"])
    model.save_pretrained(tmp_path / "model")
    for each in (model, AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model")):
        with pytest.raises(UserError, match="call fit first"):
            each.predict([("q", "a plot")])
