"""WordPiece encoding by a table of words: exactly the library's ids and offsets, several times as fast.

A text repeats its words. It is cut into chunks that BERT's tokenizer handles alike wherever they stand (see
``word_chunks``); each distinct chunk is encoded once by the library and then looked up.
"""

import json
from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.text.tokenizing.word_chunks import CHUNK, pieces

Ids = NDArray[np.uint32]
Offsets = NDArray[np.int64]

_PIECE = 2**18  # characters looked up at a time; the table is emptied between pieces only
_MAX_CHUNKS = 2**18  # in the table
_MAX_CHARACTERS = 2**23  # of the chunks in the table, and of the tokens they give
_GROUP = 256  # new chunks encoded as one text


class FastWordPiece:
    """Encodes as ``tokenizer.encode`` does, by a table of chunks that is emptied when it is full.

    A tokenizer that is not BERT's (another normaliser or pre-tokenizer, or added tokens that are read in plain text)
    is served by the library itself; ``is_fast`` tells.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.is_fast = _is_bert(tokenizer)
        self._index: dict[str, int] = {}
        self._characters = 0  # of all chunks
        self._used = 0  # tokens of all chunks
        self._ids = np.empty(0, np.uint32)
        self._starts = np.empty(0, np.int64)  # from the start of the chunk
        self._ends = np.zeros(1, np.int64)  # the chunk of row i has the tokens ends[i] to ends[i + 1]

    def encode(self, text: str) -> tuple[Ids, Offsets]:
        """Return the token ids of a text, without special tokens, and the character at which each token starts.

        Returns:
            ids [T] and starts [T]: code point offsets into ``text``, the library's own.
        Raises:
            UserError: the text is no text, or holds half of a surrogate pair.
        """
        if not self.is_fast:
            encoding = self.tokenizer.encodings([text])[0]
            return np.array(encoding.ids, dtype=np.uint32), _starts(encoding.offsets)
        if not isinstance(text, str):
            raise UserError(f"only text can be encoded, not {type(text).__name__}")
        encoded = [self._encode(text, start, stop) for start, stop in pieces(text, _PIECE)]
        if not encoded:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        ids, starts = zip(*encoded, strict=True)
        return np.concatenate(ids), np.concatenate(starts)

    def _encode(self, text: str, start: int, stop: int) -> tuple[Ids, Offsets]:
        """Encode one piece of a text."""
        if len(self._index) > _MAX_CHUNKS or max(self._characters, self._used) > _MAX_CHARACTERS:
            self._clear()
        chunks = CHUNK.findall(text, start, stop)
        rows = self._look_up(chunks)
        if rows.min(initial=0) < 0:
            self._learn(list(dict.fromkeys(chunk for chunk in chunks if chunk not in self._index)))
            rows = self._look_up(chunks)
        lengths = np.fromiter(map(len, chunks), np.int64, len(chunks))
        chunk_starts = np.cumsum(lengths) - lengths + start
        counts = self._ends[rows + 1] - self._ends[rows]
        # Token i of the piece is token ``places[i]`` of the table.
        shift = self._ends[rows] - (np.cumsum(counts) - counts)
        places = np.repeat(shift, counts) + np.arange(counts.sum())
        return self._ids[places], np.repeat(chunk_starts, counts) + self._starts[places]

    def _look_up(self, chunks: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each chunk in the table, -1 where there is none."""
        return np.fromiter(map(self._index.get, chunks, repeat(-1)), np.int64, len(chunks))

    def _learn(self, chunks: Sequence[str]) -> None:
        """Encode new chunks and add them to the table.

        Many go into one text, with a line feed between them: a call of the library for each would cost more than the
        encoding.
        """
        groups = [chunks[at : at + _GROUP] for at in range(0, len(chunks), _GROUP)]
        encodings = self.tokenizer.encodings(["\n" + "\n".join(group) for group in groups])
        ids, starts, ends = [], [], []
        for group, encoding in zip(groups, encodings, strict=True):
            begins = np.fromiter(accumulate((len(chunk) + 1 for chunk in group[:-1]), initial=1), np.int64, len(group))
            offsets = _starts(encoding.offsets)
            owner = np.searchsorted(begins, offsets, side="right") - 1
            ends.append(np.bincount(owner, minlength=len(group)))
            ids.append(np.array(encoding.ids, dtype=np.uint32))
            starts.append(offsets - begins[owner])
        self._index.update(zip(chunks, range(len(self._index), len(self._index) + len(chunks)), strict=True))
        self._characters += sum(map(len, chunks))
        new_ends = self._used + np.cumsum(np.concatenate(ends))
        first = len(self._index) - len(chunks) + 1
        self._ids = _written(self._ids, self._used, np.concatenate(ids))
        self._starts = _written(self._starts, self._used, np.concatenate(starts))
        self._ends = _written(self._ends, first, new_ends)
        self._used = int(new_ends[-1])

    def _clear(self) -> None:
        self._index = {}
        self._characters = self._used = 0  # what the arrays hold is written over


def _written(buffer: NDArray[Any], place: int, values: NDArray[Any]) -> NDArray[Any]:
    """Write values into a buffer, or into one twice as large where they do not fit."""
    if place + len(values) > len(buffer):
        buffer = np.concatenate([buffer[:place], np.zeros(place + 2 * len(values), buffer.dtype)])
    buffer[place : place + len(values)] = values
    return buffer


def _starts(offsets: Sequence[tuple[int, int]]) -> Offsets:
    return np.array(offsets, dtype=np.int64).reshape(-1, 2)[:, 0]


def _is_bert(tokenizer: Tokenizer) -> bool:
    """Whether words end where this module says they do."""
    backend = tokenizer.backend
    if tokenizer.kind != "wordpiece" or backend.normalizer is None or backend.pre_tokenizer is None:
        return False
    if any(not token.special for token in backend.get_added_tokens_decoder().values()):
        return False
    normalizer = json.loads(backend.normalizer.__getstate__())
    pre_tokenizer = json.loads(backend.pre_tokenizer.__getstate__())
    return (
        normalizer.get("type") == "BertNormalizer"
        and normalizer.get("clean_text") is True
        and normalizer.get("handle_chinese_chars") is True
        and pre_tokenizer.get("type") == "BertPreTokenizer"
    )
