import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.text.reading.documents import Document
from bothways.text.splitting import FEWEST, LONGEST, cut_long, split_of, without_duplicates
from bothways.verbs.prepare import split_documents

SHARES = {"validation_share": 0.1, "test_share": 0.2}


def documents(*texts):
    return [Document(text=text, source=f"file-{number}") for number, text in enumerate(texts)]


def long_text(size, seed=0):
    draw = np.random.default_rng(seed)
    letters = "".join(draw.choice(list(string.ascii_lowercase), size=5 * (size // 6 + 1)))
    words = [letters[start : start + 5] for start in range(0, len(letters), 5)]
    sentences = [" ".join(words[start : start + 12]) + ". " for start in range(0, len(words), 12)]
    return "".join(sentence + ("\n\n" if number % 5 == 4 else "") for number, sentence in enumerate(sentences))[:size]


def test_shares_are_kept():
    count = Counter(split_of(f"text {number}", **SHARES) for number in range(20_000))
    assert count["validation"] == pytest.approx(2000, abs=4.5 * (20_000 * 0.1 * 0.9) ** 0.5)
    assert count["test"] == pytest.approx(4000, abs=4.5 * (20_000 * 0.2 * 0.8) ** 0.5)


@pytest.mark.parametrize(("shares", "splits"), [((0, 0), {"train"}), ((1, 0), {"validation"}), ((0, 1), {"test"})])
def test_extreme_shares_take_nothing_or_all(shares, splits):
    validation, test = shares
    found = {split_of(str(number), validation_share=validation, test_share=test) for number in range(200)}
    assert found == splits


@given(st.text())
def test_the_same_text_always_falls_on_the_same_side(text):
    assert split_of(text, **SHARES) == split_of(text, **SHARES)


def test_a_larger_share_moves_nothing_out_of_validation():
    for number in range(500):
        if split_of(str(number), validation_share=0.1) == "validation":
            assert split_of(str(number), validation_share=0.3) == "validation"


def test_lone_surrogates_are_text_too():
    assert split_of("\ud800", **SHARES) in ("train", "validation", "test")
    assert len(list(without_duplicates(documents("\ud800", "\ud800", "\ud801")))) == 2


def test_adding_documents_moves_none():
    before = documents(*(long_text(300, seed) for seed in range(FEWEST)))
    after = documents(*(long_text(300, 1000 + seed) for seed in range(50)), *(each.text for each in before))
    sides = [
        {each.text: name for name, part in split_documents(cut_long(each_set), **SHARES).items() for each in part}
        for each_set in (before, after)
    ]
    assert len(sides[1]) == len(sides[0]) + 50
    assert all(sides[1][text] == side for text, side in sides[0].items())


@pytest.mark.parametrize("copies", [["Some Text"], ["some text", "SOME  TEXT", " some\ntext\n"]])
def test_copies_are_left_out_whatever_their_case_and_spacing(copies):
    kept = list(without_duplicates(documents("Some text", *copies, "another text")))
    assert [each.source for each in kept] == ["file-0", f"file-{len(copies) + 1}"]


def test_no_text_is_on_two_sides():
    texts = [long_text(200, seed % 60) for seed in range(300)]
    splits = split_documents(cut_long(list(without_duplicates(documents(*texts)))), **SHARES)
    sides = [{each.text for each in splits[name]} for name in ("train", "validation", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


@given(st.integers(0, 12_000), st.integers(0, 50))
def test_cutting_loses_nothing(size, seed):
    [whole] = documents(long_text(size, seed))
    parts = cut_long([whole])
    assert "".join(part.text for part in parts) == whole.text
    assert all(len(part.text) <= 2000 for part in parts)
    assert all(part.text for part in parts) or size == 0


def test_many_documents_are_cut_only_where_they_are_very_long():
    texts = [long_text(500, seed) for seed in range(FEWEST - 1)] + [long_text(2 * LONGEST + 7)]
    parts = cut_long(documents(*texts))
    assert [part.text for part in parts[: FEWEST - 1]] == texts[:-1]
    cut = parts[FEWEST - 1 :]
    assert "".join(part.text for part in cut) == texts[-1]
    assert all(len(part.text) <= LONGEST for part in cut)
    assert [part.source for part in cut[:2]] == [f"file-{FEWEST - 1}", f"file-{FEWEST - 1}#1"]


def test_cuts_fall_between_paragraphs_or_at_least_sentences():
    parts = cut_long(documents(long_text(30_000)))
    assert len(parts) > 10
    assert all(part.text.endswith((". ", "\n")) for part in parts[:-1])
    [single] = documents("x" * 5000)  # nowhere to cut well
    assert [len(part.text) for part in cut_long([single])] == [2000, 2000, 1000]


def test_chinese_is_cut_after_a_sentence():
    parts = cut_long(documents("明天回家去吧。" * 900))  # no multiple of its length is a whole part
    assert len(parts) > 3
    assert all(part.text.endswith("。") for part in parts)


@pytest.mark.parametrize("size", [2100, 10_000, 300_000, 3_000_000])
def test_one_long_document_still_has_something_to_validate_on(size):
    splits = split_documents(cut_long(documents(long_text(size))), validation_share=0.01, test_share=0.0)
    assert splits["validation"]
    assert splits["train"]
    held_out = sum(len(each.text) for each in splits["validation"])
    assert held_out < 0.5 * size
