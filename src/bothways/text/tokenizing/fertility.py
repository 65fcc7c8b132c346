"""How well a tokenizer fits texts: how much text a token holds, what it does not know, whether text comes back.

A count is kept for each language, and counts of parts add up to those of the whole, in whatever order they are added.
"""

import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bothways.errors import UserError
from bothways.language import detect
from bothways.text.tokenizing.tokenizer import Tokenizer, in_batches
from bothways.text.tokenizing.word_chunks import BARE_CHUNK

LANGUAGES = ("en", "zh", "other")
_IDEOGRAPHS = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Only counted, so simpler and quicker than language.words: a run of letters and digits with apostrophes or hyphens inside.
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]++(?:['’\-][^\W_{_IDEOGRAPHS}]++)*+")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[^\W\d_\u0250-\U0010ffff]")  # up to Latin Extended-B
_LATIN_SHARE = 0.5  # of the letters: less, and a text that is not Chinese is not English either
_SAMPLE = 2000  # characters by which the script of a text is judged
_SHOWN = 20  # examples and longest tokens
_MOST_UNKNOWN = 4096  # distinct unknown characters that are counted
_BATCH = 64  # texts encoded together


@dataclass
class Counts:
    """What was counted in the texts of one language."""

    texts: int = 0
    characters: int = 0
    bytes: int = 0
    words: int = 0  # each Chinese character is one
    tokens: int = 0
    unknown: int = 0  # tokens

    def add(self, other: "Counts") -> None:
        """Add the counts of another part."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the counts and their ratios; a ratio of nothing is None."""
        tokens = self.tokens
        return {
            **vars(self),
            "characters_per_token": _ratio(self.characters, tokens),
            "bytes_per_token": _ratio(self.bytes, tokens),
            "words_per_token": _ratio(self.words, tokens),
            "tokens_per_word": _ratio(tokens, self.words),
            "unknown_rate": _ratio(self.unknown, tokens),
        }


@dataclass
class Fertility:
    """The fit of a tokenizer to texts; add texts with ``add``, other parts with ``merge``.

    Attributes:
        by_language: ``en``, ``zh`` and ``other`` to their counts, by the language of each text as a whole.
        used: [vocabulary] how often each token was produced.
        checked: texts that were decoded and compared.
        not_back: those of them that did not come back: exactly, or for WordPiece as normalised text without spaces.
        special: ids of special tokens, which no text produces; the unknown token is not among them.
        unknown_characters: characters that made a token unknown, and in how many texts.
        longest: the longest tokens produced, as text, longest first.
    """

    vocabulary: int
    special: frozenset[int]
    by_language: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in LANGUAGES})
    used: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    checked: int = 0
    not_back: int = 0
    unknown_characters: Counter[str] = field(default_factory=Counter)
    tokens: tuple[str, ...] = ()  # id to text

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Begin the count of a tokenizer."""
        special = {index for index, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special}
        special -= {tokenizer.unknown_id}
        return cls(
            vocabulary=len(tokenizer),
            special=frozenset(special),
            used=np.zeros(len(tokenizer), np.int64),
            tokens=tuple(tokenizer.backend.decode([i], skip_special_tokens=False) for i in range(len(tokenizer))),
        )

    @property
    def total(self) -> Counts:
        """The counts of all languages together."""
        total = Counts()
        for counts in self.by_language.values():
            total.add(counts)
        return total

    @property
    def vocabulary_used(self) -> float:
        """Share of the tokens, special ones left out, that some text produced."""
        ordinary = np.ones(self.vocabulary, dtype=bool)
        ordinary[list(self.special)] = False
        return float((self.used[ordinary] > 0).mean()) if ordinary.any() else 0.0

    def longest(self, count: int = _SHOWN) -> list[str]:
        """Return the longest tokens that were produced, as text, longest first."""
        produced = (self.tokens[index] for index in np.flatnonzero(self.used).tolist() if index not in self.special)
        return heapq.nsmallest(count, produced, key=lambda token: (-len(token), token))

    def merge(self, other: "Fertility") -> None:
        """Add what another part counted with the same tokenizer.

        Raises:
            UserError: the other tokenizer has another vocabulary.
        """
        if self.tokens != other.tokens or self.special != other.special:
            raise UserError("counts of two different tokenizers cannot be added up; use one tokenizer for all parts")
        for language, counts in other.by_language.items():
            self.by_language[language].add(counts)
        self.used += other.used
        self.checked += other.checked
        self.not_back += other.not_back
        self.unknown_characters.update(other.unknown_characters)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for a report, the same for the same counts."""
        examples = sorted(self.unknown_characters.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN]
        return {
            "vocabulary": self.vocabulary,
            "vocabulary_used": self.vocabulary_used,
            **self.total.to_dict(),
            "languages": {name: counts.to_dict() for name, counts in self.by_language.items() if counts.texts},
            "round_trip": {"checked": self.checked, "not_back": self.not_back},
            "longest_tokens": self.longest(),
            "unknown_characters": [
                {"character": character, "code_point": f"U+{ord(character):04X}", "texts": count}
                for character, count in examples
            ],
        }


class Meter:
    """Counts texts as they are encoded.

    Args:
        tokenizer: what encodes them.
        check_every: decode and compare one text in so many (the first one, too); 0: none.
    """

    def __init__(self, tokenizer: Tokenizer, *, check_every: int = 1) -> None:
        if check_every < 0:
            raise UserError(f"check_every must be 0 or more, not {check_every}")
        self.tokenizer = tokenizer
        self.check_every = check_every
        self.fertility = Fertility.of(tokenizer)
        self._unknown = tokenizer.unknown_id
        self._seen = 0

    def add(self, text: str, ids: Sequence[int] | NDArray[Any], *, num_words: int | None = None) -> None:
        """Count a text and its token ids [T].

        Args:
            text: what was encoded.
            ids: all of its ids, without a frame of special tokens.
            num_words: how many words it has, where that is known; else they are counted.
        """
        found = np.asarray(ids, dtype=np.int64)
        kept = self.fertility
        counts = kept.by_language[language_of(text)]
        counts.texts += 1
        counts.characters += len(text)
        counts.bytes += len(text.encode("utf-8"))
        counts.words += len(_WORD.findall(text)) if num_words is None else num_words
        counts.tokens += len(found)
        kept.used += np.bincount(found, minlength=kept.vocabulary)
        unknown = int(np.count_nonzero(found == self._unknown)) if self._unknown is not None else 0
        if unknown:
            counts.unknown += unknown
            self._note_unknown(text)
        if self.check_every and self._seen % self.check_every == 0:
            kept.checked += 1
            kept.not_back += not comes_back(self.tokenizer, text, found)
        self._seen += 1

    def _note_unknown(self, text: str) -> None:
        """Count the characters of a text that the tokenizer does not know by themselves."""
        characters = self.fertility.unknown_characters
        candidates = sorted({character for word in BARE_CHUNK.findall(text) for character in word})
        for character, ids in zip(candidates, self.tokenizer.encode_batch(candidates), strict=True):
            if self._unknown in ids and (character in characters or len(characters) < _MOST_UNKNOWN):
                characters[character] += 1


def measure(
    tokenizer: Tokenizer, texts: Iterable[str | tuple[str, Sequence[int]]], *, check_every: int = 1
) -> Fertility:
    """Measure how a tokenizer fits texts.

    Args:
        tokenizer: any.
        texts: texts, which are encoded, or pairs of a text and its ids; read once.
        check_every: decode and compare one text in so many; 0: none.
    """
    meter = Meter(tokenizer, check_every=check_every)
    for text, ids in _with_ids(tokenizer, texts):
        meter.add(text, ids)
    return meter.fertility


def _with_ids(
    tokenizer: Tokenizer, texts: Iterable[str | tuple[str, Sequence[int]]]
) -> Iterator[tuple[str, Sequence[int] | NDArray[Any]]]:
    for batch in in_batches(texts, _BATCH):
        plain = [item for item in batch if isinstance(item, str)]
        encoded = iter(tokenizer.encode_batch(plain))
        yield from ((item, next(encoded)) if isinstance(item, str) else item for item in batch)


def language_of(text: str) -> str:
    """Return ``"zh"`` as ``language.detect`` does, ``"en"`` for other text of mostly Latin letters, else ``"other"``.

    A text without letters is ``"other"``.
    """
    if detect(text) == "zh":
        return "zh"
    sample = text[:_SAMPLE]
    letters = len(_LETTER.findall(sample))
    return "en" if letters and len(_LATIN.findall(sample)) >= _LATIN_SHARE * letters else "other"


def comes_back(tokenizer: Tokenizer, text: str, ids: Sequence[int] | NDArray[Any]) -> bool:
    """Whether a text comes back from its ids.

    Byte-level BPE and Unigram with bytes: exactly (▁ is a space to Unigram). Others lose white space, and BERT case and
    accents: there the text is compared as its normaliser leaves it, without white space; a text with unknown words does
    not come back.
    """
    if tokenizer.kind == "wordpiece":
        backend = tokenizer.backend
        decoded = backend.decode([int(index) for index in ids], skip_special_tokens=False)
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        return _bare(decoded) == _bare(normal)
    decoded = tokenizer.decode(ids)
    return decoded == text or (tokenizer.kind == "unigram" and decoded == text.replace("▁", " "))


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
