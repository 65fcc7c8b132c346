import pytest

from bothways.text.cleaning.lines import (
    cut_blank_lines,
    drop_boilerplate,
    drop_consecutive_lines,
    drop_repeated_lines,
    strip_line_ends,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a \nb\t\nc　\xa0\nd", "a\nb\nc\nd"),
        ("a\n \n　\nb", "a\n\n\nb"),
        ("  a\n　　段落", "  a\n　　段落"),
        ("a ", "a"),
        ("a　", "a"),
        ("a \n", "a\n"),
        ("a\n", "a\n"),
        (" ", ""),
    ],
)
def test_white_space_goes_at_the_end_of_lines_and_nowhere_else(text, expected):
    assert strip_line_ends(text) == expected


def test_a_long_text_is_stripped_in_blocks_of_whole_lines():
    assert strip_line_ends(" ab \n" * 200_000) == " ab\n" * 200_000
    assert strip_line_ends("a" * 300_000 + " \n\n \nb ") == "a" * 300_000 + "\n\n\nb"


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("a\n\n\nb", 2, "a\n\n\nb"),
        ("a\n\n\n\nb", 2, "a\n\n\nb"),
        ("a\n\n\n\n\n\nb\n\n\n\n\nc", 1, "a\n\nb\n\nc"),
        ("a\n\nb", 0, "a\nb"),
        ("\n\na\n\n", 2, "a\n"),
        ("a\n", 0, "a\n"),
        ("\n\n\n", 2, ""),
        ("", 2, ""),
    ],
)
def test_runs_of_blank_lines_are_cut(text, most, expected):
    assert cut_blank_lines(text, most) == expected


def test_lines_beyond_the_limit_are_kept_once():
    text = "menu\na\n menu\nb\nmenu \nc\nd\nd\n\n\n\n"
    assert drop_repeated_lines(text, 2) == "menu\na\nb\nc\nd\nd\n\n\n\n"
    assert drop_repeated_lines(text, 3) is text
    assert drop_repeated_lines(text, 1) == "menu\na\nb\nc\nd\n\n\n\n"


def test_equal_lines_in_a_row_are_kept_once_and_blank_ones_stay():
    text = "a\na\na\nb\na\n\n\n \n \n}\n  }"
    assert drop_consecutive_lines(text) == "a\nb\na\n\n\n \n \n}\n  }"
    assert drop_consecutive_lines("a\nb\na") == "a\nb\na"


def test_boilerplate_goes_whatever_stands_around_it():
    assert drop_boilerplate("Text\n  Share this page \nMore", {"Share this page"}) == "Text\nMore"
    text = "Text\nShare this page now"
    assert drop_boilerplate(text, {"Share this page"}) is text
