"""BLEU and chrF: sacrebleu's own figures, the tokenizer of the language, and hand-computed cases."""

import math

import pytest
import sacrebleu

from bothways.errors import UserError
from bothways.metrics.bleu import bleu
from bothways.metrics.chrf import chrf

ENGLISH = (["The cat sat on a mat.", "Dogs bark at night, loudly."], ["The cat sat on the mat.", "Dogs bark loudly."])
CHINESE = (["我们今天去北京旅游。", "他喜欢吃苹果。"], ["我们今天去上海旅游。", "她喜欢吃苹果和梨。"])


@pytest.mark.parametrize(("pair", "tokenizer"), [(ENGLISH, "13a"), (CHINESE, "zh")])
def test_equals_sacrebleu(pair, tokenizer):
    predictions, references = pair
    expected = sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenizer)
    found = bleu(predictions, references)
    assert found.score == pytest.approx(expected.score, abs=1e-9)
    assert f"|tok:{tokenizer}|" in found.signature
    assert 0 < chrf(predictions, references).score < 100
    assert chrf(predictions, references).score == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score)
    assert "|nc:6|nw:0|" in chrf(predictions, references).signature


def test_bleu_by_hand():
    # 5 tokens, 4 match; pairs 3 of 4; triples 2 of 3; fours 1 of 2; one token shorter than the reference
    found = bleu(["a b c d x"], ["a b c d e f"])
    precision = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert found.score == pytest.approx(100 * precision * math.exp(1 - 6 / 5))


def test_bleu_in_chinese_counts_characters():
    assert bleu(["我爱北京天安门"], ["我爱北京天安门广场"]).score == pytest.approx(100 * math.exp(1 - 9 / 7))
    assert bleu(["我爱北京天安门"], ["我爱北京天安门广场"], language="en").score == 0


def test_a_given_language_is_obeyed():
    assert "tok:zh" in bleu(*ENGLISH, language="zh").signature
    assert "tok:13a" in bleu(*CHINESE, language="en").signature
    with pytest.raises(UserError, match="unknown language"):
        bleu(*ENGLISH, language="fr")


def test_nothing_is_said_on_the_screen(capfd):
    bleu(["tokenized ."] * 200, ["tokenized ."] * 200)
    assert capfd.readouterr() == ("", "")


def test_empty_predictions_score_zero():
    assert bleu(["", ""], ["one two", "three"]).score == 0
    assert chrf(["", ""], ["one two", "three"]).score == 0
