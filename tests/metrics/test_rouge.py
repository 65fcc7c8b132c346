"""ROUGE in English equals rouge_score's; in Chinese it is counted by hand."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bothways.errors import UserError
from bothways.metrics.rouge import Rouge, rouge

PAIRS = [
    ("The cats were sitting on the mats.", "A cat sat on the mat, quietly."),
    ("It rained all day in London", "All day long, it rained."),
    ("", "Something."),
    ("Prices rose 3.5% in 2023!", "prices ROSE by 3.5 percent"),
    ("same words here", "same words here"),
]


@pytest.mark.parametrize("stemmer", [False, True])
def test_english_is_the_mean_of_rouge_score(stemmer):
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stemmer)
    scores = [scorer.score(reference, prediction) for prediction, reference in PAIRS]
    mean = {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in scores[0]}
    predictions, references = zip(*PAIRS, strict=True)
    found = rouge(predictions, references, stemmer=stemmer)
    assert (found.rouge_1, found.rouge_2, found.rouge_l) == pytest.approx(tuple(mean.values()), abs=1e-12)


def test_the_stemmer_matters_in_english():
    assert rouge(["cats"], ["cat"], stemmer=True).rouge_1 == 1
    assert rouge(["cats"], ["cat"]).rouge_1 == 0


def test_identical_chinese_is_perfect():
    text = "今天天气很好，我们去公园。"
    assert rouge([text], [text]) == Rouge(rouge_1=1.0, rouge_2=1.0, rouge_l=1.0)


def test_chinese_by_hand():
    # 我 爱 北 京 against 我 住 北 京 市: three shared, one shared pair, longest subsequence 我 北 京
    found = rouge(["我爱北京。"], ["我住北京市！"])
    assert found.rouge_1 == pytest.approx(2 * 3 / (4 + 5))
    assert found.rouge_2 == pytest.approx(2 * 1 / (3 + 4))
    assert found.rouge_l == pytest.approx(2 * 3 / (4 + 5))


def test_latin_runs_are_whole_in_chinese():
    assert rouge(["用Python训练GPT2模型"], ["用python训练gpt2模型"]).rouge_2 == 1
    assert rouge(["用Pythons训练"], ["用Python训练"]).rouge_1 == pytest.approx(3 / 4)


def test_each_item_is_read_in_its_own_language():
    found = rouge(["我爱你。", "I love you"], ["我爱你。", "I love you"])
    assert found == Rouge(rouge_1=1.0, rouge_2=1.0, rouge_l=1.0)


def test_a_given_language_is_obeyed():
    assert rouge(["我爱你"], ["我爱你"], language="en").rouge_1 == 0
    with pytest.raises(UserError, match="unknown language"):
        rouge(["a"], ["a"], language="de")


def test_empty_texts_score_zero():
    nothing = Rouge(rouge_1=0.0, rouge_2=0.0, rouge_l=0.0)
    assert rouge([""], ["我爱你"]) == rouge(["我爱你"], [""]) == rouge([""], [""]) == nothing
