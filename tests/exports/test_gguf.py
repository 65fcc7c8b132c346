"""A file says in llama.cpp what the model says here."""

import pytest
from small_models import BERT, MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.exports.export import said
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.export import export

pytestmark = pytest.mark.engines

GPTS = {
    "GPT": {},
    "grouped, untied": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "normed": {"qk_norm": True, "head_size": 8},
}


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("fp16", 0.02), ("q8_0", 0.2)])
@pytest.mark.parametrize("name", GPTS)
def test_the_other_program_says_the_same(tmp_path, tokenizer, name, precision, apart):
    folder = make(tmp_path / "model", tokenizer, GPTS[name], {"language_model": 0})
    (difference,) = export(folder, format="gguf", out=tmp_path / "out", precision=precision).differences
    assert difference.spread > 0.3
    assert 0 < difference.relative < apart


def test_a_bert_gives_the_same_vectors(tmp_path):
    words = Tokenizer.train(["we go there today"] * 20, kind="wordpiece", vocab_size=60, exact=False)
    folder = make(tmp_path / "model", words, BERT, {"language_model": 0})
    (difference,) = export(folder, format="gguf", out=tmp_path / "out").differences
    assert difference.head == "embedding"
    assert 0 < difference.largest < 1e-3


def test_what_is_exported_comes_back(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, {}, {"language_model": 0})
    export(folder, format="gguf", out=tmp_path / "out")
    before, after = load(folder), load(tmp_path / "out" / "model.gguf")
    asked = [before.tokenizer.encode("the old man, 我们"), [5, 6, 7]]
    for one, other in zip(said(before, asked)["language_model"], said(after, asked)["language_model"], strict=True):
        assert abs(one - other).max() < 1e-5
    assert after.tokenizer.encode("the old man, 我们") == asked[0]


def test_what_has_no_place_is_refused(tmp_path, tokenizer):
    settings, heads = MODELS["our BERT"]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    with pytest.raises(UserError, match="gguf has no place for a model of the family eurobert"):
        export(folder, format="gguf", out=tmp_path / "out")
    cased = Tokenizer.train(["We go there today"] * 20, kind="wordpiece", vocab_size=60, exact=False, lowercase=False)
    with pytest.raises(UserError, match=r"would cut text into other tokens"):
        export(make(tmp_path / "cased", cased, BERT, {"language_model": 0}), format="gguf", out=tmp_path / "out")
    classes = make(tmp_path / "classes", tokenizer, *MODELS["GPT, classes"])
    with pytest.raises(UserError, match="language model head"):
        export(classes, format="gguf", out=tmp_path / "out")
