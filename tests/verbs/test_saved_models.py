"""What a run saves beside the weights: a tokenizer that others use as training did, and how the model is to be read."""

import json
import shutil

import numpy as np
import pytest
import torch

import bothways
from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load
from bothways.verbs.evaluate import load_trained

SMALL = (
    "model.hidden_size=16",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "training.row_length=64",
    "training.batch_tokens=256",
    "training.micro_batch_tokens=256",
    "training.steps=2",
)
TEXTS = ("the sea moves", "the land is old")


@pytest.fixture(scope="module")
def data(texts, tmp_path_factory):
    """Return a corpus of byte-level BPE tokens."""
    out = tmp_path_factory.mktemp("data") / "data"
    bothways.prepare(texts, out=out, tokenizer="bpe", vocab_size=400, workers=1)
    return out


@pytest.fixture(scope="module")
def make_run(data, tmp_path_factory):
    def make(recipe, *settings):
        out = tmp_path_factory.mktemp("runs") / "run"
        bothways.pretrain(recipe, data=data, out=out, settings=[*SMALL, *settings])
        return out

    return make


@pytest.fixture(scope="module")
def bert(make_run):
    return make_run("bert-base-uncased", "objective.sequence_length=32")


@pytest.mark.parametrize("sides", [TEXTS[:1], TEXTS])
def test_a_bert_on_byte_level_tokens_reads_in_transformers_as_it_was_trained(bert, sides):
    transformers = pytest.importorskip("transformers")
    loaded = load(bert)
    tokenizer, special = loaded.tokenizer, loaded.tokenizer.special_ids
    tokens = [tokenizer.encode(side) for side in sides]
    ids = [special["cls"], *(index for side in tokens for index in (*side, special["sep"]))]
    types = [0] * (len(tokens[0]) + 2) + [1] * (len(ids) - len(tokens[0]) - 2)

    called = transformers.AutoTokenizer.from_pretrained(bert / "last")(*sides, return_tensors="pt")
    assert called["input_ids"].tolist() == [ids]
    assert called["token_type_ids"].tolist() == [types]
    with torch.no_grad():
        theirs = transformers.AutoModelForMaskedLM.from_pretrained(bert / "best").eval()(**called).logits[0]
        batch = collate([row(ids, "bidirectional", token_type_ids=types)])
        model = loaded.model.eval()
        ours = model.read("language_model", model(batch), batch, torch.arange(len(ids)))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_our_own_front_reads_it_so_too(bert):
    tokenizer = bothways.AutoTokenizer.from_pretrained(bert)
    called = tokenizer(*TEXTS)
    ends = np.flatnonzero(np.array(called.input_ids) == tokenizer.sep_token_id)
    assert ends[1] == len(called.input_ids) - 1
    assert called.token_type_ids == [0] * (ends[0] + 1) + [1] * (ends[1] - ends[0])


def test_the_tokenizers_of_a_gpt_and_of_the_text_stay_as_they_are(data, make_run, bert):
    file = (data / "tokenizer.json").read_bytes()
    gpt = make_run("gpt-tiny")
    assert (gpt / "last" / "tokenizer.json").read_bytes() == file
    assert (bert / "last" / "tokenizer.json").read_bytes() != file


def test_text_that_is_prepared_with_a_berts_tokenizer_goes_with_the_text_it_was_trained_on(data, bert, texts, tmp_path):
    bothways.prepare(texts, out=tmp_path / "again", tokenizer=bert, workers=1)
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (data / "tokenizer.json").read_bytes()


# Where a model says hidden tokens


@pytest.fixture(scope="module")
def shifted(make_run):
    return make_run("hybrid-tiny", "objective.shifted=true", "objective.sequence_length=32")


@pytest.mark.parametrize("way", ["causal", "bidirectional"])
def test_a_model_tells_without_its_run_that_it_says_hidden_tokens_at_the_position_before(shifted, tmp_path, way):
    for place in (shifted / "last", *(shifted / "checkpoints").iterdir()):
        shutil.copytree(place, tmp_path / place.name)
        assert load(tmp_path / place.name, attention=way).model.shifted
    assert load_trained("minimal-pairs", tmp_path / "last", attention=way)[1].model.shifted


def test_of_models_saved_by_earlier_versions_the_run_tells_it(shifted, tmp_path):
    shutil.copytree(shifted, tmp_path / "run")
    model = tmp_path / "run" / "best"
    values = json.loads((model / "config.json").read_text())
    del values["bothways"]["shifted"]
    (model / "config.json").write_text(json.dumps(values))
    assert not load(model, verify=False).model.shifted
    assert load_trained("minimal-pairs", model, verify=False)[1].model.shifted


def test_of_a_model_that_predicts_next_tokens_alone_it_is_not_said(make_run):
    assert not load(make_run("gpt-tiny", "objective.shifted=true")).model.shifted


def test_a_run_is_fine_tuned_at_the_pace_of_its_pretraining(make_run, tmp_path):
    bert = make_run("bert-mini", "objective.sequence_length=32")
    train = tmp_path / "train.csv"
    rows = [f"the {place} {verb},{place}" for place in ("sea", "land") for verb in ("moves", "is old")]
    train.write_text("\n".join(["text,label", *rows]))
    options = {"train": train, "model": bert}
    tuned = bothways.finetune("classification", out=tmp_path / "tuned", **options)
    assert tuned.settings.training.learning_rate == 3e-3
    assert (tuned.settings.optimizer.name, tuned.settings.optimizer.embedding_scale) == ("muon", 16)
    assert load(tmp_path / "tuned").model.pace == load(bert).model.pace
    said = bothways.finetune(
        "classification",
        out=tmp_path / "said",
        settings=["training.learning_rate=0.001", "optimizer.name=adamw"],
        **options,
    )
    assert (said.settings.training.learning_rate, said.settings.optimizer.name) == (1e-3, "adamw")
