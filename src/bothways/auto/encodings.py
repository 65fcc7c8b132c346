"""Encoded texts, as a tokenizer hands them out and a model takes them in.

Shapes: n texts, T tokens of one.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any

import numpy as np
from tokenizers import Encoding

from bothways.errors import UserError


class Encodings(Mapping[str, Any]):
    """Columns of whole numbers, one row a text.

    | column | meaning |
    |---|---|
    | ``input_ids`` | token ids |
    | ``attention_mask`` | 1: a token, 0: padding |
    | ``token_type_ids`` | 0: the first text of a pair, 1: the second; only where the model tells them apart |
    | ``offset_mapping`` | where each token's characters begin and end in its text; where asked for |
    | ``overflow_to_sample_mapping`` | [n] which text the row is a part of; where long texts became several rows |

    A column is a list of lists, or an array or tensor [n, T]; that of a single text is a flat list. It is had as
    ``encodings["input_ids"]`` or ``encodings.input_ids``. Rows are had as ``encodings[0]``, ``encodings[:100]`` or
    ``encodings[[3, 1]]``, and ``len`` counts them (not the columns, as ``len`` of a dictionary would).
    """

    def __init__(self, columns: Mapping[str, Any], encoded: Sequence[Encoding] = ()) -> None:
        """Hold columns.

        Args:
            columns: name to rows.
            encoded: what the tokenizers library knows of each row, if it made them.
        """
        self._columns = dict(columns)
        self._encoded = list(encoded)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        if self._is_single():
            raise IndexError("these are the encodings of a single text, which has no rows")
        chosen = np.arange(len(self))[key]
        encoded = [self._encoded[index] for index in np.atleast_1d(chosen)] if self._encoded else []
        return Encodings({name: _take(column, chosen) for name, column in self._columns.items()}, encoded)

    def __getattr__(self, name: str) -> Any:
        columns = self.__dict__.get("_columns", {})  # absent while a copy is being made
        if name not in columns:
            raise AttributeError(f"encodings have the columns {', '.join(columns)}, and no {name!r}")
        return columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return 1 if self._is_single() else len(self._columns["input_ids"])

    def __repr__(self) -> str:
        return f"Encodings({len(self)} texts: {', '.join(self._columns)})"

    def keys(self) -> KeysView[str]:
        """Return the names of the columns."""
        return self._columns.keys()

    def values(self) -> ValuesView[Any]:
        """Return the columns."""
        return self._columns.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the columns with their names."""
        return self._columns.items()

    def tokens(self, row: int = 0) -> list[str]:
        """Return the tokens of a row, its frame included and its padding left out."""
        return list(self._of(row).tokens)

    def word_ids(self, row: int = 0) -> list[int | None]:
        """Return for each token of a row which word it belongs to; None: to the frame."""
        return list(self._of(row).word_ids)

    def sequence_ids(self, row: int = 0) -> list[int | None]:
        """Return for each token of a row which text of a pair it belongs to, 0 or 1; None: to the frame."""
        return list(self._of(row).sequence_ids)

    def offsets(self, row: int = 0) -> list[tuple[int, int]]:
        """Return where each token of a row begins and ends in its text, in characters; (0, 0) for the frame."""
        return list(self._of(row).offsets)

    def char_to_token(self, row: int, character: int, sequence_index: int = 0) -> int | None:
        """Return which token of a row holds a character of its text; None: it lies between tokens, or was cut off."""
        found: int | None = self._of(row).char_to_token(character, sequence_index)
        return found

    def _of(self, row: int) -> Encoding:
        if not self._encoded:
            raise UserError("only encodings that a tokenizer of ours has just made know of tokens and words")
        if not 0 <= row < len(self._encoded):
            raise UserError(f"there is no row {row}; these encodings have {len(self._encoded)}, from 0")
        return self._encoded[row]

    def _is_single(self) -> bool:
        return is_flat(self._columns["input_ids"])


def is_flat(input_ids: Any) -> bool:
    """Whether this is the column of a single text: whole numbers, not rows of them."""
    return len(input_ids) > 0 and np.ndim(input_ids[0]) == 0


def _take(column: Any, chosen: Any) -> Any:
    """Return the rows of a column at an index, or at an array of them."""
    if not isinstance(column, list):
        return column[chosen]
    return [column[index] for index in chosen] if np.ndim(chosen) else column[chosen]
