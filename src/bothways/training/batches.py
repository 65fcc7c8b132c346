"""What the trainer eats: steps of batches in an order that depends on the seed alone, at a position of a few integers."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Batch, Objective, Row, collate
from bothways.errors import UserError
from bothways.progress import note
from bothways.text.packing import pack
from bothways.text.pieces import Pieces, piece_size
from bothways.text.shards import Corpus
from bothways.training.config import TrainingConfig
from bothways.training.schedule import batch_tokens_at, done_at, row_length_at

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


Item = TypeVar("Item")


class DivisibleBatches(Batches, Protocol[Item]):
    """Endless steps that several processes can share: a step is known before it is made into batches."""

    def next_rows(self) -> list[Item]:
        """Return what the next step is made of, in an order that depends on the seed alone."""

    def collate(self, rows: Sequence[Item]) -> list[Batch]:
        """Make some of it, at least one, into batches.

        Raises:
            UserError: a step is worth something as a whole only.
        """


class PretrainingObjective(Objective, Protocol):
    """An objective that can be pretrained: it turns documents into rows itself (``text/rows.py``)."""

    def lay_out(self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator) -> Sequence[Any]:
        """Return drafts of rows of at most ``length`` tokens, in random order."""

    def finish(self, drafts: Sequence[Any], length: int, rng: np.random.Generator, done: float = 1.0) -> list[Row]:
        """Return the rows that drafts become; ``done`` is the share of the training that lies behind."""


class PretrainingBatches:
    """Rows from one prepared corpus, or from several in proportion to their weights, epoch after epoch.

    An epoch shuffles the documents of a corpus, long ones in pieces, and takes them in chunks, whose rows are laid out at
    once. The text of a row depends on (seed, corpus, epoch, chunk, row) alone, so that any position is reached without
    replaying what came before; how long rows are, and how much of them is hidden, depends on the step that takes them. In a
    mixture each corpus has its own epochs, and which one a row is taken from depends on the weights and on the number of the
    row alone.
    """

    CHUNK_TOKENS = 2**18

    def __init__(
        self,
        corpus: Corpus | Sequence[tuple[Corpus, float]],
        objective: PretrainingObjective,
        training: TrainingConfig,
        *,
        seed: int,
    ) -> None:
        """Start at the beginning.

        Args:
            corpus: one, or several with their weights, which need not sum to one; a weight is a share of the rows, and so
                of the tokens.
            objective: turns documents into rows.
            training: how many tokens rows, batches and steps have, and how that grows.
            seed: decides the order and all that the objective draws.
        Raises:
            UserError: a corpus is smaller than one row, or a weight is not positive and finite.
        """
        sources = [(corpus, 1.0)] if isinstance(corpus, Corpus) else list(corpus)
        self._shares = _shares([weight for _, weight in sources])
        self._training = training
        self._streams = [
            _RowStream(
                source, objective, training, seed=(seed, number), of=len(sources), chunk_tokens=self.CHUNK_TOKENS
            )
            for number, (source, _) in enumerate(sources)
        ]
        self._step = self._rows = 0

    @property
    def position(self) -> Position:
        """The step, and of the stream: its epoch, chunk of the epoch, and row of the chunk.

        In a mixture these have the number of the corpus in their names, and ``rows`` is how many rows there were.
        """
        if len(self._streams) == 1:
            return {"step": self._step, **self._streams[0].position}
        numbered = enumerate(stream.position for stream in self._streams)
        streams = {f"{name}_{number}": at for number, here in numbered for name, at in here.items()}
        return {"step": self._step, "rows": self._rows, **streams}

    def seek(self, position: Position) -> None:
        """Go to a position.

        Raises:
            UserError: it is one of another number of corpora.
        """
        if "step" not in position:
            raise UserError(
                "this checkpoint is of an earlier version of bothways, which kept its place in the text otherwise: training "
                "cannot go on from it; start a new run with --from and another --out"
            )
        earlier = [name for name in position if name.startswith("begun")]
        position = {name: place for name, place in position.items() if name not in earlier}
        if set(position) != set(self.position):
            raise UserError(
                f"the run goes on with another number of corpora than it had (now {len(self._streams)}); give the corpora "
                "that it was started with"
            )
        self._step, self._rows = position["step"], position.get("rows", 0)
        for number, stream in enumerate(self._streams):
            ending = f"_{number}" if len(self._streams) > 1 else ""
            stream.seek({name: position[name + ending] for name in stream.position})
        if earlier:
            note("This run was begun by an earlier version of bothways: its text goes on in another order")

    def __next__(self) -> list[Batch]:
        return self.collate(self.next_rows())

    def next_rows(self) -> list[tuple[Row, int]]:
        """Return the rows of the next step, each with the length that it is to be made."""
        count = max(1, batch_tokens_at(self._step, self._training) // self._training.row_length)
        sources = [_source(self._shares, number) for number in range(self._rows, self._rows + count)]
        length, done = row_length_at(self._step, self._training), done_at(self._step, self._training)
        rows = [
            row
            for number, stream in enumerate(self._streams)
            if number in sources
            for row in stream.take(sources.count(number), length, done)
        ]
        self._step, self._rows = self._step + 1, self._rows + count
        return [(row, length) for row in rows]

    def collate(self, rows: Sequence[tuple[Row, int]]) -> list[Batch]:
        """Return batches of at most ``micro_batch_tokens`` each."""
        length = rows[0][1]
        size = max(1, self._training.micro_batch_tokens // length)
        alone = [row for row, _ in rows]
        return [collate(alone[start : start + size], length=length) for start in range(0, len(alone), size)]


class _RowStream:
    """The rows of one corpus."""

    def __init__(
        self,
        corpus: Corpus,
        objective: PretrainingObjective,
        training: TrainingConfig,
        *,
        seed: tuple[int, int],
        of: int,
        chunk_tokens: int,
    ) -> None:
        """Start at the beginning.

        Args:
            corpus: where the rows come from.
            objective: makes them.
            training: how long they are.
            seed: the run's, and which of its corpora this is.
            of: how many corpora the run has.
            chunk_tokens: about how many a chunk has.
        """
        self._seed, self._number = seed
        self._name = "the training text" if of == 1 else f"training text {self._number + 1} of {of}"
        if corpus.num_tokens < training.row_length:
            raise UserError(
                f"{self._name} has {corpus.num_tokens} tokens, fewer than one row of {training.row_length}; give more text "
                "or set training.row_length lower"
            )
        self._corpus = Pieces(corpus, piece_size(training.row_length))
        self._objective, self._length = objective, training.row_length
        self._chunks = max(1, round(corpus.num_tokens / chunk_tokens))
        self._order: tuple[int, NDArray[Any]] = (-1, np.zeros(0, dtype=np.int64))  # of the documents in an epoch
        self.seek({"epoch": 0, "chunk": 0, "row": 0})

    def seek(self, position: Position) -> None:
        self.position = dict(position)
        self._drafts: Sequence[Any] | None = None  # of the chunk, laid out when its first row is asked for

    def take(self, count: int, length: int, done: float) -> list[Row]:
        """Return the text of the next ``count`` rows as it is at a step: in more rows, where those are shorter."""
        rng = self._rng(*(self.position[name] for name in ("epoch", "chunk", "row")))
        return self._objective.finish([self._next() for _ in range(count)], length, rng, done)

    def _next(self) -> Any:
        """Return the next draft, from the next chunk that has one."""
        for _ in range(2 * self._chunks + 1):  # the one good chunk may be an epoch's first and the next one's last
            if self._drafts is None:
                self._drafts = self._lay_out()
            row = self.position["row"]
            if row < len(self._drafts):
                self.position["row"] += 1
                return self._drafts[row]
            epoch, chunk = self.position["epoch"], self.position["chunk"] + 1
            if chunk == self._chunks:
                epoch, chunk = epoch + 1, 0
            self.seek({"epoch": epoch, "chunk": chunk, "row": 0})
        raise UserError(
            f"{self._name} yields no example: sentence pairs need documents of more than one sentence; prepare the text as "
            "longer documents, or train with objective.pairs=none"
        )

    def _lay_out(self) -> Sequence[Any]:
        epoch, chunk = self.position["epoch"], self.position["chunk"]
        if self._order[0] != epoch:
            self._order = (epoch, self._rng(epoch, self._chunks).permutation(len(self._corpus)))
        documents = np.array_split(self._order[1], self._chunks)[chunk]
        return self._objective.lay_out(self._corpus, documents, self._length, self._rng(epoch, chunk))

    def _rng(self, *place: int) -> np.random.Generator:
        """Return the draws of an epoch's chunk, or of a row of it; the order of the epoch is a chunk after the last."""
        return np.random.default_rng((self._seed, self._number, *place))


def _shares(weights: Sequence[float]) -> list[float]:
    """Return the share that each corpus has of what those before it left."""
    for weight in weights:
        if not 0 < weight < math.inf:
            raise UserError(f"the weight of a corpus must be greater than 0 and finite, not {weight}")
    return [weight / math.fsum(weights[number:]) for number, weight in enumerate(weights)]


def _source(shares: Sequence[float], row: int) -> int:
    """Return which corpus a row is taken from.

    Of the first n rows the first corpus gives the whole part of its share of n, the second likewise of the rows that are
    left, and so on. So each stays within a few rows of its weight however long the run is, and nothing need be drawn.
    """
    for number, share in enumerate(shares[:-1]):
        given = math.floor(share * row)
        if math.floor(share * (row + 1)) > given:
            return number
        row -= given
    return len(shares) - 1


def check_compared(examples: int, batch_size: int) -> None:
    """Refuse steps of one example, where the examples of a step are compared with each other.

    Raises:
        UserError: they would be.
    """
    if min(examples, batch_size) < 2:
        raise UserError(
            "this task compares the examples of a step with each other, and there would be one; give at least two (there "
            f"{'is' if examples == 1 else 'are'} {examples}) and a batch_size of at least 2 (it is {batch_size})"
        )


class ExampleBatches:
    """Labelled examples, shuffled in every epoch, ``batch_size`` a step, packed so that nothing is padding."""

    def __init__(
        self, rows: Sequence[Row], *, batch_size: int, seed: int, micro_batch_tokens: int | None = None
    ) -> None:
        """Start at the beginning.

        Args:
            rows: one row an example.
            batch_size: examples of one step.
            micro_batch_tokens: split a step into batches of about so many tokens; None: never, since all its examples are
                compared with each other. Then a last example that would be alone joins the step before.
        Raises:
            UserError: there are no examples, or none to compare with.
        """
        if not rows:
            raise UserError("there is not one training example")
        self._rows, self._seed = rows, seed
        self._batch_size = min(batch_size, len(rows))
        if micro_batch_tokens is None:
            check_compared(len(rows), batch_size)
        self._micro_batch_tokens = micro_batch_tokens
        self.seek({"epoch": 0, "example": 0})

    @property
    def position(self) -> Position:
        """Epoch, and example of the epoch."""
        return dict(self._position)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps see every example once."""
        whole, left = divmod(len(self._rows), self._batch_size)
        joins = left == 1 and self._micro_batch_tokens is None  # one that would be alone
        return whole + (left > 0 and not joins)

    def seek(self, position: Position) -> None:
        """Go to a position."""
        self._position = dict(position)
        self._order = np.random.default_rng((self._seed, position["epoch"])).permutation(len(self._rows))

    def __next__(self) -> list[Batch]:
        return batches_of(self.next_rows(), self._micro_batch_tokens)

    def next_rows(self) -> list[Row]:
        """Return the examples of the next step."""
        start = self._position["example"]
        last = start // self._batch_size + 1 >= self.steps_per_epoch
        stop = len(self._rows) if last else start + self._batch_size
        chosen = [self._rows[index] for index in self._order[start:stop]]
        if last:
            self.seek({"epoch": self._position["epoch"] + 1, "example": 0})
        else:
            self._position["example"] = stop
        return chosen

    def collate(self, rows: Sequence[Row]) -> list[Batch]:
        """Return some of the examples of a step as batches of about ``micro_batch_tokens``.

        Raises:
            UserError: these batches are never split.
        """
        if self._micro_batch_tokens is None:
            raise UserError(
                "this task compares all examples of a step with each other, which several processes cannot do; start it "
                "without torchrun"
            )
        return batches_of(rows, self._micro_batch_tokens)


def batches_of(rows: Sequence[Row], batch_tokens: int | None = None) -> list[Batch]:
    """Pack examples into batches of about ``batch_tokens`` (None: one batch), with rows as long as the longest example.

    Order is not kept: a batch's targets say what belongs to what.
    """
    length = max(64, -(-max(map(len, rows)) // 16) * 16)
    packed = pack(rows, length)
    size = len(packed) if batch_tokens is None else max(1, batch_tokens // length)
    return [collate(packed[start : start + size]) for start in range(0, len(packed), size)]
