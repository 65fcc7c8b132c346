"""A survey of raw text: every document is counted as it streams by, and nothing but counters and a few excerpts is kept.

Characters, languages and lengths are counted over all of it. Words, sentences and lines cost more: they
are counted over the first ``CLOSE_BYTES`` and, beyond, over one document in 32, chosen by its text; ``close_share``
says over how much of the text that was.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bothways.advise.inspect.characters import (
    BROKEN,
    CONTROL,
    LETTER,
    PRIVATE,
    Characters,
    kind,
    language_of,
    mojibake,
    script,
)
from bothways.advise.inspect.counting import Distribution, Frequent, Reservoir, Worst
from bothways.language import sentences, word_list
from bothways.language import words as find_words

CLOSE_BYTES = 64 << 20
CLOSE_PART = 32  # of the documents beyond, one in so many
PIECE = 1 << 20  # characters looked at together, so that one long document needs no more memory than many short ones
OPENING = 4000  # characters of a document in which its language is found and its repetitions are counted
EXCERPT = 280  # characters of an excerpt
LINE = 200  # characters by which lines are compared
FEWEST_WORDS = 50  # of a text whose repetitions say something
TOP_LINES = 20
WORD_TOKENS, IDEOGRAPH_TOKENS = 1.3, 0.85  # what a BPE of 8,192 tokens makes of a word, of an ideograph
_PIECE_OF_FILE = re.compile(r"#\d+\Z")  # a long text file comes in pieces, and this is not the first of one


class Survey:
    """What is known of a corpus; ``add`` takes documents, ``to_dict`` gives the figures."""

    def __init__(self, *, seed: int = 0, close_bytes: int = CLOSE_BYTES) -> None:
        self._close_bytes = close_bytes
        self.documents, self.wholes, self.bytes, self.close, self.lines, self.blank_lines = 0, 0, 0, 0, 0, 0
        self.ideographs, self.words, self.mojibake = 0, 0, 0
        self.characters: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.with_mojibake, self.with_control, self.close_documents = 0, 0, 0
        self.lengths, self.document_words, self.document_sentences, self.sentence_lengths = (
            Distribution() for _ in range(4)
        )
        self.frequent = Frequent()
        self.samples = Reservoir(5, seed)
        self.worst = {
            name: Worst()
            for name in ("shortest", "longest", "most symbols", "most repetitive", "least han", "least latin")
        }

    def add(self, text: str, source: str) -> None:
        """Count a document."""
        counts: Counter[str] = Counter()
        size = broken = 0
        for piece in pieces(text):
            encoded = piece.encode("utf-8", "surrogatepass")
            size += len(encoded)
            counts.update(piece)
            broken += mojibake(piece, counts)
        self.documents += 1
        self.wholes += not _PIECE_OF_FILE.search(source)
        self.bytes += size
        self.lengths.add(len(text))
        self.characters.update(counts)
        self.mojibake += broken
        self.with_mojibake += broken > 0
        self.with_control += any(kind(character) == CONTROL for character in counts)
        opening = word_list(text[:OPENING])
        found = Characters.of(counts)
        self.languages[language_of(found, opening)] += 1
        self._judge(text, source, found, opening)
        self.samples.add({"source": source, "text": excerpt(text)})
        if self.close < self._close_bytes or is_chosen(text):
            self._look_closely(text, size)
            self.ideographs += found.scripts["han"]

    def _judge(self, text: str, source: str, found: Characters, opening: list[str]) -> None:
        """Keep a document that is among the worst in some respect."""
        values: dict[str, float] = {"shortest": -len(text), "longest": len(text)}
        if len(text) >= 20:
            values |= {"most symbols": found.symbol_share()}
            values |= {"least han": 1 - found.script_share("han"), "least latin": 1 - found.script_share("latin")}
        if len(opening) >= FEWEST_WORDS:
            values["most repetitive"] = repetition(opening)
        for name, value in values.items():
            if self.worst[name].wants(value):
                self.worst[name].add(value, {"source": source, "characters": len(text), "text": excerpt(text)})

    def _look_closely(self, text: str, size: int) -> None:
        """Count words, sentences and lines."""
        self.close += size
        self.close_documents += 1
        words = number = 0
        for piece in pieces(text):
            words += len(find_words(piece))
            spans = sentences(piece)
            number += len(spans)
            self.sentence_lengths.add_all(stop - start for start, stop in spans)
            lines = [line.strip() for line in piece.split("\n")]
            kept = [line[:LINE] for line in lines if line]
            self.lines += len(lines)
            self.blank_lines += len(lines) - len(kept)
            self.frequent.add_all([line for line in kept if len(line) > 1 and any(map(str.isalnum, line))])
        self.words += words
        self.document_words.add(words)
        self.document_sentences.add(number)

    @property
    def scale(self) -> float:
        """By what a count over the text that was looked at closely must be multiplied to speak for all of it."""
        return self.bytes / self.close if self.close else 1.0

    def tokens(self) -> int:
        """Return about how many tokens a trained tokenizer will make of the text."""
        pieces_of_words = WORD_TOKENS * (self.words - self.ideographs) + IDEOGRAPH_TOKENS * self.ideographs
        return round(pieces_of_words * self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        found = Characters.of(self.characters)
        main = "latin" if found.scripts["latin"] >= found.scripts["han"] else "han"
        shown = {name: worst.items() for name, worst in self.worst.items() if not name.startswith("least")}
        shown["lowest language share"] = self.worst[f"least {main}"].items()
        return {
            "documents": self.documents,
            "wholes": self.wholes,
            "bytes": self.bytes,
            "characters": self.characters.total(),
            "words": round(self.words * self.scale),
            "sentences": round(self.document_sentences.total * self.scale),
            "lines": round(self.lines * self.scale),
            "blank_lines": round(self.blank_lines * self.scale),
            "estimated_tokens": self.tokens(),
            "close_share": round(1 / self.scale, 4),
            "languages": dict(self.languages.most_common()),
            "scripts": dict(found.scripts.most_common()),
            "character_kinds": dict(found.kinds.most_common()),
            "distinct_characters": len(self.characters),
            "uncommon_letters": uncommon_letters(self.characters),
            "control": {
                "characters": found.kinds[CONTROL],
                "documents": self.with_control,
                "commonest": named(self.characters, CONTROL),
            },
            "private_use": found.kinds[PRIVATE],
            "replacement_characters": found.kinds[BROKEN],
            "mojibake": {"places": self.mojibake, "documents": self.with_mojibake},
            "characters_per_document": self.lengths.to_dict(),
            "words_per_document": self.document_words.to_dict(),
            "sentences_per_document": self.document_sentences.to_dict(),
            "characters_per_sentence": self.sentence_lengths.to_dict(),
            "repeated_lines": {
                "lines": self.frequent.seen,
                "repeated": self.frequent.repeated,
                "too_small_by": self.frequent.missed,
                "top": [list(line) for line in self.frequent.top(TOP_LINES)],
            },
            "worst": {name: [shown_worst(name, *entry) for entry in entries] for name, entries in shown.items()},
            "samples": self.samples.items,
        }


def is_chosen(text: str) -> bool:
    """Whether a document is one of the few that are looked at closely where there are many; its beginning decides."""
    head = text[:OPENING].encode("utf-8", "surrogatepass")
    return hashlib.sha256(head).digest()[0] % CLOSE_PART == 0


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of about a million characters, cut after a line where there is one."""
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind("\n", start + PIECE // 2, start + PIECE) + 1 or start + PIECE
        yield text[start:cut]
        start = cut
    yield text[start:]


def excerpt(text: str) -> str:
    """Return the beginning of a text."""
    head = text[: EXCERPT + 200].strip()
    return head if len(text) <= EXCERPT else head[:EXCERPT] + "…"


def repetition(words: list[str]) -> float:
    """Return the share of runs of four words that have come before in the text."""
    runs = list(zip(*(words[start:] for start in range(4)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def uncommon_letters(characters: Counter[str], most: int = 20) -> dict[str, Any]:
    """Return letters that are not of the two commonest scripts, and the commonest of them."""
    scripts: Counter[str] = Counter()
    for character, number in characters.items():
        if kind(character) == LETTER:
            scripts[script(character)] += number
    usual = {name for name, _ in scripts.most_common(2)} & {"latin", "han"} or {
        name for name, _ in scripts.most_common(1)
    }
    letters = {
        character: number
        for character, number in characters.items()
        if kind(character) == LETTER and script(character) not in usual
    }
    ranked = sorted(letters.items(), key=lambda found: (-found[1], found[0]))
    return {
        "characters": sum(letters.values()),
        "distinct": len(letters),
        "top": [[f"{character} U+{ord(character):04X}", number] for character, number in ranked[:most]],
    }


def named(characters: Counter[str], wanted: str, most: int = 10) -> list[list[Any]]:
    """Return the commonest characters of a kind as ``U+0007`` and their number."""
    found = [(character, number) for character, number in characters.items() if kind(character) == wanted]
    ranked = sorted(found, key=lambda pair: (-pair[1], pair[0]))
    return [[f"U+{ord(character):04X}", number] for character, number in ranked[:most]]


def shown_worst(name: str, value: float, item: dict[str, Any]) -> dict[str, Any]:
    """Return one of the worst documents with its figure: characters, or a share."""
    if name in ("shortest", "longest"):
        return {"value": item["characters"], **item}
    return {"value": round(1 - value if name == "lowest language share" else value, 4), **item}
