"""What gives a label away, and what is wrong with labels: figures of a task file that the data doctor prints.

A model that reads the label off one word, or off the label's own name in the text, scores well and has learnt nothing.
Everything here is counted over examples that are in memory, as task files are; nothing is printed or judged elsewhere.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bothways.errors import UserError
from bothways.language import is_cjk
from bothways.text.overlap.overlap import normalised
from bothways.text.overlap.word_hashes import HashedTexts, Hashes, Places, digests, grams, hash_texts, select

PURITY = 0.98  # share of the examples with a token that have one label, from which the token gives it away
NAME_PURITY = 0.9  # the same for a label's own name, which is suspicious by itself
CLASS_SHARE = 0.2  # least share of a class that must hold the token: a rare word that is pure is no leak
NAME_CLASS_SHARE = 0.05
LEAST_COUNT = 10  # examples
LONGEST_NAME = 20  # words
CHANCE = 0.01  # most expected number of tokens that would be so pure by chance, of all tokens and labels together
SHOWN = 20  # tokens, variants and contradictions that are listed

_TOKEN = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]+")  # a smiley or a star is as good a leak as a word


@dataclass(frozen=True, kw_only=True)
class Clue:
    """A token, or a label's own name, whose presence in a text says what the label is."""

    token: str
    label: str
    count: int
    """Examples whose text holds the token."""
    right: int
    """Those of them that have the label."""
    class_share: float
    """Share of the label's examples that hold the token."""

    @property
    def purity(self) -> float:
        """Share of the examples with the token that have the label."""
        return self.right / self.count


@dataclass(frozen=True, kw_only=True)
class ClassSize:
    """How many examples have a label."""

    label: str
    count: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Variants:
    """Labels that differ by case, white space or the width of characters alone, such as ``Pos`` and ``pos``."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """One text (case, punctuation and spacing aside) that has several labels."""

    text: str
    labels: tuple[str, ...]
    numbers: tuple[int, ...]
    """Of the first example with each label, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class LabelLeaks:
    """What ``label_leaks`` found. Lists are sorted, the worst first, and hold at most 20."""

    examples: int
    classes: tuple[ClassSize, ...]
    """All of them, the largest first."""
    tokens: tuple[Clue, ...]
    """Single tokens that give a label away."""
    names: tuple[Clue, ...]
    """Labels whose own name stands in the text and predicts them."""
    variants: tuple[Variants, ...]
    contradictions: tuple[Contradiction, ...]
    contradicting: int
    """Number of all texts with several labels."""
    singles: tuple[str, ...]
    """Labels that only one example has; all of them."""

    @property
    def clean(self) -> bool:
        """Whether there is nothing to warn of (class balance is not judged here)."""
        return not (self.tokens or self.names or self.variants or self.contradicting or self.singles)


def label_leaks(texts: Sequence[str], labels: Sequence[str]) -> LabelLeaks:
    """Look for what gives labels away and for labels that cannot be right.

    A **token** is a word in lower case, a run of other signs (``:-)``) or, in Chinese, two characters in a row. It is
    named if at least 98 % of the examples that hold it have one label, these are at least 20 % of the label's examples
    and 10 in number, and fewer than 0.01 such tokens were to be expected by chance (Chernoff's bound, for all tokens
    and labels together). A label's **name** is named from 90 % and 5 % on.

    Args:
        texts: what a model reads, one for each example; several columns joined by a line feed.
        labels: one for each text, as they stand in the file.
    Raises:
        UserError: the two differ in number.
    """
    if len(texts) != len(labels):
        raise UserError(f"each text needs one label; there are {len(texts):,} texts and {len(labels):,} labels")
    sizes = Counter(labels)
    hashed = hash_texts(texts)
    contradictions = _contradictions(texts, hashed, labels)
    return LabelLeaks(
        examples=len(texts),
        classes=tuple(
            ClassSize(label=label, count=count, share=count / len(labels))
            for label, count in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
        ),
        tokens=tuple(_telling_tokens(texts, labels, sizes)[:SHOWN]),
        names=tuple(_telling_names(hashed, labels, sizes)[:SHOWN]),
        variants=tuple(_variants(sizes)[:SHOWN]),
        contradictions=tuple(contradictions[:SHOWN]),
        contradicting=len(contradictions),
        singles=tuple(sorted(label for label, count in sizes.items() if count == 1)),
    )


def _telling_tokens(texts: Sequence[str], labels: Sequence[str], sizes: Counter[str]) -> list[Clue]:
    """Return the tokens that give a label away, those of the most examples first."""
    names = sorted(sizes)
    number = {label: at for at, label in enumerate(names)}
    vocabulary: dict[str, int] = {}
    pairs: Counter[int] = Counter()  # token * labels + label, to the number of examples
    for text, label in zip(texts, labels, strict=True):
        own = number[label]
        pairs.update(vocabulary.setdefault(token, len(vocabulary)) * len(names) + own for token in set(_tokens(text)))
    if not pairs:
        return []
    keys = np.fromiter(pairs, dtype=np.int64, count=len(pairs))
    right = np.fromiter(pairs.values(), dtype=np.int64, count=len(pairs))
    token, label_number = keys // len(names), keys % len(names)
    count = np.bincount(token, weights=right, minlength=len(vocabulary)).astype(np.int64)[token]
    size = np.array([sizes[label] for label in names])[label_number]
    kept = (right >= LEAST_COUNT) & (right >= PURITY * count) & (right >= CLASS_SHARE * size)
    words = list(vocabulary)
    clues = [
        Clue(
            token=words[token[at]],
            label=names[label_number[at]],
            count=int(count[at]),
            right=int(right[at]),
            class_share=float(right[at] / size[at]),
        )
        for at in np.flatnonzero(kept)
    ]
    return _beyond_chance(clues, sizes, tried=len(vocabulary) * len(names))


def _telling_names(texts: HashedTexts, labels: Sequence[str], sizes: Counter[str]) -> list[Clue]:
    """Return the labels whose own name, as words in a row, stands in texts and predicts them."""
    names = sorted(sizes)
    number = {label: at for at, label in enumerate(names)}
    label_of_text = np.array([number[label] for label in labels], dtype=np.int64)
    size = np.array([sizes[label] for label in names])
    hashed = hash_texts(names)
    lengths = np.diff(hashed.bounds)
    clues: list[Clue] = []
    for length in np.unique(lengths[(lengths > 0) & (lengths <= LONGEST_NAME)]):
        named = np.flatnonzero(lengths == length)
        runs, run_of_name = np.unique(
            grams(select(hashed, named).hashes, int(length), step=int(length)), return_inverse=True
        )
        run, text = _texts_with(texts, runs, int(length))
        own_run = np.full(len(names), -1)
        own_run[named] = run_of_name
        label = label_of_text[text]
        count = np.bincount(run, minlength=len(runs))[run_of_name]
        right = np.bincount(label[own_run[label] == run], minlength=len(names))[named]
        telling = (right >= LEAST_COUNT) & (right >= NAME_PURITY * count) & (right >= NAME_CLASS_SHARE * size[named])
        clues += [
            Clue(
                token=normalised(names[named[at]]),
                label=names[named[at]],
                count=int(count[at]),
                right=int(right[at]),
                class_share=float(right[at] / size[named[at]]),
            )
            for at in np.flatnonzero(telling)
        ]
    return _beyond_chance(clues, sizes, tried=len(sizes))


def _texts_with(texts: HashedTexts, runs: Hashes, length: int) -> tuple[Places, Places]:
    """Return all pairs of a run (its place among the sorted ``runs``) and a text that holds it, each once."""
    found = grams(texts.hashes, length)
    at = np.searchsorted(runs, found).clip(0, len(runs) - 1)
    place = np.flatnonzero(runs[at] == found)
    text = np.searchsorted(texts.bounds, place, side="right") - 1
    inside = place + length <= texts.bounds[text + 1]
    pairs = np.unique(np.stack([at[place[inside]], text[inside]]), axis=1)
    return pairs[0], pairs[1]


def _beyond_chance(clues: Iterable[Clue], sizes: Counter[str], *, tried: int) -> list[Clue]:
    """Keep what is purer than chance would make any of all that was tried; the most frequent first."""
    total = sum(sizes.values())
    kept = [clue for clue in clues if math.log(tried) + _log_chance(clue, sizes[clue.label] / total) < math.log(CHANCE)]
    return sorted(kept, key=lambda clue: (-clue.right, clue.token, clue.label))


def _log_chance(clue: Clue, base: float) -> float:
    """Return Chernoff's bound of the chance that so many examples have the label if the token says nothing of it."""
    purity = clue.purity
    if purity <= base:
        return 0.0
    wrong = 1 - purity
    return -clue.count * (purity * math.log(purity / base) + (wrong * math.log(wrong / (1 - base)) if wrong else 0.0))


def _tokens(text: str) -> Iterator[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    for match in _TOKEN.finditer(folded):
        token = match[0]
        if not token.isascii() and any(map(is_cjk, token)):
            yield from (token[at : at + 2] for at in range(max(1, len(token) - 1)))
        else:
            yield token


def _contradictions(texts: Sequence[str], hashed: HashedTexts, labels: Sequence[str]) -> list[Contradiction]:
    """Return the texts with several labels, in order of their first appearance."""
    seen: dict[int | str, dict[str, int]] = {}
    for number, (key, label) in enumerate(zip(digests(hashed).tolist(), labels, strict=True)):
        seen.setdefault(key or texts[number].strip(), {}).setdefault(label, number)
    return [
        Contradiction(text=texts[min(found.values())], labels=tuple(found), numbers=tuple(found.values()))
        for found in seen.values()
        if len(found) > 1
    ]


def _variants(sizes: Counter[str]) -> list[Variants]:
    """Return the groups of labels that are one label written in several ways, the largest first."""
    groups: dict[str, list[str]] = {}
    for label in sorted(sizes):
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", label).casefold().split()), []).append(label)
    found = [
        Variants(labels=tuple(group), counts=tuple(sizes[label] for label in group))
        for group in groups.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda each: (-sum(each.counts), each.labels))
