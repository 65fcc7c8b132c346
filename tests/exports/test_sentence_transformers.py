"""A model gives in sentence-transformers the vectors that it gives here, for tokens and for texts."""

import numpy as np
import pytest
from small_models import MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.inference.encode import encode
from bothways.verbs.export import export

pytestmark = pytest.mark.engines
TEXTS = ["the old man", "我们今天去北京", "and the sea, the sea"]


@pytest.mark.parametrize("name", ["GPT", "our BERT", "BERT", "BERT, classes", "embeddings"])
def test_the_other_program_gives_the_same_vectors(tmp_path, tokenizer, name):
    settings, heads = MODELS[name]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    (difference,) = export(folder, format="sentence-transformers", out=tmp_path / "out").differences
    assert (difference.head, difference.largest < 1e-5) == ("embedding", True)
    model = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "out"), device="cpu")
    loaded = load(folder)
    framed = [loaded.tokenizer.backend.encode(text).ids for text in TEXTS]
    np.testing.assert_allclose(model.encode(TEXTS), encode(loaded.model, framed), atol=1e-5)
    assert load(tmp_path / "out").model.config == loaded.model.config
