"""Documents to token ids, with the tokens at which sentences and words begin.

Ids are exactly those that ``tokenizer.json`` gives to the whole document. The libraries differ in speed: byte-level BPE
is encoded by ``fastokens``, which is many times as fast as ``tokenizers`` and gives the same ids; WordPiece by a table
of the words met; all else by ``tokenizers`` itself.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bothways.boundaries import Segmenter, byte_offsets, word_starts
from bothways.language import Language, sentence_starts
from bothways.text.shards import EncodedDocument
from bothways.text.tokenizing.fast_wordpiece import FastWordPiece
from bothways.text.tokenizing.tokenizer import Tokenizer, in_batches

Words = Literal["none", "characters", "rjieba"]
Tokens = tuple[NDArray[Any], NDArray[np.int64], bool]
"""Ids [tokens]; where each token starts in the text [tokens]; whether that is counted in bytes, not in characters."""


class Backend(Protocol):
    """What turns texts into tokens."""

    def encode(self, texts: Sequence[str]) -> Iterator[Tokens]:
        """Yield the tokens of each text."""


class Encoder:
    """Encodes documents whole.

    Args:
        tokenizer: any.
        language: by whose rules sentences and words are found.
        words: whether to keep where words begin, and what a Chinese word is: each of its characters, or what the
            segmenter ``rjieba`` says.
        fast: False to have ``tokenizers`` encode everything.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, language: Language = "auto", words: Words = "none", fast: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self._language: Language = language
        self._words = words
        self._backend = _fast_backend(tokenizer) if fast else _Library(tokenizer)

    def encode(self, texts: Iterable[str], *, batch_size: int = 64) -> Iterator[EncodedDocument]:
        """Yield each text as token ids.

        Raises:
            UserError: a text holds half of a surrogate pair.
        """
        for batch in in_batches(texts, batch_size):
            for text, tokens in zip(batch, self._backend.encode(batch), strict=True):
                yield self._document(text, *tokens)

    def _document(self, text: str, ids: NDArray[Any], starts: NDArray[np.int64], in_bytes: bool) -> EncodedDocument:
        def placed(characters: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
            return byte_offsets(text, characters) if in_bytes else np.asarray(characters, dtype=np.int64)

        if not len(ids):
            return EncodedDocument(input_ids=ids, sentence_starts=starts, num_bytes=len(text.encode()))
        sentences = np.unique(np.searchsorted(starts, placed(sentence_starts(text, self._language))))
        words = None
        if self._words != "none":
            segmenter: Segmenter = "rjieba" if self._words == "rjieba" else "none"
            begun = placed(word_starts(text, self._language, segmenter))
            words = np.zeros(len(ids), dtype=bool)
            holders = starts[np.searchsorted(starts, begun[begun >= starts[0]], side="right") - 1]
            words[np.searchsorted(starts, holders)] = True  # of several tokens of one character, the first
        return EncodedDocument(
            input_ids=ids,
            sentence_starts=sentences[sentences < len(ids)],
            num_bytes=len(text) if text.isascii() else len(text.encode()),
            word_starts=words,
        )


def fast_agrees(tokenizer: Tokenizer, texts: Iterable[str]) -> bool:
    """Return whether the fast way gives the same ids as ``tokenizers`` on these texts."""
    fast, library = _fast_backend(tokenizer), _Library(tokenizer)
    return all(
        np.array_equal(ours[0], theirs[0])
        for batch in in_batches(texts, 64)
        for ours, theirs in zip(fast.encode(batch), library.encode(batch), strict=True)
    )


class _Library:
    """The ``tokenizers`` library."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> Iterator[Tokens]:
        for encoding in self._tokenizer.encodings(texts):
            starts = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
            yield np.array(encoding.ids, dtype=np.uint32), starts, False


class _WordTable:
    """WordPiece by a table of words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._fast = FastWordPiece(tokenizer)

    def encode(self, texts: Sequence[str]) -> Iterator[Tokens]:
        for text in texts:
            yield *self._fast.encode(text), False


class _ByteLevel:
    """Byte-level BPE by ``fastokens``. Its tokens are the bytes of the text, so their lengths say where each starts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        import fastokens

        self._library = _Library(tokenizer)
        self._tokenizer = tokenizer
        self._fast = fastokens.Tokenizer.from_json_str(tokenizer.backend.to_str())
        vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
        self._lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
        for token, index in vocabulary.items():
            self._lengths[index] = len(token)  # one character of the byte-level alphabet is one byte

    def encode(self, texts: Sequence[str]) -> Iterator[Tokens]:
        try:
            data, bounds = self._fast.encode_batch_flat(
                list(texts), add_special_tokens=False, split_special_tokens=True
            )
        except (TypeError, UnicodeEncodeError):  # not text: the library says so in our words
            yield from self._library.encode(texts)
            return
        ids, ends = np.frombuffer(data, dtype="<u4"), np.frombuffer(bounds, dtype="<u8").astype(np.int64)
        for start, stop in pairwise(ends):
            tokens = ids[start:stop]
            sizes = self._lengths[tokens]
            yield tokens, sizes.cumsum() - sizes, True


def _fast_backend(tokenizer: Tokenizer) -> Backend:
    if tokenizer.kind == "wordpiece":
        return _WordTable(tokenizer)
    return _ByteLevel(tokenizer) if _is_byte_level(tokenizer) else _Library(tokenizer)


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether tokens are just the bytes of the text, by the rules of GPT-2, and no added token stands in plain text."""
    values = json.loads(tokenizer.backend.to_str())
    before, model = values["pre_tokenizer"] or {}, values["model"]
    plain = {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    return (
        model["type"] == "BPE"
        and all((model.get(name) or default) == default for name, default in plain.items())
        and values["normalizer"] is None
        and before.get("type") == "ByteLevel"
        and not before.get("add_prefix_space")
        and before.get("use_regex", True)
        and all(token["special"] for token in values["added_tokens"])
    )
