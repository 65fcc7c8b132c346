"""What is exported says in transformers what it says here, and what does not is not kept."""

import pytest
from small_models import MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.exports import hf
from bothways.exports.export import DifferentError
from bothways.verbs.export import export


@pytest.mark.parametrize("name", MODELS)
def test_the_other_program_says_the_same(tmp_path, tokenizer, name):
    settings, heads = MODELS[name]
    differences = export(make(tmp_path / "model", tokenizer, settings, heads), out=tmp_path / "out").differences
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
