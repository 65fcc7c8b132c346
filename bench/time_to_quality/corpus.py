"""The text of all arms: prepared once by bothways, and laid out once more as each peer's users lay it out.

| file | what | whose |
|---|---|---|
| ``bpe/``, ``wordpiece/`` | what ``bothways prepare`` makes | ours |
| ``peers/SEED/train.bin``, ``val.bin``, ``meta.pkl`` | documents, ``<|endoftext|>`` after each | nanoGPT |
| ``peers/gpt.bin`` | documents end to end, nothing between them, as run_clm joins them | Trainer |
| ``peers/framed.bin`` | ``[CLS] document [SEP]`` end to end, as run_mlm joins them | Trainer |
| ``peers/sentences.bin``, ``.npy`` | sentences end to end, and where each begins | Trainer, line by line |

The peers' token ids are those that bothways stored, so their users' time for tokenization is spared.
"""

import pickle
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.text.shards import Corpus, Shards
from bothways.text.tokenizing.tokenizer import Tokenizer

KINDS = {"gpt": "bpe", "bert": "wordpiece"}


def prepare(program: Path, source: Path, folder: Path, *, kind: str, vocab_size: int) -> None:
    """Prepare the corpus with a tokenizer of a kind, unless that has been done."""
    if (folder / "manifest.json").exists():
        return
    print(f"preparing {source} with {kind}", flush=True)
    sized = ["--vocab-size", str(vocab_size), "--tokenizer", kind]
    subprocess.run(
        [program, "prepare", source, "--out", folder, *sized, "--json"], check=True, stdout=subprocess.DEVNULL
    )


def lay_out_gpt(data: Path, peers: Path) -> None:
    """Write what Trainer's GPT reads."""
    if not (peers / "gpt.bin").exists():
        train = Shards(data).corpus("train")
        _write(peers / "gpt.bin", (shard.input_ids for shard in train.shards))


def lay_out_nanogpt(data: Path, peers: Path, seed: int) -> Path:
    """Write nanoGPT's folder of data and return it.

    train.py fixes its own random seed, so another ``seed`` is other text for the same draws: the documents are turned
    round by a tenth of them for each.
    """
    folder = peers / str(seed)
    if not (folder / "meta.pkl").exists():
        end = np.array([Tokenizer.load(data).special_id("eos")])
        for name, split in (("train.bin", "train"), ("val.bin", "validation")):
            corpus = Shards(data).corpus(split)
            turn = seed * len(corpus) // 10
            order = [(index + turn) % len(corpus) for index in range(len(corpus))]
            _write(folder / name, (np.append(corpus.document(index), end) for index in order))
        # From here alone train.py learns how many tokens there are; else it would take GPT-2's 50,304. We never open it.
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(Tokenizer.load(data))}))
    return folder


def lay_out_bert(data: Path, peers: Path) -> None:
    """Write what Trainer's BERT reads."""
    if not (peers / "framed.bin").exists():
        train, tokenizer = Shards(data).corpus("train"), Tokenizer.load(data)
        starts = np.concatenate([[0], *(bounds for bounds in _sentence_ends(train))])
        _write(peers / "sentences.bin", (shard.input_ids for shard in train.shards))
        np.save(peers / "sentences.npy", starts)
        cls, sep = np.array([tokenizer.special_id("cls")]), np.array([tokenizer.special_id("sep")])
        documents = (train.document(index) for index in range(len(train)))
        _write(peers / "framed.bin", (np.concatenate([cls, document, sep]) for document in documents))


def _sentence_ends(corpus: Corpus) -> Iterable[NDArray[Any]]:
    """Yield, for each shard, where its sentences end among the tokens of all shards."""
    before = 0
    for shard in corpus.shards:
        yield shard.sentences[1:].astype(np.int64) + before
        before += len(shard.input_ids)


def _write(file: Path, parts: Iterable[NDArray[Any]]) -> None:
    """Write ids as uint16, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as stream:
        for part in parts:
            assert int(part.max(initial=0)) < 2**16, "the peers store ids in 16 bits"
            stream.write(part.astype("<u2").tobytes())
    partial.replace(file)
