"""How documents become rows: they are laid out once, and finished when they are trained on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Row
from bothways.text.shards import Corpus

Draft = TypeVar("Draft")


class RowMaker(ABC, Generic[Draft]):
    """Turns documents into rows in two steps, so that what changes from step to step changes at once.

    A draft says which text a row has. How long rows are, and what is hidden in them, is settled when the draft is finished.
    """

    @abstractmethod
    def lay_out(
        self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator
    ) -> Sequence[Draft]:
        """Return drafts of rows of at most ``length`` tokens, in random order: a book's rows are not one after the other."""

    @abstractmethod
    def finish(self, drafts: Sequence[Draft], length: int, rng: np.random.Generator, done: float = 1.0) -> list[Row]:
        """Return the rows that drafts become; more of them if rows are shorter now than those that were laid out.

        Args:
            drafts: what ``lay_out`` gave, or some of it.
            length: tokens of a row, at most.
            rng: all that is drawn.
            done: the share of the training that lies behind.
        """

    def prepare(
        self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator, done: float = 1.0
    ) -> list[Row]:
        """Return all rows of documents as they are at one moment of a training; arguments as above."""
        return self.finish(self.lay_out(corpus, documents, length, rng), length, rng, done)


def in_random_order(drafts: Sequence[Draft], rng: np.random.Generator) -> list[Draft]:
    """Return drafts in an order that is drawn."""
    return [drafts[index] for index in rng.permutation(len(drafts))]
