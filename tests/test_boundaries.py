"""Where words begin: the words of the rules, Chinese words of the segmenter, and no text that takes long."""

import re
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways import boundaries
from bothways.boundaries import byte_offsets, segmenter_name, word_starts
from bothways.errors import UserError
from bothways.language import _IDEOGRAPHS, is_cjk, words

PIECES = [
    "a",
    "B",
    "Mr",
    "e.g",
    "12",
    "我",
    "好",
    ".",
    "...",
    "!",
    "。",
    '"',
    "(",
    "[1]",
    "，",
    " ",
    "\n",
    "\u3000",
    "- ",
    "'",
    "\x00",
]

UNITS = [
    *PIECES,
    "d'",
    "’",
    "-",
    "‐",
    "2",
    ",",
    "_",
    "e\u0301",
    "\u0301",
    "\u0903",
    "ß",
    "$",
    "我们",
    "\ud800",
    "\U0001d7ce",
]


@settings(deadline=None)  # a table is made first
@given(st.lists(st.sampled_from(UNITS), max_size=40).map("".join) | st.text())
def test_word_starts_are_the_words_and_each_sign_between_them(text):
    spans = words(text)
    between = set(range(len(text))) - {position for start, stop in spans for position in range(start, stop)}
    signs = [position for position in between if re.match(r"[^\w\s]|_", text[position])]
    found = word_starts(text, segmenter="none")
    assert set(found) >= {start for start, _ in spans}
    assert set(found) <= {start for start, _ in spans} | set(signs)
    assert {position for position in signs if ord(text[position]) < 128 and text[position].isprintable()} <= set(found)
    assert found.dtype == np.int64
    assert np.all(np.diff(found) > 0)


def test_word_starts():
    def units(text, **settings):
        return [text[start:stop].strip() for start, stop in pairwise([*word_starts(text, **settings), len(text)])]

    assert units("Don't stop: 1,000.5 well-known 'rock’n’roll' -- at\n5.", language="en") == (
        ["Don't", "stop", ":", "1,000.5", "well-known", "'", "rock’n’roll", "'", "-", "-", "at", "5", "."]
    )
    assert units("我爱Python3。\U0001f600\U00020000", segmenter="none") == (
        ["我", "爱", "Python3", "。", "\U0001f600", "\U00020000"]
    )
    assert units("e\u0301a\u0301\u0301-b \u0301c", language="en") == ["e\u0301a\u0301\u0301-b \u0301", "c"]
    assert units("a\x00b c\u200bd") == ["a\x00", "b", "c\u200b", "d"]
    assert word_starts("").tolist() == word_starts(" \n\t\u3000").tolist() == []
    assert word_starts("  a").tolist() == [2]


CHINESE_TEXTS = st.lists(
    st.sampled_from([*"我来到北京清华大学中国人民们的是", "〇", "々", "\U00020000", "a", "。", "\n"])
).map("".join)


@settings(max_examples=50, deadline=None)  # the dictionary is loaded first
@given(CHINESE_TEXTS)
def test_chinese_words_are_those_of_the_segmenter_run_by_run(text):
    rjieba = pytest.importorskip("rjieba")
    expected = []
    for run in re.finditer(rf"[{_IDEOGRAPHS}]+|[^{_IDEOGRAPHS}]+", text):
        if is_cjk(run[0][0]):
            lengths = [len(word) for word in rjieba.cut(run[0])]
            expected += [run.start() + sum(lengths[:number]) for number in range(len(lengths))]
        else:
            expected += [run.start() + start for start in word_starts(run[0])]
    assert word_starts(text, "zh").tolist() == expected
    assert word_starts(text).tolist() == expected


def test_chinese_word_starts():
    pytest.importorskip("rjieba")
    text = "小明来到北京清华大学, I came to 北京大学。"
    assert [text[start] for start in word_starts(text)] == list("小来北清,Ict北。")
    assert [text[start] for start in word_starts(text, "en")] == list("小明来到北京清华大学,Ict北京大学。")
    assert word_starts(text, "zh", "none").tolist() == word_starts(text, "en").tolist()


def test_added_words_of_others_change_nothing():
    rjieba = pytest.importorskip("rjieba")
    code = (
        "import rjieba; from bothways.boundaries import word_starts; rjieba._DEFAULT_JIEBA.add_word('来到北京', 10**6, 'n'); "
        "print(rjieba.cut('我来到北京'), word_starts('我来到北京').tolist())"
    )
    assert rjieba.cut("我来到北京") == ["我", "来到", "北京"]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['我', '来到北京'] [0, 1, 3]"


def test_segmenters(monkeypatch):
    with pytest.raises(UserError, match="unknown segmenter 'jieba'; legal: auto, none, rjieba"):
        word_starts("a", segmenter="jieba")
    assert segmenter_name("none") == "none"
    if boundaries.find_spec("rjieba"):
        assert re.fullmatch(r"rjieba \d+\.\d+.*", segmenter_name())
        assert segmenter_name("rjieba") == segmenter_name()
    segmenter_name.cache_clear()
    monkeypatch.setattr(boundaries, "find_spec", lambda _: None)
    assert segmenter_name() == "none"
    with pytest.raises(UserError, match=r"pip install 'bothways\[chinese\]'"):
        word_starts("我们", segmenter="rjieba")
    assert word_starts("我们").tolist() == [0, 1]
    segmenter_name.cache_clear()


@given(st.text() | st.lists(st.sampled_from([*"aé我", "\U0001f600", "\ud800"])).map("".join))
def test_byte_offsets(text):
    offsets = list(range(len(text), -1, -1))
    found = byte_offsets(text, offsets)
    assert found.tolist() == [len(text[:offset].encode("utf-8", "surrogatepass")) for offset in offsets]
    assert found.dtype == np.int64
    assert byte_offsets(text, []).tolist() == []


def test_byte_offsets_are_a_copy():
    offsets = np.array([0, 1])
    assert byte_offsets("ab", offsets) is not offsets


def test_unknown_languages():
    with pytest.raises(UserError, match="unknown language 'fr'; legal: auto, en, zh"):
        word_starts("Bonjour", "fr")


SIZE = 400_000


@pytest.mark.parametrize("piece", ["a", ".", "a.", " ", "\n", "。", "好", "a'", "1,", "e\u0301"])
def test_time_is_linear(piece):
    text = piece * (SIZE // len(piece))
    started = time.process_time()
    word_starts(text), byte_offsets(text, [len(text)])
    assert time.process_time() - started < 2
