import re
import sys
import unicodedata

import pytest
from ftfy import fix_encoding
from hypothesis import example, given
from hypothesis import strategies as st

from bothways.text.cleaning.characters import (
    cut_stacked_marks,
    is_usual,
    normalise,
    remove_control_characters,
    remove_private_use,
    repair_encoding,
    suspicious,
    unify_line_ends,
)

FAMILY = "👨‍👩‍👧‍👦"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\r\r\nb", "a\n\nb"),
        ("a\vb\fc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf"),
        ("a\x1cb\x1db\x1ec", "a\x1cb\x1db\x1ec"),  # control characters, not line ends
    ],
)
def test_all_line_ends_become_line_feeds(text, expected):
    assert unify_line_ends(text) == expected


@pytest.mark.parametrize("before", range((1 << 18) - 3, (1 << 18) + 2))
def test_a_long_text_is_changed_in_blocks_that_cut_no_line_end_in_two(before):
    text = "x" * before + "\r\n" + "\r" * (1 << 18) + "\0"
    assert unify_line_ends(text) == "x" * before + "\n" * ((1 << 18) + 1) + "\0"
    assert remove_control_characters(text) == text[:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\0b\x07c\x1ad\x1ce\x7ff\x9dg", "abcdefg"),
        ("tab\tline\n\r\v\f\x85\u2028\u2029", "tab\tline\n\r\v\f\x85\u2028\u2029"),
        ("\ufeffa\ufeffb\u200bc\u2060d\xade", "abcde"),
        ("\u202eabc\u202c \u2066d\u2069\u200e\u200f\u061c", "abc d"),
        ("a\ufdd0b\ufffec\U0010ffffd\U0003fffee\U000e0001f", "abcdef"),
        ("a\ud800b\udfffc", "abc"),
        ("a\ufff9b\ufffcc", "abc"),
        ("\ufffd", "\ufffd"),  # stands for a lost character: the reader put it there
        ("\x1b[1;31mred\x1b[0m \x1b[2Kx", "red x"),
        ("\x1b]0;title\x07a\x1b]8;;http://x.y\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1bP1$r0m\x1b\\a\x1b(Bb\x1b7c", "abc"),
        ("\x1b]0;never closed\nnext", "0;never closed\nnext"),
        ("a[0m", "a[0m"),
        (FAMILY, FAMILY),
        ("❤️‍🔥 🏴‍☠️ 🏳️‍🌈 👩🏽‍🚀", "❤️‍🔥 🏴‍☠️ 🏳️‍🌈 👩🏽‍🚀"),
        (SCOTLAND, SCOTLAND),
        ("\U000e0067\U000e0062hidden\U000e007f", "hidden"),
        ("\U0001f3f4" + "\U000e0061" * 40 + "\U000e007f", "\U0001f3f4"),  # a message hidden behind a flag
        ("क्‍ष ക്‍", "क्‍ष ക്‍"),
        ("می‌خواهم", "می‌خواهم"),
        ("က္‌ ក្‌", "က္‌ ក្‌"),
        ("क\u200d\u200dष", "क\u200dष"),
        ("\u200dab\u200cc中\u200d文", "abc中文"),
        ("क\u0301\u200dष", "क\u0301\u200dष"),
        ("a\u0301\u200db", "a\u0301b"),
        ("\ue000\uf8ff", "\ue000\uf8ff"),
        ("中文，。「」《》　全角ＡＢ①…—", "中文，。「」《》　全角ＡＢ①…—"),
    ],
)
def test_only_what_shows_nothing_is_removed(text, expected):
    assert remove_control_characters(text) == expected


def test_private_use_characters_are_removed_in_all_three_areas():
    assert remove_private_use("a\ue000b\uf8ffc\U000f0000d\U0010fffde") == "abcde"
    assert remove_private_use("\ud7ff\uf900\U000effff") == "\ud7ff\uf900\U000effff"


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normal_forms_are_those_of_unicode(form):
    text = "e\u0301 ﬁ ，Ａ　\uf90a ㎏ \u1100\u1161"
    assert normalise(text, form) == unicodedata.normalize(form, text)


def test_nfc_leaves_chinese_punctuation_and_nfkc_does_not():
    text = "中文，。：；！？（）「」“”…—　Ａ"
    assert normalise(text, "NFC") is text
    assert normalise("，", "NFKC") == ","


@pytest.mark.parametrize("mark", ["\u0301", "\U0001d165"])
def test_stacks_of_marks_are_cut_at_thirty(mark):
    assert cut_stacked_marks("a" + mark * 30 + "b") == "a" + mark * 30 + "b"
    assert cut_stacked_marks("a" + mark * 31 + "b" + mark * 99) == "a" + mark * 30 + "b" + mark * 30


MISREAD = ["latin-1", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "iso8859-2", "mac_roman", "cp437"]


def misread(text: str, encoding: str) -> str:
    return "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("encoding", MISREAD)
@pytest.mark.parametrize(
    "text", ["The café’s “naïve” owner — that’s all…", "déjà vu, über, señor; à côté", "她说：“你好，世界。”然后走了。"]
)
def test_misread_utf8_is_repaired(encoding, text):
    broken = misread(text, encoding)
    if encoding in ("latin-1", "cp1252"):
        assert repair_encoding(f"Fine line, “quoted”.\n{broken}\nFin é.") == f"Fine line, “quoted”.\n{text}\nFin é."


@pytest.mark.parametrize("encoding", MISREAD)
@given(text=st.text(st.sampled_from("ab .éàçñüß£ÉÖ’“”–—…•€™中文你好，。《》😀жЯαΩŠ"), max_size=12))
def test_the_quick_look_misses_nothing_that_ftfy_would_repair(encoding, text):
    if encoding in ("mac_roman", "cp437"):
        text = re.sub("[жЯαΩŠ]", "", text)  # left alone: good text holds what they look like
    broken = misread(text, encoding)
    if fix_encoding(broken) != broken:
        assert suspicious().search(broken)


def test_it_is_repaired_however_often_it_was_misread():
    broken = "naïve café"
    for _ in range(4):
        broken = broken.encode().decode("latin-1")
    assert repair_encoding(broken) == "naïve café"


@pytest.mark.parametrize(
    "text",
    [
        "“Voilà!”—l’été, où ça? É”, «à la carte» Ürümqi",
        "ﬁre ＡＢＣ ‘quotes’ &amp; &lt;b&gt; … ½ ™",
        "В СССР» и Я”, Ελλάδα’ς",
        "中文，“引号”——《书名》……·",
        "Ã, Â and à are letters",
    ],
)
def test_good_text_is_not_repaired(text):
    assert repair_encoding(text) is text


def test_lone_c1_controls_are_windows_1252_in_english_and_stray_bytes_in_chinese():
    assert repair_encoding("It\x92s \x93so\x94\x85") == "It’s “so”…"
    assert repair_encoding("“It\x92s” Ł") == "“It’s” Ł"
    assert "›" not in repair_encoding("冀\x9b建活动")


def test_a_long_line_is_repaired_in_pieces():
    assert repair_encoding("â€™ word " * 20_000) == "’ word " * 20_000


TRICKY = st.text(
    st.one_of(
        st.sampled_from(
            "a é\u0301\u0316\u093c\u0344क\u200c\u200d\u200b\n\r\x85\x1b[0mÃ©â€™\xa0\U0001f3f4\U000e0061\U000e007f👩中，　"
        ),
        st.characters(),
    )
)


@given(TRICKY)
@example("क\u0301\u200b\u093c\u200d")
def test_a_usual_text_needs_none_of_the_steps(text):
    if is_usual(text):
        for step in (unify_line_ends, remove_control_characters, remove_private_use, cut_stacked_marks):
            assert step(text) == text


@given(TRICKY)
@example("a\u200d\u0301\u200d\u0301")
def test_no_joiner_that_was_kept_goes_after_normalisation(text):
    once = normalise(remove_control_characters(text), "NFC")
    assert normalise(remove_control_characters(once), "NFC") == once


def test_every_character_is_either_usual_or_looked_at():
    for char in map(chr, range(sys.maxunicode + 1)):
        is_control = unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n"
        if is_control:
            assert not is_usual(char + "中"), hex(ord(char))


@pytest.mark.parametrize("unit", ["\u0301\u0316", "e\u0301\u0316\u0327", "\u0344"])
def test_stacks_of_marks_are_normalised_in_linear_time(unit):
    text = "a" + unit * 200_000  # without the cut, minutes
    result = normalise(cut_stacked_marks(text), "NFC")
    assert len(result) <= len(text)
