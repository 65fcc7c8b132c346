import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoModelForSequenceClassification
from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer

GOOD, BAD = ("lovely", "brilliant", "moving", "great"), ("dull", "awful", "tedious", "bad")
NEUTRAL = ("the", "film", "plot", "actor", "scene", "music", "was", "and", "a", "story", "with", "very")

# Trunks of the published families, as small as they can learn the toy task below.
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
FAMILIES = {
    "bert": {
        "attention": "bidirectional",
        "position": "learned",
        "norm": "layer",
        "norm_position": "post",
        "activation": "gelu",
        "bias": True,
        "head_transform": True,
        "pooling": "first",
        "pooler": "tanh",
        "type_vocab_size": 2,
        "intermediate_size": 128,
    },
    "gpt2": {"position": "learned", "norm": "layer", "activation": "gelu_tanh", "bias": True, "intermediate_size": 128},
    "llama": {"intermediate_size": 96},
}
LEARN = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3, "progress": False}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


def make_reviews(count, *, seed=0, classes=(BAD, GOOD)):
    """Return texts of 5 to 12 words, each with one word that gives its class away, and the classes."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        words = list(rng.choice(NEUTRAL, rng.integers(4, 12)))
        label = number % len(classes)
        words.insert(int(rng.integers(len(words))), str(rng.choice(classes[label])))
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Return the folder of an untrained checkpoint with its tokenizer, for each family."""
    root = tmp_path_factory.mktemp("checkpoints")
    words = (*GOOD, *BAD, *NEUTRAL)
    (root / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words)))
    wordpiece, bpe = Tokenizer.load(root), Tokenizer.train([" ".join(words)] * 9, kind="bpe", vocab_size=300)
    for family, settings in FAMILIES.items():
        tokenizer = wordpiece if family == "bert" else bpe
        torch.manual_seed(1)
        model = Model(TransformerConfig(vocab_size=len(tokenizer), **SMALL, **settings), {"language_model": 0})
        save_checkpoint(root / family, model, tokenizer=tokenizer)
    for family, (kind, config) in written_by_transformers(len(wordpiece)).items():
        torch.manual_seed(1)
        kind(config).save_pretrained(root / family)
        wordpiece.save(root / family)
    return {family: root / family for family in (*FAMILIES, "roberta", "modernbert")}


def written_by_transformers(vocab_size):
    """Return families whose files are not ours, as small."""
    sizes = {**SMALL, "vocab_size": vocab_size, "intermediate_size": 128, "pad_token_id": 0}
    tokens = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    roberta = transformers.RobertaConfig(**{**sizes, "max_position_embeddings": 66, "pad_token_id": 1})
    modernbert = transformers.ModernBertConfig(**sizes, **tokens, local_attention=16, global_attn_every_n_layers=2)
    return {
        "roberta": (transformers.RobertaForMaskedLM, roberta),
        "modernbert": (transformers.ModernBertForMaskedLM, modernbert),
    }


@pytest.fixture(scope="session")
def learn():
    """Return the options with which ``fit`` learns the toy task from scratch, in a second."""
    return LEARN


@pytest.fixture(scope="session")
def reviews():
    return make_reviews(240)


@pytest.fixture(scope="session")
def unseen():
    return make_reviews(100, seed=1)


@pytest.fixture
def fresh(folders):
    """Return an untrained BERT with a new head."""
    return AutoModelForSequenceClassification.from_pretrained(folders["bert"])


@pytest.fixture(scope="session")
def fitted_folder(folders, reviews, tmp_path_factory):
    """Return the folder of a BERT that has learnt the labels 0 and 1."""
    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(folders["bert"])
    folder = tmp_path_factory.mktemp("fitted") / "model"
    model.fit(*reviews, **LEARN).save_pretrained(folder)
    return folder


@pytest.fixture
def fitted(fitted_folder):
    return AutoModelForSequenceClassification.from_pretrained(fitted_folder)
