"""Sentence and word boundaries: what people expect, that nothing is lost, and that no text takes long."""

import io
import json
import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bothways import language as rules
from bothways.errors import UserError
from bothways.language import (
    detect,
    is_cjk,
    mixed,
    resolve,
    sentence_starts,
    sentences,
    told,
    words,
)


def cut(text, language="auto"):
    return [text[start:stop].strip() for start, stop in sentences(text, language)]


def cut_words(text, language="auto"):
    return [text[start:stop] for start, stop in words(text, language)]


ENGLISH = [
    ["It rained.", "We stayed in!", "Did you?", "Yes."],
    ["Mr. Smith and Dr. Jones met Mrs. Brown at St. Paul's.", "They talked."],
    ["MR. BROWN CAME.", "HE SAT."],
    ["Use fruit, e.g. apples, i.e. Malus, etc.", "They keep."],
    ["The U.S. Army left the U.S.", "It went home."],
    ["He came at 5 p.m. Friday.", "She came at 6 p.m.", "They ate."],
    ["Apple Inc. reported a profit.", "I work for Apple Inc.", "We like it."],
    ["J. R. R. Tolkien and C.S. Lewis wrote.", "So did I.", "Then we met."],
    ["It costs $3.50 at 10.30 a.m. today.", "Version 1.2.3 is out.", "Get 1.2.4.", "Then go."],
    ["See No. 5, Fig. 3 and vol. II for more.", "She said no.", "No.", "Nobody came."],
    ["Wait... what?", "Well...", "Perhaps."],
    ["Hm … perhaps so…", "No."],
    ['"Why?" he asked.', '"Go away!"', "She left."],
    ["“Is it?” he said.", "‘Yes.’", "He left (quietly.)", "[He did.]", "End."],
    ["“Really?!”", "“Never!!!”", "OK."],
    ["It is known.[12]", "It is not.[3][4]", "So."],
    ["he came.", "she saw.", "that was it."],
    ["i like it .", "do you ?", "no ."],
    ["Visit bbc.co.uk.", "Or mail a.b@c.org.", "Thanks."],
    ["A. First of all, listen."],
    ["1. Introduction to it all."],
    ["IV. Where it ends."],
    ["In 1998.", "Then 1999."],
    ["He said 你好。", "她走了！", "She left."],
]


@pytest.mark.parametrize("expected", ENGLISH, ids=lambda expected: expected[0])
def test_english_sentences(expected):
    assert cut(" ".join(expected), "en") == expected


def test_a_sentence_goes_on_over_a_wrapped_line():
    assert cut("The quick\nbrown fox.\nIt jumps\r\nover.") == ["The quick\nbrown fox.", "It jumps\r\nover."]


@pytest.mark.parametrize("gap", ["\n\n", "\n \t\n", "\r\n\r\n", "  \n\n\n\n  "])
def test_a_blank_line_ends_a_sentence(gap):
    assert cut(f"Chapter One{gap}and so on") == ["Chapter One", "and so on"]


@pytest.mark.parametrize("bullet", ["-", "*", "•", "1.", "12)", "(3)", "—"])
def test_a_list_item_starts_a_sentence(bullet):
    assert cut(f"Buy:\n{bullet} milk\n  {bullet} Bread and\nbutter") == [
        "Buy:",
        f"{bullet} milk",
        f"{bullet} Bread and\nbutter",
    ]


CHINESE = [
    ["你好。", "你是谁？", "走！", "他来了；", "我走了……", "完"],
    ["“你好吗？”", "他问。", "她答：“好！”", "「是。」", "（完。）", "『对』"],
    ["真的吗？！", "真的!!", "是?", "好"],
    ["价格是3.14元，网址是example.com。", "版本1.2.3发布了。"],
    ["他走了.", "她也走了."],
    ["我……，不知道：“什么！”，他说。"],
    ["我是Mr. Wang，用 Python 3.11 写的。", "很好."],
]


@pytest.mark.parametrize("expected", CHINESE, ids=lambda expected: expected[0])
def test_chinese_sentences(expected):
    assert cut("".join(expected), "zh") == expected


def test_a_new_line_ends_a_chinese_sentence_only():
    assert cut("静夜思\n床前明月光\n\n　　疑是地上霜\n") == ["静夜思", "床前明月光", "疑是地上霜"]
    assert cut("静夜思\n床前明月光", "en") == ["静夜思\n床前明月光"]


def test_white_space_belongs_to_the_sentence_that_follows_and_at_the_end_to_the_last():
    text = " \n One. \t Two!\n\n Three  \n\n"
    assert [text[start:stop] for start, stop in sentences(text)] == [" \n One.", " \t Two!", "\n\n Three  \n\n"]


def test_empty_and_blank_texts():
    assert sentences("") == []
    assert sentences(" \n\n \t\n") == [(0, 6)]
    assert sentences("\n\n", "zh") == [(0, 2)]
    assert words("") == words(" .,!\n") == []


PIECES = [
    "a",
    "B",
    "Mr",
    "e.g",
    "U.S",
    "12",
    "我",
    "好",
    ".",
    "...",
    "!",
    "?",
    "…",
    "。",
    "；",
    "”",
    '"',
    "(",
    ")",
    "[1]",
    "，",
]
PIECES += [" ", "  ", "\n", "\n\n", "\r\n", "\u3000", "- ", "\n- ", "1. ", "-", "'", "\x00", "\u2028", "\U0001f600"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from(["auto", "en", "zh"]))
def test_sentences_cover_the_text(text, language):
    spans = sentences(text, language)
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert all(start < stop for start, stop in spans)
    assert all(not text[stop - 1].isspace() for _, stop in spans[:-1])
    if text.strip():
        assert all(text[start:stop].strip() for start, stop in spans)


@given(st.text(), st.sampled_from(["en", "zh"]))
def test_any_text_is_covered(text, language):
    spans = sentences(text, language)
    assert "".join(text[start:stop] for start, stop in spans) == text


# The sentence rules once more, as they are easiest to believe: one pattern that says everything, tried at each character,
# and a decision in Python for each match. What is fast must agree with it.

NEXT = r"(?=\s++(?=[^\s.,:;!?…)\]}])[\"'“‘«(\[{—–-]*+(?P<next>\w*+\.?))"
TOUCHING = rf"(?=[{rules._IDEOGRAPHS}“「『《])"
CLOSING = r"(?:[\"'”’»)\]}」』）】》〉〕]|\[\d{1,3}\])*+"
LIST_ITEM = r"\n(?=[^\S\n]*+(?:[-*+•‣◦▪·—–]|\(?\d{1,3}[.)、])[^\S\n])"


def reference_pattern(hard, after_stop, gap):
    run = f"[.!?…{hard}]"
    hard_end = rf"(?=[.!?…]*[{hard}]){run}++{CLOSING}(?![，、：])"
    return re.compile(rf"(?<!{run})(?:{hard_end}|(?P<stop>{run}++){CLOSING}{after_stop})|(?P<gap>{gap})")


REFERENCE = {
    "en": reference_pattern("。！？", NEXT, rf"\n[^\S\n]*+\n\s*+|{LIST_ITEM}"),
    "zh": reference_pattern("。！？；…", f"(?:{NEXT}|{TOUCHING})", r"\n\s*+"),
}


def reference_goes_on(text, start, match):
    if match["next"] and match["next"][0].islower():
        first = re.search(r"[^\W\d_]", text[start : min(start + 24, match.start())])
        return first is None or not first[0].islower()
    last = rules._LAST_WORD.search(text[max(start, match.start() - 24) : match.start()])
    if match["stop"] != "." or last is None:
        return False
    if match.start() - start <= 24 and rules._NUMBERING.fullmatch(text, start, match.start()):
        return True
    return rules._is_abbreviation(last[0], match["next"] or "")


def reference_sentences(text, language):
    spans, start = [], 0
    for match in REFERENCE[language].finditer(text):
        if match["gap"] is not None:
            stop = start + len(text[start : match.start()].rstrip())
        elif match["stop"] is not None and reference_goes_on(text, start, match):
            continue
        else:
            stop = match.end()
        if stop > start:
            spans.append((start, stop))
            start = stop
    if text[start:].strip() or (text and not spans):
        spans.append((start, len(text)))
    elif spans:
        spans[-1] = (spans[-1][0], len(text))
    return spans


WORDS = [
    "He",
    "she",
    "it",
    "word",
    "Mrs",
    "mrs",
    "PROF",
    "prof",
    "Messrs",
    "etc",
    "Inc",
    "no",
    "St",
    "p",
    "Ave",
    "have",
]
WORDS += [
    "II",
    "x",
    "éa",
    "_st",
    "1prof",
    "\u212a",
    "ſt",
    "i.e",
    "p.m",
    "co-op",
    "1998",
    "，",
    "[12]",
    "“",
    "‘",
    "—",
    "—A",
]
CRITICAL = st.lists(st.sampled_from([*PIECES, *WORDS, " ", ".", ". ", ".\n", "\n", "！"]), max_size=30).map("".join)


@settings(max_examples=1000, deadline=None)
@given(CRITICAL, st.sampled_from(["en", "zh"]))
@example("word.\n- A", "en")
@example("我mrs. A", "en")
@example("他走了。\n\n 好", "zh")
def test_sentences_are_those_of_the_reference(text, language):
    assert sentences(text, language) == reference_sentences(text, language)


def real_texts(data_dir, name, size):
    zstandard = pytest.importorskip("zstandard")
    with zstandard.open(data_dir / "text" / f"{name}.jsonl.zst", "rb") as file:
        for line in io.TextIOWrapper(file, encoding="utf-8"):
            text = json.loads(line)["text"][:size]
            yield text
            size -= len(text)
            if size <= 0:
                return


@pytest.mark.parametrize("name", ["en/100_novels", "en/classic_books", "en/eltec", "zh/lctt_tech_articles"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_sentences_of_real_texts_are_those_of_the_reference(data_dir, name, language):
    for text in real_texts(data_dir, name, 1_500_000):
        assert sentences(text, language) == reference_sentences(text, language)


@given(CRITICAL | st.text())
def test_sentence_starts(text):
    assert sentence_starts(text) == [start for start, _ in sentences(text)]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text())
def test_words_hold_every_letter_and_digit(text):
    spans = words(text)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    inside = "".join(text[start:stop] for start, stop in spans)
    assert [char for char in inside if char.isalnum()] == [char for char in text if char.isalnum()]
    assert all(text[start].isalnum() or is_cjk(text[start]) for start, _ in spans)


def test_words():
    assert cut_words("Don't stop: the well-known rock’n’roll costs $1,000.50, 'quoted' -- at 5.") == (
        ["Don't", "stop", "the", "well-known", "rock’n’roll", "costs", "1,000.50", "quoted", "at", "5"]
    )
    assert cut_words("我爱Python3和GPT-4！", "zh") == ["我", "爱", "Python3", "和", "GPT-4"]
    assert cut_words("二〇二四年 人々", "zh") == list("二〇二四年人々")
    assert cut_words("naïve Straße cafe\u0301s слово", "en") == ["naïve", "Straße", "cafe\u0301s", "слово"]
    assert cut_words("snake_case U.S. \U00020000\U00020001") == ["snake", "case", "U", "S", "\U00020000", "\U00020001"]


@given(st.lists(st.sampled_from([*"aé我々\U00020000-1", "\ud800", "あ"])).map("".join) | st.text())
def test_detect_counts_ideographs_among_letters(text):
    ideographs, letters = sum(map(is_cjk, text)), len(re.findall(r"[^\W\d_]", text))
    assert detect(text) == ("zh" if ideographs and ideographs >= rules._CHINESE_SHARE * letters else "en")


def test_is_cjk():
    assert all(map(is_cjk, "一龥㐀豈〇々\U00020000\U0003134a"))
    assert not any(map(is_cjk, "aé1。，あア한 "))


def test_detect():
    assert detect("The word 你好 means hello.") == "en"
    assert detect("我用 PyTorch 训练模型。") == "zh"
    assert detect("") == detect("1998 !?") == "en"
    assert detect("1998年") == detect("〇") == "zh"


def test_detect_looks_beyond_front_matter():
    front, body = "Produced by volunteers. " * 2000, "床前明月光，疑是地上霜。" * 20000
    assert detect(front + body) == "zh"
    assert detect(body[:48000] + front * 20) == "en"


def test_resolve_and_unknown_languages():
    assert resolve("你好", "en") == "en"
    assert resolve("你好") == "zh"
    for call in (resolve, sentences, sentence_starts, words):
        with pytest.raises(UserError, match="unknown language 'fr'; legal: auto, en, zh"):
            call("Bonjour", "fr")


SIZE = 400_000
HARD = [
    "a",
    ".",
    "a.",
    "a. ",
    ". ",
    " ",
    "\n",
    "\n ",
    "\n- ",
    "。",
    "。\n",
    "。，",
    "…",
    "好",
    '."',
    "[1]",
    "1. ",
    "a'",
]
HARD += ["No. ", "e\u0301"]
HARD_ONCE = {
    "stops before a letter": "." * SIZE + "a",
    "stops before a comma": "。" * SIZE + "，",
    "closings before a letter": "." + ")" * SIZE + "x",
    "openings": "A. " + "(" * SIZE,
    "white space in a gap": "x" + " " * SIZE + "\n\ny",
    "a sentence with a long start": "-" * SIZE + "A" + " b." * (SIZE // 3),
    "long word before stops": "b" * SIZE + ". c" * (SIZE // 3),
}
TEXTS = {repr(piece): piece * (SIZE // len(piece)) for piece in HARD} | HARD_ONCE


@pytest.mark.parametrize("name", TEXTS)
def test_time_is_linear(name):
    started = time.process_time()
    sentences(TEXTS[name], "en"), sentences(TEXTS[name], "zh"), words(TEXTS[name]), detect(TEXTS[name])
    assert time.process_time() - started < 2  # takes a fifth of a second; quadratic time would be an hour


@pytest.mark.parametrize("piece", ["a", ".", "a.", "。", " "])
def test_five_megabytes_take_less_than_two_seconds(piece):
    text = piece * (5_000_000 // len(piece))
    started = time.process_time()
    sentences(text, "en")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("sizes", "shares", "text"),
    [
        ({}, {}, "en"),
        ({"en": 0}, {}, "en"),
        ({"en": 5}, {"en": 1.0}, "en"),
        ({"en": 991, "zh": 9}, {"en": 0.991}, "en"),
        ({"en": 300, "zh": 700}, {"zh": 0.7, "en": 0.3}, "zh 70 %, en 30 %"),
    ],
)
def test_a_mixed_text_is_told_with_its_shares(sizes, shares, text):
    assert list(mixed(sizes).items()) == list(shares.items())
    assert told("en", sizes) == text
