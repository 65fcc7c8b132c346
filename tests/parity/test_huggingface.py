"""The same weights say the same in Hugging Face's transformers and here, in both directions."""

import json
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import transformers
from transformers.utils import logging

from bothways.batch import collate, join, row
from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.checkpoints.family import family_for
from bothways.checkpoints.names import locate

LENGTHS = (7, 12, 3)


@pytest.fixture(autouse=True)
def _quiet():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(1)


@dataclass
class Texts:
    """Three texts as Hugging Face takes them, and as we do: padded, and packed into one row.

    ``index`` and ``packed_index`` hold the flattened positions of each text.
    """

    inputs: dict
    padded: object
    packed: object
    index: list
    packed_index: list


def make_texts(attention, *, vocab_size=61, token_types=False):
    generator = np.random.default_rng(1)
    longest = max(LENGTHS)
    ids = [generator.integers(1, vocab_size, length) for length in LENGTHS]  # 0 is padding, and never a token
    types_of = [np.arange(length) * 2 // length for length in LENGTHS]
    rows = [
        row(tokens, attention, token_type_ids=kinds if token_types else None)
        for tokens, kinds in zip(ids, types_of, strict=True)
    ]

    def pad(arrays):
        return torch.tensor(np.stack([np.pad(array, (0, longest - len(array))) for array in arrays]))

    inputs = {"input_ids": pad(ids), "attention_mask": pad([np.ones_like(tokens) for tokens in ids])}
    if token_types:
        inputs["token_type_ids"] = pad(types_of)
    starts = np.cumsum([0, *LENGTHS[:-1]])
    return Texts(
        inputs=inputs,
        padded=collate(rows),
        packed=collate([join(rows)]),
        index=[torch.arange(at * longest, at * longest + length) for at, length in enumerate(LENGTHS)],
        packed_index=[torch.arange(start, start + length) for start, length in zip(starts, LENGTHS, strict=True)],
    )


def ours(model, head, batch, index):
    """Return what a head of ours says: at every token, or of every text."""
    hidden_states = model(batch)
    if head in ("language_model", "span"):
        return model.read(head, hidden_states, batch, torch.cat(index))
    at = -1 if model.config.pooling == "last" else 0
    return model.read(head, hidden_states, batch, torch.stack([text[at] for text in index]))


def theirs(outputs, head, index):
    """Return what Hugging Face's model says, in the order of ``ours``."""
    if head == "span":
        logits = torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
        return logits.flatten(0, 1)[torch.cat(index)]
    if head == "language_model":
        logits = outputs.prediction_logits if "prediction_logits" in outputs else outputs.logits
        return logits.flatten(0, 1)[torch.cat(index)]
    return outputs.seq_relationship_logits if "seq_relationship_logits" in outputs else outputs.logits


@torch.no_grad()
def shake(model):
    """Give every weight a value that matters, biases and norms included."""
    for name, weight in model.named_parameters():
        norm = weight.dim() == 1 and name.endswith("weight")
        weight.normal_(1.0 if norm else 0.0, 0.3 if weight.dim() == 1 else 0.15)
    return model.eval()


def to_float64(model):
    """Turn a model of Hugging Face's into float64 throughout: its RMS norms and angles insist on float32."""
    for module in model.double().modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(_rms_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = types.MethodType(_angles, module)
    return model


def _rms_norm(self, x):
    return self.weight * (x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon))


def _angles(self, x, position_ids):
    config = self.config
    pairs = torch.arange(config.head_dim // 2, dtype=torch.float64) * 2 / config.head_dim
    angle = position_ids[..., None] * config.rope_parameters["rope_theta"] ** -pairs
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}


def gpt2(kind, **settings):
    sizes = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32, "pad_token_id": 0}
    return getattr(transformers, f"GPT2{kind}")(transformers.GPT2Config(**sizes, **settings))


def bert(kind, **settings):
    return getattr(transformers, f"Bert{kind}")(transformers.BertConfig(**SIZES, **settings))


def llama(kind, **settings):
    return getattr(transformers, f"Llama{kind}")(transformers.LlamaConfig(**SIZES, **settings))


def eurobert(kind, **settings):
    return getattr(transformers, f"EuroBert{kind}")(transformers.EuroBertConfig(**SIZES, **settings))


# What makes a model of Hugging Face's, and the heads that it has here.
CASES = {
    "gpt2": (lambda: gpt2("LMHeadModel"), ["language_model"]),
    "gpt2 untied, wide": (lambda: gpt2("LMHeadModel", tie_word_embeddings=False, n_inner=72), ["language_model"]),
    "gpt2 exact gelu": (lambda: gpt2("LMHeadModel", activation_function="gelu"), ["language_model"]),
    "gpt2 classes": (lambda: gpt2("ForSequenceClassification", num_labels=3), ["language_model", "classification"]),
    "gpt2 answers": (lambda: gpt2("ForQuestionAnswering"), ["language_model", "span"]),
    "bert pretraining": (lambda: bert("ForPreTraining"), ["language_model", "next_sentence"]),
    "bert masked": (lambda: bert("ForMaskedLM", layer_norm_eps=1e-3), ["language_model"]),
    "bert untied": (lambda: bert("ForMaskedLM", tie_word_embeddings=False), ["language_model"]),
    "bert next sentence": (lambda: bert("ForNextSentencePrediction"), ["next_sentence"]),
    "bert classes": (lambda: bert("ForSequenceClassification", num_labels=3), ["classification"]),
    "bert answers": (lambda: bert("ForQuestionAnswering", type_vocab_size=3), ["span"]),
    "llama": (lambda: llama("ForCausalLM"), ["language_model"]),
    "llama grouped, tied": (
        lambda: llama("ForCausalLM", num_key_value_heads=2, tie_word_embeddings=True),
        ["language_model"],
    ),
    "llama wide heads, biases": (
        lambda: llama("ForCausalLM", head_dim=10, attention_bias=True, mlp_bias=True),
        ["language_model"],
    ),
    "llama geglu, theta, eps": (
        lambda: llama("ForCausalLM", hidden_act="gelu", rope_theta=500.0, rms_norm_eps=1e-2),
        ["language_model"],
    ),
    "llama classes": (lambda: llama("ForSequenceClassification", num_labels=3), ["classification"]),
    "eurobert": (lambda: eurobert("ForMaskedLM", num_key_value_heads=1), ["language_model"]),
    "eurobert tied": (lambda: eurobert("ForMaskedLM", tie_word_embeddings=True), ["language_model"]),
    "eurobert classes, first": (
        lambda: eurobert("ForSequenceClassification", num_labels=3, classifier_pooling="bos"),
        ["classification"],
    ),
    "eurobert classes, mean": (
        lambda: eurobert("ForSequenceClassification", num_labels=3, classifier_pooling="mean"),
        ["classification"],
    ),
}


@pytest.fixture(params=CASES)
def pair(request, tmp_path):
    """Return their model, ours loaded from what theirs saved, and texts."""
    make, heads = CASES[request.param]
    published = shake(make())
    published.save_pretrained(tmp_path / "theirs")
    loaded = load_checkpoint(tmp_path / "theirs")
    assert sorted(loaded.model.heads) == sorted(heads)
    assert loaded.new_heads == ()
    texts = make_texts(loaded.model.config.attention, token_types=bool(loaded.model.config.type_vocab_size))
    return published, loaded.model.eval(), texts


def says(published, head):
    """Whether their class has this head: a decoder tied to the embeddings is there for us in any class."""
    return head != "language_model" or any(part in type(published).__name__ for part in ("LM", "PreTraining"))


def assert_same(published, model, texts, tolerance):
    with torch.no_grad():
        outputs = published(**texts.inputs)
        for head in [head for head in model.heads if says(published, head)]:
            expected = theirs(outputs, head, texts.index)
            assert expected.std() > 0.05, "logits that hardly differ prove nothing"
            for batch, index in ((texts.padded, texts.index), (texts.packed, texts.packed_index)):
                torch.testing.assert_close(ours(model, head, batch, index), expected, rtol=0, atol=tolerance)


def test_same_logits_in_float64(pair):
    published, model, texts = pair
    # A mean over tokens is taken in float32 here, whatever the model is in.
    tolerance = 1e-6 if model.config.pooling == "mean" and "classification" in model.heads else 1e-10
    assert_same(to_float64(published), model.double(), texts, tolerance)


def test_same_logits_in_float32(pair):
    published, model, texts = pair
    assert_same(published, model, texts, 1e-5)


def test_ours_opens_there_whole_and_says_the_same(pair, tmp_path):
    published, model, texts = pair
    shake(model)
    save_checkpoint(tmp_path / "ours", model)
    architecture = json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"]
    assert architecture == [type(published).__name__]
    reopened, report = type(published).from_pretrained(tmp_path / "ours", output_loading_info=True)
    # Of an untied BERT, Hugging Face expects a second bias of the decoder that nothing reads.
    untied = type(published).__name__.startswith("Bert") and not model.config.tie_word_embeddings
    assert set(report.pop("missing_keys")) == ({"cls.predictions.bias"} if untied else set())
    assert not any(report.values()), report
    reopened.config.pad_token_id = 0  # a tokenizer would have brought it along
    assert_same(reopened.eval(), model, texts, 1e-5)


def test_round_trip_keeps_every_bit(pair, tmp_path):
    _, model, _ = pair
    save_checkpoint(tmp_path / "once", model)
    again = load_checkpoint(tmp_path / "once")
    assert again.model.config == model.config
    assert list(again.model.heads) == list(model.heads)
    weights = dict(model.named_parameters())
    assert weights.keys() == dict(again.model.named_parameters()).keys()
    for name, weight in again.model.named_parameters():
        assert torch.equal(weight, weights[name]), name
    save_checkpoint(tmp_path / "twice", again.model)
    once, twice = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "twice"))
    assert once == twice


@pytest.mark.parametrize("case", ["gpt2", "bert masked", "llama grouped, tied", "eurobert"])
def test_same_hidden_states_and_gradients(case, tmp_path):
    published = shake(CASES[case][0]())
    published.save_pretrained(tmp_path)
    model = load_checkpoint(tmp_path).model.double().eval()
    to_float64(published)
    texts = make_texts(model.config.attention, token_types=bool(model.config.type_vocab_size))
    outputs = published(**texts.inputs, output_hidden_states=True)
    hidden_states = model(texts.padded)
    real = torch.cat(texts.index)
    expected = outputs.hidden_states[-1].flatten(0, 1)[real]
    torch.testing.assert_close(hidden_states.flatten(0, 1)[real], expected, rtol=0, atol=1e-10)

    theirs(outputs, "language_model", texts.index).square().sum().backward()
    model.read("language_model", hidden_states, texts.padded, real).square().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    expected = {name: weight.grad for name, weight in published.named_parameters()}
    for source in locate(family_for(model.config).names(model.config, tuple(model.heads)), gradients):
        gradient = source.join([gradients[name] for name in source.ours])
        torch.testing.assert_close(gradient, expected[source.theirs], rtol=1e-9, atol=1e-9, msg=source.theirs)


def test_the_two_config_files_of_the_modern_trunk_differ_in_one_word(tmp_path):
    """One file of weights opens as a GPT under one config.json and as a BERT under another."""
    published = shake(llama("ForCausalLM", tie_word_embeddings=True))
    published.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values |= {"model_type": "eurobert", "architectures": ["EuroBertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = load_checkpoint(tmp_path).model.eval()
    assert model.config.attention == "bidirectional"
    assert_same(transformers.EuroBertForMaskedLM.from_pretrained(tmp_path), model, make_texts("bidirectional"), 1e-5)
