import random

import pytest

from bothways.text.cleaning.filtering import Figures


def test_shares_leave_white_space_out():
    figures = Figures("ab 12 ,. \n\u3000_é")
    assert figures.symbol_share == 3 / 8
    assert figures.digit_share == 2 / 8
    assert figures.mean_word_length == 8 / 4
    assert figures.characters == 13


def test_language_share_is_of_letters_alone():
    figures = Figures("ab é 中文字々 かな Ж 123 …， 𠀀")
    assert figures.language_share("en") == 3 / 11
    assert figures.language_share("zh") == 5 / 11
    assert Figures("123 …").language_share("en") == 0


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\ud800", "👍"])
def test_texts_without_words_have_harmless_figures(text):
    figures = Figures(text)
    assert figures.unique_word_share == 1
    assert figures.top_phrase_share == figures.repeated_line_share == figures.digit_share == 0
    assert figures.language_share("zh") == 0
    assert figures.mean_word_length == len(text.strip())


def test_repeated_lines_are_those_equal_to_an_earlier_one():
    assert Figures("a\n a\nb\n\n\nc\nb").repeated_line_share == pytest.approx(2 / 5)


def test_unique_words_do_not_depend_on_length():
    rng = random.Random(0)
    words = [f"w{rng.randrange(200)}" for _ in range(60_000)]
    short, long = Figures(" ".join(words[:2000])), Figures(" ".join(words))
    assert short.unique_word_share == pytest.approx(long.unique_word_share, abs=0.03)
    assert Figures("spam " * 5000).unique_word_share == pytest.approx(0.01, abs=1e-3)
    assert Figures("买买买卖" * 100).unique_word_share == pytest.approx(0.02)
    assert Figures("A a b").unique_word_share == pytest.approx(2 / 3)


def test_the_top_phrase_is_found_with_and_without_spaces():
    assert Figures("one two three x one two three y").top_phrase_share == pytest.approx(6 / 8)
    assert Figures("点击这点击这好").top_phrase_share == pytest.approx(6 / 7)
    assert Figures("a b c d e f").top_phrase_share == 0
    assert Figures("ha " * 100).top_phrase_share == 1


def test_figures_join_over_blocks():
    once = "Some words, 12 of them; 中文。 "
    many = Figures(once * 20_000)  # some 8 blocks
    assert many.symbol_share == Figures(once).symbol_share
    assert many.mean_word_length == Figures(once).mean_word_length
    assert many.language_share("zh") == Figures(once).language_share("zh")
