import os

import pytest
import torch
from hub_server import HubServer
from huggingface_hub import constants

from bothways.checkpoints import downloading
from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer

TEXTS = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs", "我们今天去北京旅游"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(TEXTS * 3, kind="bpe", vocab_size=270)


@pytest.fixture
def make_model():
    """Return a maker of tiny models."""

    def make(heads=None, **settings):
        tiny = {
            "vocab_size": 270,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 12,
            "max_position_embeddings": 16,
        }
        return Model(TransformerConfig(**{**tiny, **settings}), {"language_model": 0} if heads is None else heads)

    return make


@pytest.fixture
def save(make_model, tokenizer):
    """Return what saves a whole checkpoint, training state and all, and returns its model."""

    def saved(folder, **settings):
        model = make_model(**settings)
        training = {
            "momentum": torch.randn(3, 4),
            "random": torch.arange(5, dtype=torch.uint8),
            "step": torch.tensor(7),
        }
        save_checkpoint(folder, model, tokenizer=tokenizer, training=training, state={"step": 7, "best": 1.25})
        return model

    return saved


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a hub on this machine that this process loads from, with an empty cache and without a token."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(downloading, "SECONDS_TO_WAIT", 0.01)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield server


@pytest.fixture
def environment(hub, tmp_path):
    """Return the environment of another process that loads from this hub into the same cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **home, "OMP_NUM_THREADS": "1"}
