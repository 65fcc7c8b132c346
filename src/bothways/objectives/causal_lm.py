"""Next-token prediction: how GPT is pretrained, and how a model learns to write a target after a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Batch, Loss, Row, Target, join, row
from bothways.model.heads import Model
from bothways.text.packing import fill
from bothways.text.rows import RowMaker, in_random_order
from bothways.text.shards import Corpus


@dataclass(frozen=True, kw_only=True)
class CausalLM(RowMaker[list[Row]]):
    """Maximum likelihood of each token given those before it.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["language_model"].index`` | [n] | positions that predict |
    | ``targets["language_model"].value`` | [n] | the token that comes next |

    The shift is in the data, so the model and the trainer cannot tell this from masked prediction. Every token of a document
    is predicted once, its end too: ``bos d₁ … dₙ`` predicts ``d₁ … dₙ eos``.

    Source: Radford et al. 2018, equation 1.
    """

    bos_id: int
    eos_id: int

    @property
    def heads(self) -> Mapping[str, int]:
        """Only the language model head."""
        return {"language_model": 0}

    def lay_out(
        self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator
    ) -> list[list[Row]]:
        """Return the sequences of each row: as many rows of one sequence as there can be; what is left fills the others."""
        rows, rest = [], []
        for sequence in (self.of_corpus(corpus, index) for index in documents):
            whole = len(sequence) // length * length
            rows += [[sequence.cut(start, start + length)] for start in range(0, whole, length)]
            if whole < len(sequence):
                rest.append(sequence.cut(whole, len(sequence)))
        return in_random_order([*rows, *fill(rest, length)], rng)

    def of_corpus(self, corpus: Corpus, index: int) -> Row:
        """Return a document, or a piece of one, as a row; a piece is predicted from the token before it on."""
        before = corpus.token_before(index)
        return self._row(self.bos_id if before is None else before, corpus.document(index), 0, ends=corpus.ends(index))

    def finish(
        self,
        drafts: Sequence[list[Row]],
        length: int,
        rng: np.random.Generator,  # noqa: ARG002  (nothing is drawn)
        done: float = 1.0,  # noqa: ARG002  (nothing changes while training goes on)
    ) -> list[Row]:
        """Return each row, cut into several where rows are shorter now."""
        return [join(parts) for draft in drafts for parts in fill(draft, length)]

    def sequence(self, input_ids: NDArray[Any], *, prompt: NDArray[Any] | None = None, ends: bool = True) -> Row:
        """Return one document as a row; with a ``prompt`` before it, only the document is predicted.

        Args:
            input_ids: [T] of the document.
            prompt: what comes before it.
            ends: its end is predicted, too.
        """
        source = np.zeros(0, dtype=np.int64) if prompt is None else prompt
        return self._row(self.bos_id, np.concatenate([source, input_ids]), len(source), ends=ends)

    def _row(self, first: int, input_ids: NDArray[Any], start: int, *, ends: bool = True) -> Row:
        """Return the row in which all tokens from ``start`` on are predicted, and the end if there is one."""
        whole = np.concatenate([[first], input_ids, [self.eos_id] if ends else []]).astype(np.int64)
        index = np.arange(start, len(whole) - 1)
        target = Target(index=index, value=whole[1:][index])
        return row(whole[:-1], "causal", targets={"language_model": target})

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the summed cross-entropy in nats, named ``causal_lm``."""
        return {"causal_lm": token_loss(model, batch)}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the number of predicted tokens."""
        return {"causal_lm": len(batch.targets["language_model"].index)}


def token_loss(model: Model, batch: Batch) -> Loss:
    """Return the summed cross-entropy of the language model head at the batch's targets, in nats."""
    target = batch.targets["language_model"]
    return Loss(sum=model.cross_entropy("language_model", model(batch), batch), count=len(target.value))
