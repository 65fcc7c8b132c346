import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.overlap.leaks import ClassSize, Clue, Variants, label_leaks

WORDS = [f"word{number}" for number in range(2000)]


def examples(seed=0, count=400, labels=("good", "bad"), length=20):
    """Return texts of common and rare words that say nothing of their labels."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    texts = [" ".join(rng.choices(WORDS, weights=weights, k=length)) for _ in range(count)]
    return texts, [rng.choice(labels) for _ in range(count)]


def with_token(token, share, texts, labels, label, *, wrong=0):
    """Return the texts, with a token in a share of those of a label and in a few of the others."""
    own = [number for number, each in enumerate(labels) if each == label]
    others = [number for number, each in enumerate(labels) if each != label]
    chosen = {*own[: round(share * len(own))], *others[:wrong]}
    return [f"{text} {token}" if number in chosen else text for number, text in enumerate(texts)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [("good", "bad"), tuple(f"class {number}" for number in range(20)), ("0", "1")])
def test_texts_that_say_nothing_are_clean(seed, labels):
    texts, given_labels = examples(seed, labels=labels)
    found = label_leaks(texts, given_labels)
    assert found.clean
    assert found.examples == 400


def test_labels_of_a_class_that_nearly_all_have_are_no_leak():
    texts, _ = examples()
    labels = ["rare" if number % 40 == 0 else "usual" for number in range(400)]
    assert label_leaks(texts, labels).tokens == ()


@pytest.mark.parametrize("token", ["srcA", "★", ":-)", "it's", "7.5/10", "推荐"])
def test_a_token_that_gives_the_label_away_is_named(token):
    texts, labels = examples()
    found = label_leaks(with_token(token, 0.5, texts, labels, "good"), labels)
    assert not found.clean
    assert {clue.label for clue in found.tokens} == {"good"}
    clue = found.tokens[0]
    assert clue.token in {token.lower(), "7", "10", "/", "."}
    assert clue.count == clue.right == round(labels.count("good") * 0.5)
    assert clue.purity == 1
    assert clue.class_share == pytest.approx(0.5, abs=0.01)


def test_a_token_counts_once_for_a_text_and_case_and_width_do_not_matter():
    texts, labels = examples()
    marks = ["SRC src Src ｓｒｃ" if label == "good" else "" for label in labels]
    found = label_leaks([f"{text} {mark}" for text, mark in zip(texts, marks, strict=True)], labels)
    assert found.tokens == (
        Clue(token="src", label="good", count=labels.count("good"), right=labels.count("good"), class_share=1.0),
    )


def test_purity_support_and_count_have_their_limits():
    texts, labels = examples(count=1000)
    good = labels.count("good")

    def flagged(share, wrong):
        return [
            clue.token
            for clue in label_leaks(with_token("src", share, texts, labels, "good", wrong=wrong), labels).tokens
        ]

    assert flagged(0.5, wrong=0) == ["src"]
    assert flagged(0.5, wrong=round(good * 0.5 * 0.015)) == ["src"]
    assert flagged(0.5, wrong=round(good * 0.5 * 0.03)) == []
    assert flagged(0.22, wrong=0) == ["src"]
    assert flagged(0.18, wrong=0) == []
    few_texts, few = texts[:18], ["good", "bad"] * 9
    assert label_leaks(with_token("src", 1.0, few_texts, few, "good"), few).tokens == ()  # nine may be chance


def test_what_is_pure_by_chance_among_many_words_is_not_named():
    rng = random.Random(3)
    labels = ["good"] * 12 + ["bad"] * 12
    texts = [" ".join(rng.sample(WORDS, 900)) for _ in labels]  # 2,000 words, each in about half of the texts
    sure = [f"{text} src" if label == "good" else text for text, label in zip(texts, labels, strict=True)]
    assert label_leaks(texts, labels).tokens == ()
    assert label_leaks(sure, labels).tokens == ()  # 12 of 12 at even odds, of 2,001 words: too little to say so
    more = ["good"] * 40 + ["bad"] * 40
    sure = [" ".join([*rng.sample(WORDS, 900), "src" if label == "good" else "-"]) for label in more]
    assert {clue.token for clue in label_leaks(sure, more).tokens} == {"src", "-"}


def test_a_label_that_stands_in_the_text_is_named():
    texts, labels = examples(labels=("very good", "bad", "不好"))
    told = [f"{text} Label: {label.title()}." for text, label in zip(texts, labels, strict=True)]
    found = label_leaks(told, labels)
    assert {(clue.token, clue.label, clue.purity, clue.class_share) for clue in found.names} == {
        ("very good", "very good", 1.0, 1.0),
        ("bad", "bad", 1.0, 1.0),
        ("不 好", "不好", 1.0, 1.0),
    }
    few = [told[number] if number % 4 == 0 else text for number, text in enumerate(texts)]
    assert {clue.label for clue in label_leaks(few, labels).names} == {"very good", "bad", "不好"}


def test_a_label_that_stands_in_texts_of_other_labels_too_is_none():
    texts, labels = examples(labels=("sport", "news"))
    both = [f"{text} sport news" for text in texts]
    inside = [f"{text} transports" if label == "sport" else text for text, label in zip(texts, labels, strict=True)]
    assert label_leaks(both, labels).names == ()
    assert label_leaks(inside, labels).names == ()


def test_classes_are_counted_and_those_with_one_example_named():
    found = label_leaks(["a", "b", "c", "d", "e"], ["x", "y", "x", "z", "x"])
    assert found.classes == (
        ClassSize(label="x", count=3, share=0.6),
        ClassSize(label="y", count=1, share=0.2),
        ClassSize(label="z", count=1, share=0.2),
    )
    assert found.singles == ("y", "z")
    assert not found.clean


def test_labels_that_differ_by_case_and_space_alone_are_named():
    labels = ["Pos", "pos ", "pos", "neg", "ｎｅｇ", "new  york", "New York", "newyork"]
    found = label_leaks([f"text {number}" for number in range(8)], labels)
    assert found.variants == (
        Variants(labels=("Pos", "pos", "pos "), counts=(1, 1, 1)),
        Variants(labels=("New York", "new  york"), counts=(1, 1)),
        Variants(labels=("neg", "ｎｅｇ"), counts=(1, 1)),
    )


def test_one_text_with_two_labels_is_a_contradiction():
    texts = ["It was fine.", "another", "it WAS fine", "It was fine!", "!!!", "???", "!!!"]
    labels = ["good", "good", "bad", "good", "good", "bad", "bad"]
    found = label_leaks(texts, labels)
    assert found.contradicting == 2
    assert [(each.text, each.labels, each.numbers) for each in found.contradictions] == [
        ("It was fine.", ("good", "bad"), (0, 2)),
        ("!!!", ("good", "bad"), (4, 6)),
    ]
    many = label_leaks([f"text {number // 2}" for number in range(100)], ["a", "b"] * 50)
    assert (many.contradicting, len(many.contradictions)) == (50, 20)


def test_a_hundred_thousand_classes_are_no_trouble():
    found = label_leaks([f"text {number}" for number in range(100_000)], [f"c{number}" for number in range(100_000)])
    assert len(found.classes) == len(found.singles) == 100_000
    assert found.tokens == found.names == ()


def test_nothing_has_no_leaks_and_unequal_numbers_are_refused():
    empty = label_leaks([], [])
    assert empty.clean
    assert (empty.examples, empty.classes) == (0, ())
    with pytest.raises(UserError, match="2 texts and 1 labels"):
        label_leaks(["a", "b"], ["x"])


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=5)), max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_texts_and_labels_are_counted(pairs):
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    found = label_leaks(texts, labels)
    assert sum(size.count for size in found.classes) == found.examples == len(pairs)
    assert all(clue.purity >= 0.98 and clue.count >= 10 for clue in found.tokens)
    assert all(len(set(each.labels)) > 1 for each in found.contradictions)
