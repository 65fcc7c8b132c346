"""One model that is a GPT and a BERT: some sequences are predicted from the left, some from both sides, in the same batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bothways.batch import Batch, Loss, Row, Target, row
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM, Text
from bothways.text.packing import group, pack
from bothways.text.rows import RowMaker, in_random_order
from bothways.text.shards import Corpus

FRAME = 2  # tokens that a sequence has beside those of its text, at most


@dataclass(frozen=True)
class Part:
    """Part of a document, and whether the document ends with it."""

    text: Text
    ends: bool

    def cut(self, size: int) -> list["Part"]:
        """Return all of it in parts of at most ``size`` tokens."""
        texts = self.text.parts(size)
        return [Part(text, self.ends and number == len(texts)) for number, text in enumerate(texts, 1)]


@dataclass(frozen=True, kw_only=True)
class Hybrid(RowMaker[list[Part]]):
    """Masked, causal and prefix language modelling, drawn anew for every sequence, with one trunk and one head.

    | input | masked sequence | causal sequence | sequence with a prefix |
    |---|---|---|---|
    | what a token sees | all | itself and what came before | the prefix, itself and what came before |
    | ``targets["language_model"].index`` | hidden tokens (or the positions before) | all | the prefix's last, and all after |
    | ``targets["language_model"].value`` | the token that stood there | the next token | the next token |

    The kind is drawn per sequence, so that the shares hold on one device as on many. Next tokens are far more than masked
    ones; each of the two has its own mean, and the shares of the sequences weigh them.

    Sources: Charpentier & Samuel 2024 (GPT-BERT), who choose per device; Raffel et al. 2020 (prefixes).
    """

    causal: CausalLM
    masked: MaskedLM
    masked_share: float = 0.5  # of the sequences
    prefix_share: float = 0.1  # of the sequences
    length: int = 256

    @property
    def heads(self) -> Mapping[str, int]:
        """Only the language model head."""
        return {"language_model": 0}

    def lay_out(
        self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator
    ) -> list[list[Part]]:
        """Return the parts of documents that each row has; each part is a sequence."""
        parts = list(self._parts(corpus, documents, min(self.length, length) - FRAME))
        grouped = group([len(part.text) + FRAME for part in parts], length)
        return in_random_order([[parts[index] for index in numbers] for numbers in grouped], rng)

    def _parts(self, corpus: Corpus, documents: NDArray[Any], size: int) -> Iterator[Part]:
        """Yield documents in parts of at most ``size`` tokens."""
        for index in documents:
            words = None if self.masked.continues_word is None else corpus.document_word_starts(index)
            yield from Part(Text(corpus.document(index), words), corpus.ends(index)).cut(size)

    def finish(
        self, drafts: Sequence[list[Part]], length: int, rng: np.random.Generator, done: float = 1.0
    ) -> list[Row]:
        """Return rows, the kind of each sequence drawn; parts are cut where rows are shorter now."""
        masked = self.masked.at(done)
        parts = [shorter for draft in drafts for part in draft for shorter in part.cut(length - FRAME)]
        return pack([self._sequence(part, masked, rng) for part in parts], length)

    def _sequence(self, part: Part, masked: MaskedLM, rng: np.random.Generator) -> Row:
        kind, ids = rng.random(), part.text.input_ids
        if kind < self.masked_share:
            return masked.sequence(ids, ids[:0], True, rng, words=(part.text.words, None))
        prefix = int(rng.integers(1, len(ids) + 1)) if kind < self.masked_share + self.prefix_share else 0
        return self.continuation(ids, prefix=prefix, last=part.ends)

    def continuation(self, ids: NDArray[np.int64], *, prefix: int = 0, last: bool = True) -> Row:
        """Return a part of a document of which all, or what follows a prefix, is predicted.

        Args:
            ids: its tokens; the start token comes before them.
            prefix: so many leading tokens, the start token among them, see each other; 0: none.
            last: the end of the document is predicted, too.
        """
        whole = np.concatenate([[self.causal.bos_id], ids, [self.causal.eos_id] if last else []]).astype(np.int64)
        index = np.arange(max(0, prefix - 1), len(whole) - 1)
        target = Target(index=index, value=whole[index + 1])
        return row(whole[:-1], "causal", prefix=prefix, targets={"language_model": target})

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the summed cross-entropies in nats, named ``causal_lm`` (prefixes among them) and ``masked_lm``."""
        hidden_states, masked = model(batch), sees_ahead(batch)
        losses = {}
        for name, chosen, weight in self._losses(masked):
            part = _only(batch, chosen)
            total = model.cross_entropy("language_model", hidden_states, part)
            losses[name] = Loss(sum=total, count=len(part.targets["language_model"].index), weight=weight)
        return losses

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the numbers of next and of masked tokens."""
        return {name: int(chosen.sum()) for name, chosen, _ in self._losses(sees_ahead(batch))}

    def _losses(self, masked: Tensor) -> list[tuple[str, Tensor, float]]:
        """Name, targets [n] and weight of each loss."""
        return [("causal_lm", ~masked, 1 - self.masked_share), ("masked_lm", masked, self.masked_share)]


def _only(batch: Batch, chosen: Tensor) -> Batch:
    """Return the batch with some of its targets."""
    target = batch.targets["language_model"]
    return replace(batch, targets={"language_model": Target(index=target.index[chosen], value=target.value[chosen])})


def sees_ahead(batch: Batch) -> Tensor:
    """Return of each target [n] of the language model head whether it is read from both sides.

    A next token never is: the last token of a prefix, which predicts the first one after it, sees nothing beyond itself.
    """
    index = batch.targets["language_model"].index
    return batch.reach.flatten()[index] > index % batch.reach.shape[1]
