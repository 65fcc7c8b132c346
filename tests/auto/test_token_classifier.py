"""AutoModelForTokenClassification: a label for each word."""

import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoModelForTokenClassification, AutoTokenizer
from bothways.errors import UserError

PRAISE, BLAME = ("lovely", "brilliant", "moving", "great"), ("dull", "awful", "tedious", "bad")
FAMILIES = ["bert", "gpt2", "llama"]


def tag(texts):
    """Return texts as lists of words, and which of them praise and which blame."""
    words = [text.split() for text in texts]
    return words, [
        ["praise" if word in PRAISE else "blame" if word in BLAME else "O" for word in each] for each in words
    ]


@pytest.fixture(scope="module")
def fitted(folders, reviews, learn, tmp_path_factory):
    model = AutoModelForTokenClassification.from_pretrained(folders["bert"]).fit(*tag(reviews[0]), **learn)
    folder = tmp_path_factory.mktemp("tagger") / "model"
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns(family, folders, reviews, unseen, learn):
    model = AutoModelForTokenClassification.from_pretrained(folders[family]).fit(
        *tag(reviews[0]), **{**learn, "epochs": 8}
    )
    words, tags = tag(unseen[0])
    assert model.score(words, tags) > 0.95
    predicted = model.predict(words)
    assert list(map(len, predicted)) == list(map(len, words))
    pairs = [pair for said, right in zip(predicted, tags, strict=True) for pair in zip(said, right, strict=True)]
    figures = model.evaluate(words, tags)
    assert np.mean([one == other for one, other in pairs]) == pytest.approx(figures["accuracy"])
    assert 0.8 < figures["f1"] <= 1


def test_what_is_saved_says_the_same_here_and_in_transformers(fitted, unseen):
    model, folder = fitted
    words, _ = tag(unseen[0][:8])
    again = AutoModelForTokenClassification.from_pretrained(folder)
    assert again.labels == ("O", "blame", "praise")
    assert again.predict(words) == model.predict(words)
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    assert theirs.config.id2label == {0: "O", 1: "blame", 2: "praise"}
    tokens = AutoTokenizer.from_pretrained(folder)(words, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(**tokens).logits
        said = model(**tokens).logits
    real = tokens.attention_mask.bool()
    assert torch.allclose(said[real], expected[real], atol=1e-4)


def test_encodings_with_ignored_tokens_as_scripts_of_transformers_make_them(folders, reviews, unseen, learn):
    tokenizer = AutoTokenizer.from_pretrained(folders["bert"])

    def encode(texts):
        words, tags = tag(texts)
        numbers = {"O": 0, "blame": 1, "praise": 2}
        encodings = tokenizer(words, is_split_into_words=True, truncation=True, padding=True)
        labels = []
        for row in range(len(words)):
            ids = [None if word is None else numbers[tags[row][word]] for word in encodings.word_ids(row)]
            padded = ids + [None] * (len(encodings.input_ids[row]) - len(ids))
            labels.append([-100 if index is None else index for index in padded])
        return encodings, labels

    model = AutoModelForTokenClassification.from_pretrained(folders["bert"]).fit(*encode(reviews[0]), **learn)
    encodings, labels = encode(unseen[0])
    assert model.score(encodings, labels) > 0.95
    assert [len(each) for each in model.predict(encodings)] == [sum(mask) for mask in encodings.attention_mask]


def test_a_long_text_is_told_whole_and_learnt_from_whole(fitted, folders, reviews, learn):
    model, _ = fitted
    words, tags = tag([" ".join(reviews[0][:40])])
    assert len(words[0]) > 4 * model.model.config.max_position_embeddings
    assert model.score(words, tags) > 0.95
    short = AutoModelForTokenClassification.from_pretrained(folders["bert"])
    long_texts = [" ".join(reviews[0][start : start + 40]) for start in range(0, 240, 40)]
    short.fit(*tag(long_texts), **{**learn, "epochs": 40, "validation": 0})
    assert short.score(*tag(reviews[0][:50])) > 0.9


def test_words_of_several_tokens_and_of_ideographs_have_one_label_each(folders, learn):
    model = AutoModelForTokenClassification.from_pretrained(folders["gpt2"])
    words = [["extraordinarily", "unlikely", "word"], list("我们在北京")]
    tags = [["a", "b", "a"], ["a", "a", "a", "b", "b"]]
    model.fit(words, tags, **{**learn, "epochs": 60})
    assert model.predict(words) == tags


def test_a_label_that_only_held_out_texts_have_is_a_class_too(folders, learn):
    words, tags = [["the", "film"], ["a", "plot"]] * 5, [["x", "y"], ["x", "y"]] * 5
    for rare in range(10):
        rarely = [["z", "y"] if number == rare else each for number, each in enumerate(tags)]
        model = AutoModelForTokenClassification.from_pretrained(folders["bert"])
        model.fit(words, rarely, validation=0.3, **{**learn, "epochs": 1})
        assert model.labels == ("x", "y", "z")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_word_of_which_the_tokenizer_keeps_nothing_has_a_label_too(family, folders, learn):
    model = AutoModelForTokenClassification.from_pretrained(folders[family])
    words, tags = [["the", "\ufe0f", "film", ""], ["plot"]], [["x", "y", "x", "y"], ["x"]]
    model.fit(words, tags, **{**learn, "epochs": 60})
    assert model.predict(words) == tags
    assert words[0][3] == ""  # the user's own list is left alone


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        ([["a", "the"]], [["x"]], r"inputs\[0\] has 2 words or tokens, and labels\[0\] 1 labels"),
        ([["a", "the"]], [["x", "y"], ["x"]], "there are 1 inputs and 2 lists of labels"),
        (["a the"], [["x", "y"]], r"inputs\[0\] must be a list of words, not 'a the'"),
        ("a the", [["x", "y"]], "give lists of words"),
        ([["a", "the"]], [["x", "x"]], "all 2 labels are 'x'"),
        ([["a", "the"]], [[-100, -100]], "not one word has a label"),
        ([], [], "there is not one example"),
        ([["a", 3]], [["x", "y"]], "which is no word"),
        ([["a", "the"]], "xy", "labels must be a list"),
    ],
)
def test_mistakes_get_a_sentence(folders, learn, inputs, labels, message):
    model = AutoModelForTokenClassification.from_pretrained(folders["bert"])
    with pytest.raises(UserError, match=message):
        model.fit(inputs, labels, **learn)


def test_an_untrained_head_says_so(folders):
    with pytest.raises(UserError, match="call fit first"):
        AutoModelForTokenClassification.from_pretrained(folders["bert"]).predict([["a"]])
