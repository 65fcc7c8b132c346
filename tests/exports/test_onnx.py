"""A graph says in ONNX Runtime what the model says here, for any batch and length."""

import numpy as np
import pytest
from small_models import MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.exports.export import said
from bothways.verbs.export import export

pytestmark = pytest.mark.engines


@pytest.mark.parametrize("name", ["GPT", "GPT, classes", "our BERT, classes", "BERT", "embeddings"])
def test_the_other_program_says_the_same(tmp_path, tokenizer, name):
    settings, heads = MODELS[name]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    differences = export(folder, format="onnx", out=tmp_path / "out").differences
    assert {each.head for each in differences} == set(heads)
    assert all(each.spread > 0.01 and each.largest < 1e-4 for each in differences)


def test_what_compares_two_texts_is_left_out_of_a_graph_that_is_told_of_one(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, *MODELS["our BERT, pairs"])
    made = export(folder, format="onnx", out=tmp_path / "out")
    assert ([each.head for each in made.differences], made.left_out) == (["language_model"], ("next_sentence",))


def test_padding_changes_nothing(tmp_path, tokenizer):
    settings, heads = MODELS["our BERT, classes"]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    export(folder, format="onnx", out=tmp_path / "out")
    sequences = [[5, 9, 11, 30], [7], [20, 21]]
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "out" / "model.onnx")
    ids, mask = np.zeros((3, 6), dtype=np.int64), np.zeros((3, 6), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(logits, said(load(folder), sequences)["classification"], atol=1e-5)


def test_whole_numbers_of_eight_bits(tmp_path, tokenizer):
    settings, heads = MODELS["our BERT, classes"]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    differences = export(folder, format="onnx", out=tmp_path / "out", precision="int8").differences
    assert 0 < differences[0].relative < 0.5
    assert (tmp_path / "out" / "model.onnx").stat().st_size > 10_000
