import numpy as np
import pytest
import torch

from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import EncodedDocument, gather
from bothways.training.config import OptimizerConfig, TrainingConfig


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def make_model():
    """Return a maker of tiny models."""

    def make(heads=None, **settings):
        tiny = {
            "vocab_size": 40,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "max_position_embeddings": 64,
        }
        return Model(TransformerConfig(**{**tiny, **settings}), {"language_model": 0} if heads is None else heads)

    return make


@pytest.fixture
def make_corpus():
    """Return a maker of corpora from documents, each a list of sentences, each a list of token ids."""

    def make(documents):
        return gather(
            EncodedDocument(
                input_ids=np.array([token for sentence in document for token in sentence], dtype=np.int64),
                sentence_starts=np.cumsum([0, *map(len, document[:-1])]),
                num_bytes=sum(map(len, document)),
            )
            for document in documents
        )

    return make


@pytest.fixture
def corpus(make_corpus):
    """Thirty documents of a few short sentences of random tokens from 4 to 39."""
    draw = np.random.default_rng(0)
    return make_corpus(
        [
            [
                draw.integers(4, 40, size=int(size)).tolist()
                for size in draw.integers(2, 9, size=int(draw.integers(2, 7)))
            ]
            for _ in range(30)
        ]
    )


@pytest.fixture
def causal():
    return CausalLM(bos_id=1, eos_id=2)


@pytest.fixture
def masked():
    return MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=40, special_ids=(0, 1, 2, 3), length=16)


@pytest.fixture
def make_training():
    """Return a maker of settings for short, exact runs."""

    def make(**settings):
        short = {"steps": 4, "batch_tokens": 64, "micro_batch_tokens": 64, "row_length": 16, "precision": "fp32"}
        return TrainingConfig(**{**short, **settings})

    return make


@pytest.fixture
def adamw():
    return OptimizerConfig(name="adamw")
