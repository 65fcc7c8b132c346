import numpy as np
import pytest
import torch

from bothways.text.shards import EncodedDocument, gather
from bothways.training import machine


@pytest.fixture(scope="session")
def make_corpus():
    """Return a maker of corpora: so many documents of so many random tokens each, cut into sentences of equal length."""

    def make(documents, tokens, *, vocab_size=40, sentence=10**6, num_bytes):
        draw = np.random.default_rng(0)
        return gather(
            EncodedDocument(
                input_ids=draw.integers(4, vocab_size, size=tokens),
                sentence_starts=np.arange(0, tokens, sentence),
                num_bytes=num_bytes,
            )
            for _ in range(documents)
        )

    return make


@pytest.fixture(autouse=True)
def _nothing_compiles(monkeypatch):
    """What is expected shall not depend on the machine's compiler."""
    monkeypatch.setattr("bothways.advise.plan.why_not_compiled_anywhere", lambda _: "a test")


@pytest.fixture
def where_long_runs_compile(monkeypatch, _nothing_compiles):
    """Let runs be compiled by their steps, as on a GPU; trials still run on the device that there is."""
    wants = machine.wants_compiled
    monkeypatch.setattr("bothways.advise.plan.why_not_compiled_anywhere", lambda _: None)
    monkeypatch.setattr(
        "bothways.advise.plan.wants_compiled",
        lambda training, model, _, *, parameters: wants(training, model, torch.device("cuda"), parameters=parameters),
    )
