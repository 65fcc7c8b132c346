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
        """Return the sequences of each row; all rows but one are full."""
        return in_random_order(list(fill((self.sequence(corpus.document(index)) for index in documents), length)), rng)

    def finish(
        self,
        drafts: Sequence[list[Row]],
        length: int,
        rng: np.random.Generator,  # noqa: ARG002  (nothing is drawn)
        done: float = 1.0,  # noqa: ARG002  (nothing changes while training goes on)
    ) -> list[Row]:
        """Return each row, cut into several where rows are shorter now."""
        return [join(parts) for draft in drafts for parts in fill(draft, length)]

    def sequence(self, input_ids: NDArray[Any], *, prompt: NDArray[Any] | None = None) -> Row:
        """Return one document as a row; with a ``prompt`` before it, only the document is predicted."""
        source = np.zeros(0, dtype=np.int64) if prompt is None else prompt
        whole = np.concatenate([[self.bos_id], source, input_ids, [self.eos_id]])
        index = np.arange(len(source), len(whole) - 1)
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
