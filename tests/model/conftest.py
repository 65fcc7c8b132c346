import pytest
import torch

from bothways.model.config import TransformerConfig
from bothways.model.heads import Model


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same numbers, whatever ran before it; one thread is fastest for tiny tensors."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def make_config():
    """Return a maker of tiny settings; the weights are large, so that every part has its say in the result."""

    def make(**settings):
        tiny = {
            "vocab_size": 23,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "max_position_embeddings": 32,
            "initializer_range": 0.3,
        }
        return TransformerConfig(**{**tiny, **settings})

    return make


@pytest.fixture
def make_model(make_config):
    """Return a maker of tiny models in float64 and evaluation mode."""

    def make(heads=None, **settings):
        return Model(make_config(**settings), {"language_model": 0} if heads is None else heads).double().eval()

    return make
