"""The model card beside an export: true, whole, and with code that runs."""

import re
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from small_models import BERT, MODELS, make

from bothways.errors import UserError
from bothways.evaluation.card import write_card
from bothways.recipes.recipe import recipe
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.export import export

CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
HYBRID = ({"hybrid": True}, {"language_model": 0})


def card_of(folder):
    card = ModelCard.load(folder / "README.md")
    return card.data.to_dict(), card.text


def run_code(folder, monkeypatch):
    """Run each block of code of a card in its folder, and return the names that it leaves."""
    monkeypatch.chdir(folder)
    names = {}
    for code in CODE.findall(card_of(folder)[1]):
        exec(code, names)
    return names


def make_run(folder, tokenizer):
    make(folder / "last", tokenizer, {}, {"language_model": 0})
    recipe("gpt-tiny").save(folder / "experiment.json")
    (folder / "loss.svg").write_text("<svg/>", encoding="utf-8")
    corpus = {"folder": "books", "language": "en", "splits": {"train": {"documents": 1576, "tokens": 300_000}}}
    figures = {"parameters": 20_000, "tokens": 600_000, "steps": 7, "validation": {"loss": 3.25}}
    write_card(folder, title="Books", figures=figures, data=[corpus], licence="mit")
    return folder


def test_an_export_of_a_run_has_its_card(tmp_path, tokenizer):
    run = make_run(tmp_path / "run", tokenizer)
    exported = export(run, out=tmp_path / "out")
    (difference,) = exported.differences
    before, text = card_of(run)
    data, ours = card_of(tmp_path / "out")
    assert data == {**before, "library_name": "transformers", "tags": [*before["tags"], "hf"]}
    assert (data["license"], data["language"], data["pipeline_tag"]) == ("mit", ["en"], "text-generation")
    heads = re.findall(r"^## .*$", text, re.MULTILINE)
    place = heads.index("## How to use it") + 1
    assert re.findall(r"^## .*$", ours, re.MULTILINE) == [*heads[:place], "## How it was compared", *heads[place:]]
    for part in ("# Books", "| documents | 1,576 |", "| validation.loss | 3.25 |", "The model: mit."):
        assert part in ours
    assert str(tmp_path) in text
    assert str(tmp_path) not in ours
    assert f"| language_model | {difference.largest:.3g} | {difference.spread:.3g} |" in ours
    assert f"Of {exported.texts} texts, it cuts {exported.texts} into the same tokens." in ours
    assert (tmp_path / "out" / "loss.svg").read_text() == "<svg/>"


def test_another_folder_gets_a_short_one(tmp_path, tokenizer):
    folder = make(tmp_path / "sorter", tokenizer, *MODELS["our BERT, classes"])
    export(folder, out=tmp_path / "unknown")
    data, text = card_of(tmp_path / "unknown")
    assert data == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["bothways", "hf"],
    }
    assert "# sorter" in text
    assert "| classes | class 0, class 1, class 2 |" in text
    assert "is not recorded here" in text
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage:\n- de\nwidget: [1]\n---\n# Old\n", encoding="utf-8")
    export(folder, out=tmp_path / "known", verify=False)
    data, text = card_of(tmp_path / "known")
    assert (data["license"], data["language"], "widget" in data, "Old" in text) == ("mit", ["de"], False, False)


@pytest.mark.parametrize("head", ["---\nlicense: [\n---\n", "---\n- 1\n---\n", "no head", ""])
def test_a_card_that_cannot_be_read_says_nothing(tmp_path, tokenizer, head):
    folder = make(tmp_path / "gpt", tokenizer, *MODELS["GPT"])
    (folder / "README.md").write_text(head, encoding="utf-8")
    export(folder, out=tmp_path / "out", verify=False)
    assert card_of(tmp_path / "out")[0]["license"] == "unknown"


@pytest.mark.parametrize("name", MODELS)
def test_its_code_opens_it_in_transformers(tmp_path, tokenizer, monkeypatch, name):
    export(make(tmp_path / "model", tokenizer, *MODELS[name]), out=tmp_path / "out")
    outputs = run_code(tmp_path / "out", monkeypatch)["outputs"]
    assert torch.isfinite(outputs[0]).all()


def test_a_hybrid_opens_both_ways(tmp_path, tokenizer, monkeypatch):
    export(make(tmp_path / "model", tokenizer, *HYBRID), out=tmp_path / "out")
    assert type(run_code(tmp_path / "out", monkeypatch)["model"]).__name__ == "EuroBertForMaskedLM"
    export(tmp_path / "model", out=tmp_path / "bert", attention="bidirectional")
    data, _ = card_of(tmp_path / "bert")
    assert data["pipeline_tag"] == "fill-mask"
    assert type(run_code(tmp_path / "bert", monkeypatch)["model"]).__name__ == "EuroBertForMaskedLM"


@pytest.mark.engines
@pytest.mark.parametrize("program", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["GPT", "our BERT, classes", "embeddings"])
def test_its_code_asks_graphs(tmp_path, tokenizer, monkeypatch, program, name):
    export(make(tmp_path / "model", tokenizer, *MODELS[name]), format=program, out=tmp_path / "out")
    outputs = run_code(tmp_path / "out", monkeypatch)["outputs"]
    assert np.isfinite(outputs[0]).all()


@pytest.mark.engines
def test_its_code_asks_sentence_transformers(tmp_path, tokenizer, monkeypatch):
    folder = make(tmp_path / "model", tokenizer, *MODELS["embeddings"])
    export(folder, format="sentence-transformers", out=tmp_path / "out")
    gpt = make(tmp_path / "gpt", tokenizer, *MODELS["GPT"])
    assert export(gpt, format="sentence-transformers", out=tmp_path / "gpt-out").left_out == ("language_model",)
    assert "with which it does not answer: language_model." in card_of(tmp_path / "gpt-out")[1]
    assert run_code(tmp_path / "out", monkeypatch)["vectors"].shape == (2, 32)
    assert card_of(tmp_path / "out")[0]["library_name"] == "sentence-transformers"


@pytest.mark.engines
def test_its_code_asks_llama_cpp(tmp_path, tokenizer, monkeypatch, capsys):
    export(make(tmp_path / "gpt", tokenizer, *MODELS["GPT"]), format="gguf", out=tmp_path / "out")
    run_code(tmp_path / "out", monkeypatch)
    assert "choices" in capsys.readouterr().out
    words = Tokenizer.train(["we go there today"] * 20, kind="wordpiece", vocab_size=60, exact=False)
    export(make(tmp_path / "bert", words, BERT, {"language_model": 0}), format="gguf", out=tmp_path / "vectors")
    run_code(tmp_path / "vectors", monkeypatch)
    assert "embedding" in capsys.readouterr().out


def test_no_model_is_replaced_by_an_export(tmp_path, tokenizer):
    run = make_run(tmp_path / "run", tokenizer)
    make(run / "best", tokenizer, *MODELS["GPT"])
    other = make(tmp_path / "other", tokenizer, *MODELS["GPT"])
    for model, out, reason in (
        (run, run / "best", "holds the model that is to be exported"),
        (run, run, "holds the model that is to be exported"),
        (other, other, "holds the model that is to be exported"),
        (other, run / "last", "is part of a run"),
    ):
        before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
        with pytest.raises(UserError, match=reason):
            export(model, out=out)
        assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    for _ in range(2):
        export(other, out=run / "for-transformers")


def test_an_export_is_replaced(tmp_path, tokenizer):
    folder = make(tmp_path / "model", tokenizer, *MODELS["GPT"])
    (tmp_path / "out").mkdir()
    export(folder, out=tmp_path / "out")
    before = (tmp_path / "out" / "README.md").read_text()
    shutil.rmtree(tmp_path / "model")
    make(tmp_path / "model", tokenizer, *MODELS["GPT, classes"])
    export(folder, out=tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() != before
