"""The same weights say the same in Hugging Face's transformers and here, in both directions."""

import json
import sys
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


def make_texts(attention, *, vocab_size=61, token_types=False, padding=0):
    generator = np.random.default_rng(1)
    longest = max(LENGTHS)
    ids = [generator.integers(padding + 1, vocab_size, length) for length in LENGTHS]  # never padding
    types_of = [np.arange(length) * 2 // length for length in LENGTHS]
    rows = [
        row(tokens, attention, token_type_ids=kinds if token_types else None)
        for tokens, kinds in zip(ids, types_of, strict=True)
    ]

    def pad(arrays, value=0):
        filled = [np.pad(array, (0, longest - len(array)), constant_values=value) for array in arrays]
        return torch.tensor(np.stack(filled))

    inputs = {"input_ids": pad(ids, padding), "attention_mask": pad([np.ones_like(tokens) for tokens in ids])}
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
    if head in ("language_model", "span", "token_classification"):
        return model.read(head, hidden_states, batch, torch.cat(index))
    at = -1 if model.config.pooling == "last" else 0
    return model.read(head, hidden_states, batch, torch.stack([text[at] for text in index]))


def theirs(outputs, head, index):
    """Return what Hugging Face's model says, in the order of ``ours``."""
    if head == "span":
        logits = torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
        return logits.flatten(0, 1)[torch.cat(index)]
    if head in ("language_model", "token_classification"):
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
    if hasattr(rotary := sys.modules[type(model).__module__], "apply_rotary_pos_emb"):
        rotary.apply_rotary_pos_emb = _turn
    for module in model.double().modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(_rms_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = types.MethodType(_angles, module)
    return model


def _turn(query, key, cos, sin, unsqueeze_dim=1):
    def turn(x):
        first, second = x.chunk(2, dim=-1)
        return x * cos.unsqueeze(unsqueeze_dim) + torch.cat((-second, first), dim=-1) * sin.unsqueeze(unsqueeze_dim)

    return turn(query), turn(key)


def _rms_norm(self, x):
    return self.weight * (x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon))


def _angles(self, x, position_ids, layer_type=None):
    config = self.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters[layer_type] if layer_type else config.rope_parameters
    pairs = torch.arange(size // 2, dtype=torch.float64) * 2 / size
    angle = position_ids[..., None] * rope["rope_theta"] ** -pairs
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


def roberta(kind, family="Roberta", **settings):
    sizes = {**SIZES, "max_position_embeddings": 34, "pad_token_id": 1, "type_vocab_size": 1}
    return getattr(transformers, f"{family}{kind}")(getattr(transformers, f"{family}Config")(**sizes, **settings))


def distilbert(kind, **settings):
    sizes = {"vocab_size": 61, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 32}
    return getattr(transformers, f"DistilBert{kind}")(transformers.DistilBertConfig(**sizes, **settings))


def qwen3(kind, **settings):
    return getattr(transformers, f"Qwen3{kind}")(transformers.Qwen3Config(**SIZES, head_dim=10, **settings))


def modernbert(kind, family="ModernBert", **settings):
    sizes = {**SIZES, "num_hidden_layers": 4, "local_attention": 6, "bos_token_id": 1, "eos_token_id": 2}
    sizes |= {"cls_token_id": 1, "sep_token_id": 2}
    return getattr(transformers, f"{family}{kind}")(getattr(transformers, f"{family}Config")(**sizes, **settings))


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
    "bert tokens": (lambda: bert("ForTokenClassification", num_labels=3), ["token_classification"]),
    "llama tokens": (lambda: llama("ForTokenClassification", num_labels=3), ["token_classification"]),
    "roberta": (lambda: roberta("ForMaskedLM"), ["language_model"]),
    "roberta classes": (lambda: roberta("ForSequenceClassification", num_labels=3), ["classification"]),
    "roberta tokens": (lambda: roberta("ForTokenClassification", num_labels=3), ["token_classification"]),
    "roberta answers": (lambda: roberta("ForQuestionAnswering"), ["span"]),
    "xlm-roberta": (lambda: roberta("ForMaskedLM", "XLMRoberta"), ["language_model"]),
    "distilbert": (lambda: distilbert("ForMaskedLM"), ["language_model"]),
    "distilbert classes": (lambda: distilbert("ForSequenceClassification", num_labels=3), ["classification"]),
    "distilbert tokens": (lambda: distilbert("ForTokenClassification", num_labels=3), ["token_classification"]),
    "distilbert answers": (lambda: distilbert("ForQuestionAnswering"), ["span"]),
    "qwen3": (lambda: qwen3("ForCausalLM", num_key_value_heads=2), ["language_model"]),
    "qwen3 classes": (
        lambda: qwen3("ForSequenceClassification", num_labels=3, num_key_value_heads=4),
        ["classification"],
    ),
    "modernbert": (lambda: modernbert("ForMaskedLM"), ["language_model"]),
    "modernbert, biases": (
        lambda: modernbert("ForMaskedLM", norm_bias=True, classifier_bias=True, tie_word_embeddings=False),
        ["language_model"],
    ),
    "modernbert classes": (lambda: modernbert("ForSequenceClassification", num_labels=3), ["classification"]),
    "modernbert classes, mean": (
        lambda: modernbert("ForSequenceClassification", num_labels=3, classifier_pooling="mean"),
        ["classification"],
    ),
    "modernbert tokens": (lambda: modernbert("ForTokenClassification", num_labels=3), ["token_classification"]),
    "modernbert answers": (lambda: modernbert("ForQuestionAnswering"), ["span"]),
    "modernbert-decoder": (lambda: modernbert("ForCausalLM", "ModernBertDecoder"), ["language_model"]),
    "modernbert-decoder classes": (
        lambda: modernbert("ForSequenceClassification", "ModernBertDecoder", num_labels=3, classifier_bias=True),
        ["classification"],
    ),
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
    return published, loaded.model.eval(), texts_for(published, loaded.model.config)


def texts_for(published, config):
    types = config.type_vocab_size > 1
    return make_texts(config.attention, token_types=types, padding=published.config.pad_token_id)


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
    assert architecture == [type(published).__name__.removeprefix("XLM")]  # the same under two names
    reopened, report = getattr(transformers, architecture[0]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    # Of an untied BERT, Hugging Face expects a second bias of the decoder that nothing reads.
    untied = type(published).__name__.startswith("Bert") and not model.config.tie_word_embeddings
    assert set(report.pop("missing_keys")) == ({"cls.predictions.bias"} if untied else set())
    assert not any(report.values()), report
    reopened.config.pad_token_id = published.config.pad_token_id  # a tokenizer would have brought it along
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


@pytest.mark.parametrize(
    "case", ["gpt2", "bert masked", "llama grouped, tied", "eurobert", "roberta", "distilbert", "qwen3", "modernbert"]
)
def test_same_hidden_states_and_gradients(case, tmp_path):
    published = shake(CASES[case][0]())
    published.save_pretrained(tmp_path)
    model = load_checkpoint(tmp_path).model.double().eval()
    to_float64(published)
    texts = texts_for(published, model.config)
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
