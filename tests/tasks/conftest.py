import numpy as np
import pytest
import torch

from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer

SENTENCE = "the river moves under an old mountain and a small engine reads one large kernel with every signal"


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    """Every test draws the same numbers and computes in float32, whatever ran before it and wherever it runs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.setattr("bothways.training.machine.has_bf16", lambda _: False)


@pytest.fixture(scope="session")
def tokenizers():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(SENTENCE.split())) for _ in range(60)]
    return {
        "causal": Tokenizer.train(texts, kind="bpe", vocab_size=320),
        "bidirectional": Tokenizer.train(texts, kind="wordpiece", vocab_size=90),
    }


@pytest.fixture
def make_loaded(tokenizers, as_loaded):
    """Return a maker of tiny models with their tokenizers; the weights are large, so that no two tokens are alike."""

    def make(attention, heads, **settings):
        tokenizer = settings.pop("tokenizer", tokenizers[attention])
        tiny = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        tiny |= {"max_position_embeddings": 48, "initializer_range": 0.3, "pooling": "last"}
        config = TransformerConfig(vocab_size=len(tokenizer), attention=attention, **{**tiny, **settings})
        return as_loaded(Model(config, heads), tokenizer)

    return make
