"""``AutoModel``: texts to vectors.

Shapes: n texts, T tokens of one, C = hidden_size.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bothways.auto.examples import read_rows
from bothways.auto.fitting import Options, fit_rows, split, two
from bothways.auto.pretrained import Pretrained
from bothways.batch import Row
from bothways.errors import UserError
from bothways.inference.encode import encode, token_states
from bothways.objectives.contrastive import Contrastive, pair
from bothways.progress import display
from bothways.tasks.task import precision_of


class AutoModel(Pretrained):
    """A trunk without a head: it says what texts are like."""

    def encode(self, inputs: Any, *, progress: bool = True) -> NDArray[np.float32]:
        """Return a unit vector for each text, the mean of its hidden states: [n, C]; their products are cosines.

        Args:
            inputs: encodings, or raw texts; texts longer than the model reads are cut, which is said.
            progress: show it where it takes long.
        Raises:
            UserError: the inputs cannot be read.
        """
        with display(progress):
            rows = read_rows(inputs, self.tokenizer, self.model)
            return encode(self.model, rows, precision=precision_of(self.model))

    predict = encode

    def hidden_states(self, inputs: Any, *, progress: bool = True) -> list[NDArray[Any]]:
        """Return the last hidden states of each text, [T, C]: features for a model of one's own."""
        with display(progress):
            rows = read_rows(inputs, self.tokenizer, self.model)
            return token_states(self.model, rows, precision=precision_of(self.model))

    def fit(
        self,
        queries: Any,
        documents: Any,
        *,
        validation: tuple[Any, Any] | float | None = None,
        epochs: float = 3,
        batch_size: int = 32,
        learning_rate: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Learn to give each query a vector like its document's, and unlike all others' of the step.

        Args:
            queries: n texts, or their encodings.
            documents: n texts, or their encodings: what answers each query, or says the same.
            validation, epochs, batch_size, learning_rate, seed, progress: as the other classes' ``fit``. Larger batches
                make better models, since all documents of a step are told apart.
        Returns:
            The model itself.
        Raises:
            UserError: the inputs cannot be used, or do not fit each other.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        with display(progress):
            rows = self._pairs(queries, documents)
            learnt, measured = split(rows, options, lambda given: self._pairs(*two(given)))
            self.trained = fit_rows(self.model, Contrastive(), learnt, measured, settings, whole_steps=True)
        return self

    def score(self, queries: Any, documents: Any, *, progress: bool = True) -> float:
        """Return the share of queries whose own document is nearer than any other of ``documents``."""
        one, other = self.encode(queries, progress=progress), self.encode(documents, progress=progress)
        _check_equal(one, other)
        return float(((one @ other.T).argmax(axis=1) == np.arange(len(one))).mean())

    def _pairs(self, queries: Any, documents: Any) -> list[Row]:
        """Return each query and its document as two sequences of one row, which belong together."""
        sides = [read_rows(side, self.tokenizer, self.model) for side in (queries, documents)]
        _check_equal(*sides)
        return [pair(query, document) for query, document in zip(*sides, strict=True)]


def _check_equal(queries: Sequence[Any] | NDArray[Any], documents: Sequence[Any] | NDArray[Any]) -> None:
    if len(queries) != len(documents):
        raise UserError(f"there are {len(queries)} queries and {len(documents)} documents; each query needs its own")
