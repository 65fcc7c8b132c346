import pytest
import torch
from torch.nn import functional

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer

TEXTS = ("the old man and the sea\nthe sea and the old man", "我们今天去北京，明天回来。他们今天去南京，后天回来。")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Harnesses ask no hub, keep what they find with the test, and compute in float32 wherever they run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "mteb"))
    monkeypatch.setattr("bothways.training.machine.has_bf16", lambda _: False)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(TEXTS * 20, kind="bpe", vocab_size=330, exact=False)


@pytest.fixture(scope="session")
def folders(tmp_path_factory, tokenizer):
    """Return folders of a GPT and a hybrid, in Hugging Face's format, that have learnt two texts by heart."""
    made = {}
    for name, settings in {"GPT": {}, "hybrid": {"hybrid": True}}.items():
        made[name] = tmp_path_factory.mktemp("models") / name
        save_checkpoint(made[name], taught(tokenizer, settings), tokenizer=tokenizer)
    return made


def taught(tokenizer, settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = Model(
        TransformerConfig(vocab_size=len(tokenizer), **sizes, max_position_embeddings=48, **settings),
        {"language_model": 0},
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    special = tokenizer.special_id("bos")
    sequences = [[special, *tokenizer.encode(text), special] for text in TEXTS]
    for _ in range(60):
        for ids in sequences:
            batch = collate([row(ids, "causal")])
            logits = model.read("language_model", model(batch), batch, torch.arange(len(ids) - 1))
            optimizer.zero_grad()
            functional.cross_entropy(logits, torch.tensor(ids[1:])).backward()
            optimizer.step()
    return model
