import numpy as np
import pytest
import torch

from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.shards import EncodedDocument, gather


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def make_model():
    """Return a maker of tiny models in float64 and evaluation mode, with weights large enough to disagree."""

    def make(heads, **settings):
        tiny = {
            "vocab_size": 40,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
        }
        return Model(TransformerConfig(**{**tiny, **settings}), heads).double().eval()

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
def make_numbered(make_corpus):
    """Return a maker of corpora in which every token is another number, so that each tells where it comes from.

    Takes the lengths of the sentences of each document; the first token is 10, and the next one greater by one.
    """

    def make(lengths):
        numbers = iter(range(10, 10**9))
        return make_corpus([[[next(numbers) for _ in range(size)] for size in document] for document in lengths])

    return make
