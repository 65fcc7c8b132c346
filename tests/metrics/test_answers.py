"""Exact match and token F1 of answers: SQuAD's rules in English, CMRC's in Chinese."""

import random
import re
import string
from collections import Counter

import pytest

from bothways.errors import UserError
from bothways.metrics.exact_match import exact_match
from bothways.metrics.token_f1 import token_f1


def squad_tokens(answer):
    kept = "".join(char for char in answer.lower() if char not in string.punctuation)
    return [word for word in re.split(r"\s+", kept) if word and word not in ("a", "an", "the")]


def squad_f1(prediction, answers):
    def one(answer):
        given, right = squad_tokens(prediction), squad_tokens(answer)
        if not given or not right:
            return float(given == right)
        shared = sum((Counter(given) & Counter(right)).values())
        precision, recall = shared / len(given), shared / len(right)
        return 2 * precision * recall / (precision + recall) if shared else 0.0

    return max(map(one, answers))


@pytest.mark.parametrize("seed", range(100))
def test_english_against_an_own_reading_of_squad(seed):
    generator = random.Random(seed)
    pieces = ["The", "a", "an", "cat", "cats", "U.S.", "1,000", "it's", "Paris", "paris!", "--", "in", "theory"]

    def answer():
        return " ".join(generator.choices(pieces, k=generator.randint(0, 4)))

    predictions = [answer() for _ in range(5)]
    references = [[answer() for _ in range(generator.randint(1, 3))] for _ in range(5)]
    pairs = list(zip(predictions, references, strict=True))
    exact = sum(any(squad_tokens(given) == squad_tokens(right) for right in answers) for given, answers in pairs) / 5
    assert exact_match(predictions, references) == pytest.approx(exact)
    assert token_f1(predictions, references) == pytest.approx(sum(squad_f1(*pair) for pair in pairs) / 5)


def cmrc_f1(prediction, answer):
    """Twice the longest common run of characters over the sum of lengths, by dynamic programming."""
    longest = [[0] * (len(answer) + 1) for _ in range(len(prediction) + 1)]
    for i, given in enumerate(prediction):
        for j, right in enumerate(answer):
            longest[i + 1][j + 1] = longest[i][j] + 1 if given == right else 0
    return 2 * max(map(max, longest)) / (len(prediction) + len(answer))


@pytest.mark.parametrize("seed", range(100))
def test_chinese_against_an_own_reading_of_cmrc(seed):
    generator = random.Random(seed)
    predictions, references = ("".join(generator.choices("北京上海市", k=generator.randint(1, 12))) for _ in range(2))
    assert token_f1([predictions], [references]) == pytest.approx(cmrc_f1(predictions, references))
    assert exact_match([predictions], [references]) == (predictions == references)


def test_chinese_wants_the_order_and_english_does_not():
    assert token_f1(["京北"], ["北京"]) == pytest.approx(2 * 1 / 4)
    assert token_f1(["Paris in"], ["in Paris"]) == 1


def test_small_differences_of_writing_do_not_count():
    assert exact_match(["The Eiffel Tower!"], ["eiffel  tower"]) == 1
    assert exact_match(["《红楼梦》。"], ["红楼梦"]) == 1
    assert exact_match(["GPT 模型"], ["gpt模型"]) == 1
    assert exact_match(["3.5亿"], ["35亿"]) == 0
    assert exact_match(["1998"], ["1998年"]) == 0


def test_the_best_of_several_answers_counts():
    references = [["in 1998", "1998"], ["北京", "北京市"]]
    assert exact_match(["1998", "北京市"], references) == 1
    assert token_f1(["1998", "北京市区"], references) == pytest.approx((1 + 2 * 3 / 7) / 2)


def test_no_answer():
    assert exact_match(["", "x", ""], ["", "", "x"]) == pytest.approx(1 / 3)
    assert token_f1(["", "x", "", "。"], ["", "", "x", "是"]) == pytest.approx(1 / 4)


@pytest.mark.parametrize("metric", [exact_match, token_f1])
def test_mistakes_are_refused(metric):
    with pytest.raises(UserError, match="no reference answer"):
        metric(["x"], [[]])
    with pytest.raises(UserError, match="there are 2 predictions and 1 references"):
        metric(["x", "y"], ["x"])
    with pytest.raises(UserError, match="unknown language"):
        metric(["x"], ["x"], language="fr")
