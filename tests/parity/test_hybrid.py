"""A hybrid's one file of weights is a Llama under one config.json and a EuroBERT under another, in transformers and here."""

import numpy as np
import pytest
import torch
import transformers

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model

IDS = np.random.default_rng(0).integers(1, 61, 12)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = TransformerConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
        hybrid=True,
    )
    save_checkpoint(tmp_path / "hybrid", Model(config, {"language_model": 0}))
    return tmp_path / "hybrid"


def ours(folder, attention):
    model = load_checkpoint(folder, attention=attention).model.eval()
    assert model.config.attention == attention
    batch = collate([row(IDS, attention)])
    with torch.no_grad():
        return model.read("language_model", model(batch), batch, torch.arange(len(IDS)))


def theirs(model):
    with torch.no_grad():
        return model.eval()(torch.tensor(IDS)[None]).logits[0]


def test_it_is_a_llama(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert torch.allclose(theirs(model), ours(folder, "causal"), atol=1e-5, rtol=1.3e-6)


def test_it_is_a_eurobert_with_the_other_settings(folder):
    config = transformers.AutoConfig.from_pretrained(folder / "config.bidirectional.json")
    model, report = transformers.AutoModelForMaskedLM.from_pretrained(folder, config=config, output_loading_info=True)
    assert type(model).__name__ == "EuroBertForMaskedLM"
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.allclose(theirs(model), ours(folder, "bidirectional"), atol=1e-5, rtol=1.3e-6)


def test_the_two_ways_differ(folder):
    assert not torch.allclose(ours(folder, "causal"), ours(folder, "bidirectional"), atol=0.1)


def test_what_reads_one_way_cannot_read_the_other(folder):
    assert load_checkpoint(folder).model.config.hybrid
    turned = load_checkpoint(folder, attention="bidirectional").model.config
    assert not turned.hybrid
    with pytest.raises(UserError, match="reads both ways"):
        turned.read_as("causal")


def test_turned_and_saved_it_is_a_eurobert_alone(folder, tmp_path):
    save_checkpoint(tmp_path / "turned", load_checkpoint(folder, attention="bidirectional").model)
    assert not (tmp_path / "turned" / "config.bidirectional.json").exists()
    assert (
        type(transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "turned")).__name__ == "EuroBertForMaskedLM"
    )
