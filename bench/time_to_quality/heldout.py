"""What every arm is measured on: the same held-out documents in the same windows, with the same tokens hidden.

| figure | windows |
|---|---|
| ``bits_per_byte`` | 255 tokens that go in, and what follows each; before a document stands ``<|endoftext|>`` |
| ``bits_per_byte_without_start`` | the same without ``<|endoftext|>``, which Trainer's GPT never saw |
| ``masked_loss`` | ``[CLS]``, 126 tokens of a document, ``[SEP]``; 15 % of the tokens hidden |
| ``masked_loss_plain`` | 128 tokens without a frame, as run_mlm cuts them |
| ``masked_loss_sentences`` | ``[CLS] sentence [SEP]``, as run_mlm reads lines |

Where nothing stands before a document, its first token is not predicted. A window has 255 inputs, since Trainer's GPT shifts
inside its block of 256 and never trains its last position. The end of a document is not predicted, since Trainer's GPT never
saw one. Nothing crosses from one document to the next. The first figure of GPTs and of BERTs is the one that counts; the others
are found on a quarter of the tokens.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.text.shards import Corpus, Shards
from bothways.text.tokenizing.tokenizer import Tokenizer

WINDOW, SEQUENCE, SHARE = 255, 128, 0.15
FEWER = 4  # the figures beside the first of each family are found on a quarter of the tokens
NOTHING = -1  # a position that predicts nothing
Ids = NDArray[np.int64]
Window = tuple[Ids, Ids]  # what goes in, and what it shall say at each position

FIGURES = {
    "gpt": ("bits_per_byte", "bits_per_byte_without_start"),
    "bert": ("masked_loss", "masked_loss_plain", "masked_loss_sentences"),
}


def write_gpt(data: Path, folder: Path, *, tokens: int) -> None:
    """Write the windows of GPT."""
    corpus = Shards(data).corpus("validation")
    start = np.array([Tokenizer.load(data).special_id("bos")])
    documents = choose(corpus, tokens)
    started = [window for index in documents for window in windows(np.concatenate([start, corpus.document(index)]))]
    _save(folder / "bits_per_byte.npz", started, num_bytes=int(corpus.document_bytes[documents].sum()))
    documents = choose(corpus, tokens // FEWER)
    without = [window for index in documents for window in windows(corpus.document(index))]
    predicted = sum(len(window[0]) for window in without) / int(corpus.document_tokens[documents].sum())
    size = int(corpus.document_bytes[documents].sum()) * predicted
    _save(folder / "bits_per_byte_without_start.npz", without, num_bytes=size)


def write_bert(data: Path, folder: Path, *, tokens: int) -> None:
    """Write the masked sequences of BERT."""
    corpus, tokenizer = Shards(data).corpus("validation"), Tokenizer.load(data)
    cls, sep = np.array([tokenizer.special_id("cls")]), np.array([tokenizer.special_id("sep")])
    texts = [corpus.document(index) for index in choose(corpus, tokens)]
    fewer = choose(corpus, tokens // FEWER)
    sentences = [sentence for index in fewer for sentence in corpus.document_sentences(index)]
    ways = {
        "masked_loss": [np.concatenate([cls, part, sep]) for text in texts for part in parts(text, SEQUENCE - 2)],
        "masked_loss_plain": [part for text in texts[: len(fewer)] for part in parts(text, SEQUENCE)],
        "masked_loss_sentences": [np.concatenate([cls, one[: SEQUENCE - 2], sep]) for one in sentences],
    }
    for name, sequences in ways.items():
        rng = np.random.default_rng(0)
        _save(folder / f"{name}.npz", [hide(sequence, tokenizer, rng) for sequence in sequences], num_bytes=math.nan)


def choose(corpus: Corpus, tokens: int) -> list[int]:
    """Return the first documents that have so many tokens together; the last one is whole, too."""
    enough = int(np.searchsorted(corpus.document_tokens.cumsum(), tokens)) + 1
    return list(range(min(enough, len(corpus))))


def windows(text: Ids) -> Iterator[Window]:
    """Yield the windows of a document: each token but the first is predicted once."""
    for start in range(0, len(text) - 1, WINDOW):
        following = text[start + 1 : start + WINDOW + 1]
        yield text[start : start + len(following)], following


def parts(text: Ids, length: int) -> Iterator[Ids]:
    """Yield a document in parts; one that is too short to hide a token in is left out."""
    yield from (text[start : start + length] for start in range(0, len(text), length) if len(text) - start > 1)


def hide(sequence: Ids, tokenizer: Tokenizer, rng: np.random.Generator) -> Window:
    """Hide 15 % of the tokens of a sequence: 80 % of these masked, 10 % random, 10 % as they were."""
    candidates = np.flatnonzero(~np.isin(sequence, list(tokenizer.special_ids.values())))
    chosen = rng.permutation(candidates)[: max(1, round(SHARE * len(sequence)))]
    hidden, said = sequence.copy(), np.full(len(sequence), NOTHING)
    said[chosen] = sequence[chosen]
    draw = rng.random(len(chosen))
    hidden[chosen[draw < 0.8]] = tokenizer.special_id("mask")
    random = chosen[draw >= 0.9]
    hidden[random] = rng.integers(len(tokenizer), size=len(random))
    return hidden, said


def _save(file: Path, made: Sequence[Window], *, num_bytes: float) -> None:
    """Write windows, the shortest first, so that a batch has little padding."""
    made = sorted(made, key=lambda window: len(window[0]))
    lengths = np.array([len(window[0]) for window in made])
    ids, said = np.zeros((len(made), lengths[-1]), np.int64), np.full((len(made), lengths[-1]), NOTHING)
    for at, (inputs, values) in enumerate(made):
        ids[at, : len(inputs)], said[at, : len(inputs)] = inputs, values
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, ids=ids, said=said, lengths=lengths, num_bytes=num_bytes)


def load(file: Path) -> dict[str, Any]:
    """Return ``ids`` and ``said`` [windows, positions], ``lengths`` [windows] and ``num_bytes``."""
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}
