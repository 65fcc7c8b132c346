"""A file says in llama.cpp what the model says here."""

import json

import pytest
from small_models import BERT, MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.checkpoints.gguf import PRE_TOKENIZERS
from bothways.errors import UserError
from bothways.exports.export import DifferentError, said
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


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 0.01), ("fp16", 0.02), ("q8_0", 0.2)])
def test_a_bert_gives_the_same_vectors(tmp_path, precision, apart):
    words = Tokenizer.train(["we go there today"] * 20, kind="wordpiece", vocab_size=60, exact=False)
    folder = make(tmp_path / "model", words, BERT, {"language_model": 0})
    exported = export(folder, format="gguf", out=tmp_path / "out", precision=precision)
    (difference,) = exported.differences
    assert difference.head == "embedding"
    assert 0 < difference.relative < apart
    assert exported.texts > 80
    assert len(exported.otherwise) < 9


def test_what_is_exported_comes_back(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, {}, {"language_model": 0})
    export(folder, format="gguf", out=tmp_path / "out")
    before, after = load(folder), load(tmp_path / "out" / "model.gguf")
    asked = [before.tokenizer.encode("the old man, 我们"), [5, 6, 7]]
    for one, other in zip(said(before, asked)["language_model"], said(after, asked)["language_model"], strict=True):
        assert abs(one - other).max() < 1e-5
    assert after.tokenizer.encode("the old man, 我们") == asked[0]
    assert after.tokenizer.special_ids == before.tokenizer.special_ids
    assert after.tokenizer.frame() == before.tokenizer.frame() == ([before.tokenizer.special_id("bos")], [])


def test_special_tokens_have_their_roles_there(tmp_path, tokenizer):
    """Those that a tokenizer_config.json names, not those that are usual."""
    folder = make(tmp_path / "model", tokenizer, {}, {"language_model": 0})
    values = json.loads((folder / "tokenizer_config.json").read_text())
    values |= {"eos_token": {"content": "[SEP]"}, "eot_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    export(folder, format="gguf", out=tmp_path / "out", verify=False)
    fields = pytest.importorskip("gguf").GGUFReader(tmp_path / "out" / "model.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    named = {
        role: tokens[fields[f"tokenizer.ggml.{role}_token_id"].contents()] for role in ("bos", "eos", "eot", "padding")
    }
    assert named == {"bos": "<|endoftext|>", "eos": "[SEP]", "eot": "[PAD]", "padding": "[PAD]"}
    assert [fields[f"tokenizer.ggml.add_{role}_token"].contents() for role in ("bos", "eos")] == [True, False]
    again = load(tmp_path / "out" / "model.gguf").tokenizer
    assert again.special_ids["eos"] == tokenizer.backend.token_to_id("[SEP]")


def test_what_llama_cpp_cuts_otherwise_is_refused(tmp_path, tokenizer):
    """Of Llama 3's words it takes one that is a token whole, where this tokenizer cannot merge its letters."""
    values = json.loads(tokenizer.backend.to_str())
    values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS["llama-bpe"]}
    values["model"]["vocab"]["Numbers"] = len(tokenizer)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    folder = make(tmp_path / "model", Tokenizer.load(tmp_path), {}, {"language_model": 0})
    with pytest.raises(DifferentError, match=r"gguf cuts .* into other tokens .* 'Numbers: "):
        export(folder, format="gguf", out=tmp_path / "out")


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
