"""Masked language modelling, with next sentence or sentence order prediction: how BERT is pretrained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from bothways.batch import Batch, Loss, Row, Target, row
from bothways.model.heads import Model
from bothways.text.packing import pack
from bothways.text.shards import Corpus

Tokens = NDArray[np.int64]
Pair = tuple[Tokens, Tokens, bool]  # the two sides, and whether the second really belongs where it stands


@dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Predict hidden tokens from both sides, and whether a second text follows the first.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["language_model"].index`` | [n] | chosen positions: 80 % masked, 10 % random, 10 % as they were |
    | ``targets["language_model"].value`` | [n] | the token that stood there |
    | ``targets["next_sentence"].index`` | [s] | [CLS] of each sequence (absent with ``pairs="none"``) |
    | ``targets["next_sentence"].value`` | [s] | 0: the second text belongs there; 1: it does not |

    A sequence is ``[CLS] A [SEP] B [SEP]`` of at most ``length`` tokens. Masks and pairs are drawn anew in every epoch.

    Source: Devlin et al. 2018, and create_pretraining_data.py of google-research/bert; sentence order: Lan et al. 2019.
    """

    cls_id: int
    sep_id: int
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...] = ()
    continues_word: NDArray[np.bool_] | None = None  # [vocab_size]; given: whole words are masked together
    mask_share: float = 0.15
    pairs: Literal["next_sentence", "sentence_order", "none"] = "next_sentence"
    short_share: float = 0.1  # sequences that are built to a random, shorter length
    pair_weight: float = 1.0
    length: int = 128

    @property
    def heads(self) -> Mapping[str, int]:
        """The language model head and, with pairs, the next sentence head."""
        return {"language_model": 0} if self.pairs == "none" else {"language_model": 0, "next_sentence": 2}

    def prepare(self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator) -> Iterator[Row]:
        """Yield rows of at most ``length`` tokens, each of one or more masked sequences, in random order."""
        sequences = [self.sequence(*pair, rng) for pair in self.draw_pairs(corpus, documents, rng)]
        rows = pack(sequences, length)
        return (rows[index] for index in rng.permutation(len(rows)))

    def draw_pairs(self, corpus: Corpus, documents: NDArray[Any], rng: np.random.Generator) -> Iterator[Pair]:
        """Yield pairs of texts from documents, cut to ``length`` together with their frame."""
        for index in documents:
            sentences = corpus.document_sentences(index)
            if self.pairs == "none":
                yield from ((part, part[:0], True) for part in _pieces(np.concatenate(sentences), self.length - 2))
            else:
                yield from self._draw_document(corpus, documents, int(index), sentences, rng)

    def _draw_document(
        self, corpus: Corpus, documents: NDArray[Any], index: int, sentences: list[Tokens], rng: np.random.Generator
    ) -> Iterator[Pair]:
        """Gather sentences up to a target length, split them in two and, half of the time, replace the second part."""
        most = self.length - 3
        target = self._target_length(most, rng)
        chunk: list[Tokens] = []
        position = 0
        while position < len(sentences):
            chunk.append(sentences[position])
            if position == len(sentences) - 1 or sum(map(len, chunk)) >= target:
                first_part = int(rng.integers(1, len(chunk))) if len(chunk) > 1 else 1
                first, second = np.concatenate(chunk[:first_part]), chunk[first_part:]
                if self.pairs == "sentence_order":
                    if second:
                        swap = rng.random() < 0.5
                        sides = (np.concatenate(second), first) if swap else (first, np.concatenate(second))
                        yield (*_trim(*sides, most, rng), not swap)
                elif not second or rng.random() < 0.5:
                    position -= len(second)  # these sentences were not used
                    other = self._draw_other(corpus, documents, index, position + 1, target - len(first), rng)
                    yield (*_trim(first, other, most, rng), False)
                else:
                    yield (*_trim(first, np.concatenate(second), most, rng), True)
                chunk, target = [], self._target_length(most, rng)
            position += 1

    def _target_length(self, most: int, rng: np.random.Generator) -> int:
        return int(rng.integers(2, most + 1)) if rng.random() < self.short_share else most

    def _draw_other(
        self, corpus: Corpus, documents: NDArray[Any], index: int, follows: int, target: int, rng: np.random.Generator
    ) -> Tokens:
        """Return about ``target`` tokens from a random place in another document.

        Where there is no other, they are from this one, and do not begin with sentence ``follows``, the true next one.
        """
        other = index
        for _ in range(10):
            other = int(documents[rng.integers(len(documents))])
            if other != index:
                break
        sentences = corpus.num_sentences(other)
        start = int(rng.integers(sentences))
        if other == index and start == follows:
            start = (start + 1) % sentences
        return corpus.document_from(other, start, target)

    def sequence(self, first: Tokens, second: Tokens, belongs: bool, rng: np.random.Generator) -> Row:
        """Return ``[CLS] A [SEP] B [SEP]`` with some tokens hidden."""
        cls, sep = np.array([self.cls_id]), np.array([self.sep_id])
        input_ids = np.concatenate([cls, first, sep, *([second, sep] if len(second) else [])]).astype(np.int64)
        token_types = np.zeros(len(input_ids), dtype=np.int64)
        token_types[len(first) + 2 :] = 1
        index = self._choose(input_ids, rng)
        targets = {"language_model": Target(index=index, value=input_ids[index])}
        if self.pairs != "none":
            targets["next_sentence"] = Target(index=np.zeros(1, dtype=np.int64), value=np.array([0 if belongs else 1]))
        whole = row(input_ids, "bidirectional", token_type_ids=token_types, targets=targets)
        return replace(whole, input_ids=self._hide(input_ids, index, rng))

    def _choose(self, input_ids: Tokens, rng: np.random.Generator) -> Tokens:
        """Return the positions to predict: the share of all tokens that ``mask_share`` says, and at least one."""
        candidates = np.flatnonzero(~np.isin(input_ids, (self.cls_id, self.sep_id, *self.special_ids)))
        budget = min(len(candidates), max(1, round(self.mask_share * len(input_ids))))
        if self.continues_word is None or len(candidates) == 0:
            return np.sort(rng.permutation(candidates)[:budget])
        continues = self.continues_word[input_ids[candidates]]
        continues[0] = False
        words = np.split(candidates, np.flatnonzero(~continues)[1:])
        chosen: list[int] = []
        for number in rng.permutation(len(words)):
            if len(chosen) + len(words[number]) <= budget:
                chosen.extend(words[number])
            if len(chosen) == budget:
                break
        return np.sort(np.array(chosen or candidates[:1], dtype=np.int64))

    def _hide(self, input_ids: Tokens, index: Tokens, rng: np.random.Generator) -> Tokens:
        """Return the ids with 80 % of the chosen ones masked, 10 % random, 10 % as they were."""
        hidden = input_ids.copy()
        draw = rng.random(len(index))
        hidden[index[draw < 0.8]] = self.mask_id
        random = index[draw >= 0.9]
        hidden[random] = rng.integers(self.vocab_size, size=len(random))
        return hidden

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the summed cross-entropies in nats, named ``masked_lm`` and as ``pairs`` says."""
        hidden_states = model(batch)
        losses = {}
        for name, head, weight in self._losses():
            target = batch.targets[head]
            logits = model.read(head, hidden_states, batch)
            total = functional.cross_entropy(logits, target.value, reduction="sum")
            losses[name] = Loss(sum=total, count=len(target.value), weight=weight)
        return losses

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the numbers of masked tokens and of pairs."""
        return {name: len(batch.targets[head].index) for name, head, _ in self._losses()}

    def _losses(self) -> list[tuple[str, str, float]]:
        """Loss name, head and weight of each loss."""
        losses = [("masked_lm", "language_model", 1.0)]
        return losses if self.pairs == "none" else [*losses, (self.pairs, "next_sentence", self.pair_weight)]


def _pieces(tokens: Tokens, size: int) -> list[Tokens]:
    return [tokens[start : start + size] for start in range(0, len(tokens), size)]


def _trim(first: Tokens, second: Tokens, most: int, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
    """Shorten the longer side, token by token, from its front or its back, until both fit."""
    excess = len(first) + len(second) - most
    if excess <= 0:
        return first, second
    even = max(0, excess - abs(len(first) - len(second)))  # cuts that are left once both sides are equally long
    from_longer = excess - even
    cuts = [even // 2 + even % 2, even // 2]
    if len(first) >= len(second):
        cuts[0] += from_longer
    else:
        cuts = [cuts[1], cuts[0] + from_longer]
    sides = []
    for side, cut in zip((first, second), cuts, strict=True):
        front = int(rng.binomial(cut, 0.5))
        sides.append(side[front : len(side) - (cut - front)])
    return sides[0], sides[1]
