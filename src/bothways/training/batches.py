"""What the trainer eats: steps of batches in an order that depends on the seed alone, at a position of a few integers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Batch, Objective, Row, collate
from bothways.errors import UserError
from bothways.text.packing import pack
from bothways.text.shards import Corpus

Position = dict[str, int]


class Batches(Protocol):
    """Endless steps."""

    @property
    def position(self) -> Position:
        """Where the next step begins; all that a checkpoint must remember."""

    def seek(self, position: Position) -> None:
        """Go to a position that ``position`` gave."""

    def __next__(self) -> list[Batch]:
        """Return the batches of one step; their gradients are added up."""


class PretrainingObjective(Objective, Protocol):
    """An objective that can be pretrained: it turns documents into rows itself."""

    def prepare(self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator) -> Iterator[Row]:
        """Yield rows of at most ``length`` tokens."""


class PretrainingBatches:
    """Rows from a prepared corpus, epoch after epoch.

    An epoch shuffles the documents and takes them in chunks. What a chunk yields depends on (seed, epoch, chunk) alone, so
    that any position is reached without replaying what came before.
    """

    CHUNK_TOKENS = 2**20

    def __init__(
        self,
        corpus: Corpus,
        objective: PretrainingObjective,
        *,
        row_length: int,
        batch_tokens: int,
        micro_batch_tokens: int,
        seed: int,
    ) -> None:
        """Start at the beginning.

        Raises:
            UserError: the corpus is smaller than one row.
        """
        if corpus.num_tokens < row_length:
            raise UserError(
                f"the training text has {corpus.num_tokens} tokens, fewer than one row of {row_length}; give more text or "
                "set training.row_length lower"
            )
        self._corpus, self._objective, self._seed = corpus, objective, seed
        self._row_length = row_length
        self._rows_per_step = max(1, batch_tokens // row_length)
        self._rows_per_batch = max(1, micro_batch_tokens // row_length)
        self._chunks = max(1, round(corpus.num_tokens / self.CHUNK_TOKENS))
        self._barren_chunks = 0
        self.seek({"epoch": 0, "chunk": 0, "row": 0})

    @property
    def position(self) -> Position:
        """Epoch, chunk of the epoch, and row of the chunk."""
        return dict(self._position)

    def seek(self, position: Position) -> None:
        """Go to a position."""
        self._position = dict(position)
        self._rows = islice(self._chunk_rows(), position["row"], None)

    def __next__(self) -> list[Batch]:
        rows: list[Row] = []
        while len(rows) < self._rows_per_step:
            taken = list(islice(self._rows, self._rows_per_step - len(rows)))
            rows += taken
            self._position["row"] += len(taken)
            self._barren_chunks = 0 if taken else self._barren_chunks
            if len(rows) < self._rows_per_step:
                self._next_chunk()
        groups = (rows[start : start + self._rows_per_batch] for start in range(0, len(rows), self._rows_per_batch))
        return [collate(group, length=self._row_length) for group in groups]

    def _next_chunk(self) -> None:
        self._barren_chunks += 1
        if self._barren_chunks > 2 * self._chunks:  # the one good chunk may be an epoch's first and the next one's last
            raise UserError(
                "the training text yields no example: sentence pairs need documents of more than one sentence; prepare the "
                "text as longer documents, or train with objective.pairs=none"
            )
        epoch, chunk = self._position["epoch"], self._position["chunk"] + 1
        if chunk == self._chunks:
            epoch, chunk = epoch + 1, 0
        self.seek({"epoch": epoch, "chunk": chunk, "row": 0})

    def _chunk_rows(self) -> Iterator[Row]:
        epoch, chunk = self._position["epoch"], self._position["chunk"]
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._corpus))
        documents = np.array_split(order, self._chunks)[chunk]
        rng = np.random.default_rng((self._seed, epoch, chunk))
        return self._objective.prepare(self._corpus, documents, self._row_length, rng)


class ExampleBatches:
    """Labelled examples, shuffled in every epoch, ``batch_size`` a step, packed so that nothing is padding."""

    def __init__(
        self, rows: Sequence[Row], *, batch_size: int, seed: int, micro_batch_tokens: int | None = None
    ) -> None:
        """Start at the beginning.

        Args:
            rows: one row an example.
            batch_size: examples of one step.
            micro_batch_tokens: split a step into batches of about so many tokens; None: never (a contrastive loss needs
                all its examples at once).
        Raises:
            UserError: there are no examples.
        """
        if not rows:
            raise UserError("there is not one training example")
        self._rows, self._seed = rows, seed
        self._batch_size = min(batch_size, len(rows))
        self._micro_batch_tokens = micro_batch_tokens
        self.seek({"epoch": 0, "example": 0})

    @property
    def position(self) -> Position:
        """Epoch, and example of the epoch."""
        return dict(self._position)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps see every example once."""
        return -(-len(self._rows) // self._batch_size)

    def seek(self, position: Position) -> None:
        """Go to a position."""
        self._position = dict(position)
        self._order = np.random.default_rng((self._seed, position["epoch"])).permutation(len(self._rows))

    def __next__(self) -> list[Batch]:
        start = self._position["example"]
        chosen = [self._rows[index] for index in self._order[start : start + self._batch_size]]
        if start + self._batch_size >= len(self._rows):
            self.seek({"epoch": self._position["epoch"] + 1, "example": 0})
        else:
            self._position["example"] = start + self._batch_size
        return batches_of(chosen, self._micro_batch_tokens)


def batches_of(rows: Sequence[Row], batch_tokens: int | None = None) -> list[Batch]:
    """Pack examples into batches of about ``batch_tokens`` (None: one batch), with rows as long as the longest example.

    Order is not kept: a batch's targets say what belongs to what.
    """
    length = max(64, -(-max(map(len, rows)) // 16) * 16)
    packed = pack(rows, length)
    size = len(packed) if batch_tokens is None else max(1, batch_tokens // length)
    return [collate(packed[start : start + size]) for start in range(0, len(packed), size)]
