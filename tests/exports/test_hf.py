"""What is exported says in transformers what it says here, and what does not is not kept."""

import pytest
import torch

from bothways.checkpoints.checkpoint import load, save_checkpoint
from bothways.errors import UserError
from bothways.exports import hf
from bothways.exports.export import DifferentError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.export import export

pytest.importorskip("transformers")
BERT = {
    "attention": "bidirectional",
    "position": "learned",
    "norm": "layer",
    "norm_position": "post",
    "norm_eps": 1e-12,
    "activation": "gelu",
    "bias": True,
    "type_vocab_size": 2,
    "head_transform": True,
    "pooling": "first",
    "pooler": "tanh",
}
OURS = {"attention": "bidirectional", "pooling": "mean", "pooler": "gelu"}
MODELS = {
    "GPT": ({}, {"language_model": 0}),
    "GPT, classes": ({}, {"classification": 3}),
    "GPT, tokens": ({}, {"token_classification": 3}),
    "our BERT": (OURS, {"language_model": 0}),
    "our BERT, classes": (OURS, {"classification": 3}),
    "BERT": (BERT, {"language_model": 0, "next_sentence": 2}),
    "BERT, classes": (BERT, {"classification": 3}),
    "BERT, answers": (BERT, {"span": 2}),
    "BERT, tokens": (BERT, {"token_classification": 5}),
    "RoBERTa, tokens": ({**BERT, "position_offset": 2, "type_vocab_size": 1}, {"token_classification": 5}),
    "embeddings": (OURS, {"embedding": 0}),
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the old man and the sea", "我们今天去北京"] * 20, kind="bpe", vocab_size=300, exact=False)


def make(folder, tokenizer, settings, heads):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = TransformerConfig(
        vocab_size=len(tokenizer), **sizes, max_position_embeddings=64, initializer_range=0.2, **settings
    )
    labels = [f"class {number}" for number in range(heads.get("classification", heads.get("token_classification", 0)))]
    save_checkpoint(folder, Model(config, heads), tokenizer=tokenizer, labels=labels or None)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_the_other_program_says_the_same(tmp_path, tokenizer, name):
    settings, heads = MODELS[name]
    differences = export(make(tmp_path / "model", tokenizer, settings, heads), out=tmp_path / "out")
    assert {each.head for each in differences} == set(heads)
    assert all(each.spread > 0.01 and each.largest < 1e-4 for each in differences)
    again = load(tmp_path / "out")
    assert again.model.config == load(tmp_path / "model").model.config


def test_what_says_something_else_is_not_kept(tmp_path, tokenizer, monkeypatch):
    folder = make(tmp_path / "model", tokenizer, {}, {"language_model": 0})

    def wrong(folder, loaded, sequences):
        return {head: [each + 0.1 for each in parts] for head, parts in answers(folder, loaded, sequences).items()}

    answers = hf.answers
    monkeypatch.setattr(hf, "answers", wrong)
    with pytest.raises(
        DifferentError, match=r"hf says something else than the model: language_model differs by up to 0\.1"
    ):
        export(folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_no_place_is_refused(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, {"activation": "relu2"}, {"language_model": 0})
    with pytest.raises(UserError, match="no family of transformers computes what this trunk does"):
        export(folder, out=tmp_path / "out")
    with pytest.raises(UserError, match="unknown export 'tflite'"):
        export(folder, out=tmp_path / "out", format="tflite")
    with pytest.raises(UserError, match="precision of hf"):
        export(folder, out=tmp_path / "out", precision="int3")
