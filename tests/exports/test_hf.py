"""What is exported says in transformers what it says here, and what does not is not kept."""

import re
import tomllib
from pathlib import Path

import pytest
from small_models import MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.exports import hf
from bothways.exports._texts import ORDINARY, texts_for
from bothways.exports.export import DifferentError, format_names, format_of
from bothways.verbs.export import export


@pytest.mark.parametrize("name", MODELS)
def test_the_other_program_says_the_same(tmp_path, tokenizer, name):
    settings, heads = MODELS[name]
    differences = export(make(tmp_path / "model", tokenizer, settings, heads), out=tmp_path / "out").differences
    without = (
        set() if "type_vocab_size" in settings else {"next_sentence"}
    )  # EuroBERT has no place for what compares texts
    assert {each.head for each in differences} == set(heads) - without
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


def test_what_cuts_texts_otherwise_is_not_kept(tmp_path, tokenizer, monkeypatch):
    """An ordinary text that is cut otherwise is one too many; of unusual ones a few are borne, and named."""
    folder, tokenize = make(tmp_path / "model", tokenizer, {}, {"language_model": 0}), hf.tokenize
    otherwise = []
    monkeypatch.setattr(
        hf,
        "tokenize",
        lambda into, texts: [
            [] if text in otherwise else ids for text, ids in zip(texts, tokenize(into, texts), strict=True)
        ],
    )
    texts = texts_for(tokenizer)
    otherwise = [texts[len(ORDINARY)]]
    assert export(folder, out=tmp_path / "out").otherwise == tuple(otherwise)
    otherwise = texts[len(ORDINARY) :]
    with pytest.raises(DifferentError, match=rf"hf cuts {len(otherwise)} of {len(texts)} texts into other tokens"):
        export(folder, out=tmp_path / "many")
    otherwise = [ORDINARY[2]]
    with pytest.raises(DifferentError, match=r"hf cuts 1 of .* '我们今天去北京"):
        export(folder, out=tmp_path / "ordinary")
    assert not (tmp_path / "ordinary").exists()


@pytest.mark.parametrize("name", format_names())
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, tokenizer, monkeypatch, name):
    form = format_of(name)
    monkeypatch.setattr("bothways.exports.export.find_spec", lambda _: None)
    extras = ",".join(sorted(set(form.NEEDS.values())))
    with pytest.raises(
        UserError, match=rf"^to export to {name} install the extra: pip install 'bothways\[{extras}\]'$"
    ):
        export(make(tmp_path / "model", tokenizer, *MODELS["GPT"]), format=name, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extras_bring_what_they_are_named_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {
        extra: {re.split(r"[<>=]", line)[0].replace("-", "_") for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    for name in format_names():
        for module, extra in format_of(name).NEEDS.items():
            assert module in brought[extra], (name, module, extra)


def test_what_is_in_the_way_stays(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, {}, {"language_model": 0})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else"):
        export(folder, out=tmp_path / "notes")
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_what_has_no_place_is_refused(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, {"activation": "relu2"}, {"language_model": 0})
    with pytest.raises(UserError, match="no family of transformers computes what this trunk does"):
        export(folder, out=tmp_path / "out")
    with pytest.raises(UserError, match="unknown export 'tflite'"):
        export(folder, out=tmp_path / "out", format="tflite")
    with pytest.raises(UserError, match="precision of hf"):
        export(folder, out=tmp_path / "out", precision="int3")
