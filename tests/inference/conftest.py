import numpy as np
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
def make_model():
    """Return a maker of tiny models whose weights are large, so that no two tokens are about equally likely."""

    def make(heads=None, *, dtype=torch.float64, **settings):
        tiny = {
            "vocab_size": 29,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 40,
            "tie_word_embeddings": False,
            "initializer_range": 0.5,
        }
        return Model(TransformerConfig(**{**tiny, **settings}), heads or {"language_model": 0}).to(dtype)

    return make


@pytest.fixture
def make_texts():
    """Return a maker of random token ids of the lengths asked for."""
    rng = np.random.default_rng(0)

    def make(*lengths):
        return [rng.integers(29, size=length).tolist() for length in lengths]

    return make


@pytest.fixture
def watch():
    """Return a function that notes the shape [B, T] of all that a model's trunk reads from now on."""

    def start(model):
        shapes = []
        model.transformer.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].input_ids.shape)))
        return shapes

    return start
