"""Masked language modelling, with next sentence or sentence order prediction: how BERT is pretrained."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Batch, Loss, Row, Target, row
from bothways.model.heads import Model
from bothways.text.packing import group, pack
from bothways.text.rows import RowMaker, in_random_order
from bothways.text.shards import Corpus

Tokens = NDArray[np.int64]
Words = NDArray[np.bool_] | None  # of some tokens, whether a word begins in each; None: the corpus does not know


@dataclass(frozen=True)
class Text:
    """Tokens and their words."""

    input_ids: Tokens
    words: Words

    def __len__(self) -> int:
        return len(self.input_ids)

    def cut(self, start: int, stop: int) -> "Text":
        """Return what stands from one token up to another."""
        return Text(self.input_ids[start:stop], None if self.words is None else self.words[start:stop])

    def parts(self, size: int) -> list["Text"]:
        """Return all of it in parts of at most ``size`` tokens."""
        return [self.cut(start, start + size) for start in range(0, len(self), size)]


@dataclass(frozen=True)
class Pair:
    """Two texts of a sequence; the second may be empty."""

    first: Text
    second: Text
    belongs: bool = True  # whether the second belongs where it stands

    def __len__(self) -> int:
        """Tokens of the sequence, its frame included."""
        return len(self.first) + 2 + (len(self.second) + 1 if len(self.second) else 0)


@dataclass(frozen=True, kw_only=True)
class MaskedLM(RowMaker[list[Pair]]):
    """Predict hidden tokens from both sides, and whether a second text follows the first.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["language_model"].index`` | [n] | chosen positions: 80 % masked, 10 % random, 10 % as they were |
    | ``targets["language_model"].value`` | [n] | the token that stood there |
    | ``targets["next_sentence"].index`` | [s] | [CLS] of each sequence (absent with ``pairs="none"``) |
    | ``targets["next_sentence"].value`` | [s] | 0: the second text belongs there; 1: it does not |

    A sequence is ``[CLS] A [SEP] B [SEP]`` of at most ``length`` tokens. Masks and pairs are drawn anew in every epoch.
    With ``continues_word`` all tokens of a word are masked or none. Where words begin the corpus tells, if it was prepared
    with words; otherwise ``continues_word`` does, by token id (which knows no Chinese word of several characters).
    With ``longest_span`` up to so many neighbours (tokens, or words) are masked together.

    Sources: Devlin et al. 2018, and create_pretraining_data.py of google-research/bert; sentence order: Lan et al. 2019;
    spans: Joshi et al. 2020; predicting from the position before, and a share that falls: Charpentier & Samuel 2024.
    """

    cls_id: int
    sep_id: int
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...] = ()
    continues_word: NDArray[np.bool_] | None = None  # [vocab_size]; given: words are masked whole, see below
    mask_share: float = 0.15
    final_mask_share: float | None = None  # given: the share goes there in a line while training goes on
    longest_span: int = 1
    shifted: bool = False  # a token is predicted from the position before it, as a causal model does
    pairs: Literal["next_sentence", "sentence_order", "none"] = "next_sentence"
    short_share: float = 0.1  # sequences that are built to a random, shorter length
    pair_weight: float = 1.0
    length: int = 128

    @property
    def heads(self) -> Mapping[str, int]:
        """The language model head and, with pairs, the next sentence head."""
        return {"language_model": 0} if self.pairs == "none" else {"language_model": 0, "next_sentence": 2}

    def lay_out(
        self, corpus: Corpus, documents: NDArray[Any], length: int, rng: np.random.Generator
    ) -> list[list[Pair]]:
        """Return the texts of each row: as many sequences as fit it."""
        pairs = list(replace(self, length=min(self.length, length))._draw(corpus, documents, rng))
        grouped = group([len(pair) for pair in pairs], length)
        return in_random_order([[pairs[index] for index in numbers] for numbers in grouped], rng)

    def finish(
        self, drafts: Sequence[list[Pair]], length: int, rng: np.random.Generator, done: float = 1.0
    ) -> list[Row]:
        """Return rows with hidden tokens; texts without a second one are cut where rows are shorter now.

        Raises:
            UserError: a pair does not fit.
        """
        now = self.at(done)
        pairs = [pair for draft in drafts for pair in draft]
        if self.pairs == "none":
            pairs = [Pair(part, pair.second) for pair in pairs for part in pair.first.parts(length - 2)]
        sequences = [
            now.sequence(
                pair.first.input_ids,
                pair.second.input_ids,
                pair.belongs,
                rng,
                words=(pair.first.words, pair.second.words),
            )
            for pair in pairs
        ]
        return pack(sequences, length)

    def at(self, done: float) -> "MaskedLM":
        """Return the objective as it is once a share of the training lies behind."""
        final = self.mask_share if self.final_mask_share is None else self.final_mask_share
        return replace(self, mask_share=self.mask_share + (final - self.mask_share) * done, final_mask_share=None)

    def _draw(self, corpus: Corpus, documents: NDArray[Any], rng: np.random.Generator) -> Iterator[Pair]:
        """Yield pairs of texts, cut to ``length`` together with their frame."""
        for index in documents:
            sentences = corpus.document_sentences(index)
            words = None if self.continues_word is None else corpus.document_word_starts(index)
            text = Text(np.concatenate(sentences), words)
            if self.pairs == "none":
                yield from (Pair(part, text.cut(0, 0)) for part in text.parts(self.length - 2))
            else:
                bounds = list(accumulate(map(len, sentences), initial=0))
                yield from self._draw_document(corpus, documents, int(index), text, bounds, rng)

    def _draw_document(
        self,
        corpus: Corpus,
        documents: NDArray[Any],
        index: int,
        text: Text,
        bounds: list[int],
        rng: np.random.Generator,
    ) -> Iterator[Pair]:
        """Gather sentences up to a target length, split them in two and, half of the time, replace the second part.

        Args:
            corpus: all documents.
            documents: those from which another text may be drawn.
            index: which of them this is.
            text: all of it.
            bounds: where each of its sentences begins, and its end.
            rng: all that is drawn.
        """
        most = self.length - 3
        target = self._target_length(most, rng)
        start = position = 0  # the first and the last sentence that were gathered
        while position < len(bounds) - 1:
            if position == len(bounds) - 2 or bounds[position + 1] - bounds[start] >= target:
                middle = start + (int(rng.integers(1, position + 1 - start)) if position > start else 1)
                first = text.cut(bounds[start], bounds[middle])
                second = text.cut(bounds[middle], bounds[position + 1])
                if self.pairs == "sentence_order":
                    if len(second):
                        swap = rng.random() < 0.5
                        sides = (second, first) if swap else (first, second)
                        yield Pair(*_trim(*sides, most, rng), belongs=not swap)
                elif not len(second) or rng.random() < 0.5:
                    position = middle - 1  # the sentences from there on were not used
                    other = self._draw_other(corpus, documents, index, middle, target - len(first), rng)
                    yield Pair(*_trim(first, other, most, rng), belongs=False)
                else:
                    yield Pair(*_trim(first, second, most, rng))
                start, target = position + 1, self._target_length(most, rng)
            position += 1

    def _target_length(self, most: int, rng: np.random.Generator) -> int:
        return int(rng.integers(2, most + 1)) if rng.random() < self.short_share else most

    def _draw_other(
        self, corpus: Corpus, documents: NDArray[Any], index: int, follows: int, target: int, rng: np.random.Generator
    ) -> Text:
        """Return about ``target`` tokens from a random place in another document.

        Where there is no other, they are from this one, and do not begin with sentence ``follows``, the true next one.
        """
        for _ in range(10):
            other = int(documents[rng.integers(len(documents))])
            if corpus.origin(other) != corpus.origin(index):
                break
        else:
            other = index
        sentences = corpus.num_sentences(other)
        start = int(rng.integers(sentences))
        if other == index and start == follows:
            start = (start + 1) % sentences
        words = None if self.continues_word is None else corpus.word_starts_from(other, start, target)
        return Text(corpus.document_from(other, start, target), words)

    def sequence(
        self,
        first: Tokens,
        second: Tokens,
        belongs: bool,
        rng: np.random.Generator,
        *,
        words: tuple[Words, Words] = (None, None),
    ) -> Row:
        """Return ``[CLS] A [SEP] B [SEP]`` with some tokens hidden.

        Args:
            first: A.
            second: B; empty: there is none, nor its [SEP].
            belongs: whether B really belongs where it stands.
            rng: what is hidden.
            words: of A and of B, whether a word begins in each token; None: ``continues_word`` tells, by token id.
        """
        cls, sep = np.array([self.cls_id]), np.array([self.sep_id])
        input_ids = np.concatenate([cls, first, sep, *([second, sep] if len(second) else [])]).astype(np.int64)
        token_types = np.zeros(len(input_ids), dtype=np.int64)
        token_types[len(first) + 2 :] = 1
        index = self._choose(input_ids, self._continues(input_ids, len(first), words), rng)
        targets = {"language_model": Target(index=index - self.shifted, value=input_ids[index])}
        if self.pairs != "none":
            targets["next_sentence"] = Target(index=np.zeros(1, dtype=np.int64), value=np.array([0 if belongs else 1]))
        whole = row(input_ids, "bidirectional", token_type_ids=token_types, targets=targets)
        return replace(whole, input_ids=self._hide(input_ids, index, rng))

    def _continues(self, input_ids: Tokens, first: int, words: tuple[Words, Words]) -> NDArray[np.bool_] | None:
        """Return whether each token goes on with the word before it, or None if words do not matter."""
        if self.continues_word is None:
            return None
        continues = self.continues_word[input_ids]
        for start, known in zip((1, first + 2), words, strict=True):
            if known is not None and len(known):
                continues[start : start + len(known)] = ~known
                continues[start] = False  # though it may be the rest of a word that was cut
        return continues

    def _choose(self, input_ids: Tokens, continues: NDArray[np.bool_] | None, rng: np.random.Generator) -> Tokens:
        """Return the positions to predict: the share of all tokens that ``mask_share`` says, and at least one."""
        candidates = np.flatnonzero(~np.isin(input_ids, (self.cls_id, self.sep_id, *self.special_ids)))
        budget = min(len(candidates), max(1, round(self.mask_share * len(input_ids))))
        if len(candidates) == 0 or (continues is None and self.longest_span == 1):
            return np.sort(rng.permutation(candidates)[:budget])
        begins = np.ones(len(candidates), dtype=bool) if continues is None else ~continues[candidates]
        units = np.split(candidates, np.flatnonzero(begins[1:]) + 1)  # tokens, or words
        spans = rng.integers(1, self.longest_span + 1, size=len(units))
        chosen: dict[int, Tokens] = {}  # number of a unit to its positions
        room = budget
        for first in rng.permutation(len(units)):
            for number in range(first, min(first + spans[first], len(units))):
                if number not in chosen and len(units[number]) <= room:
                    chosen[number] = units[number]
                    room -= len(units[number])
            if room == 0:
                break
        if not chosen:  # all words are longer than that: a piece of one
            unit = units[int(rng.integers(len(units)))]
            start = int(rng.integers(max(1, len(unit) - budget + 1)))
            return unit[start : start + budget]
        return np.sort(np.concatenate(list(chosen.values())))

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
            total = model.cross_entropy(head, hidden_states, batch)
            losses[name] = Loss(sum=total, count=len(batch.targets[head].index), weight=weight)
        return losses

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the numbers of masked tokens and of pairs."""
        return {name: len(batch.targets[head].index) for name, head, _ in self._losses()}

    def _losses(self) -> list[tuple[str, str, float]]:
        """Loss name, head and weight of each loss."""
        losses = [("masked_lm", "language_model", 1.0)]
        return losses if self.pairs == "none" else [*losses, (self.pairs, "next_sentence", self.pair_weight)]


def _trim(first: Text, second: Text, most: int, rng: np.random.Generator) -> tuple[Text, Text]:
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
        sides.append(side.cut(front, len(side) - (cut - front)))
    return sides[0], sides[1]
