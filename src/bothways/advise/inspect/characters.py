"""What kinds of characters a text is made of: scripts, symbols, and what should not be there."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from bothways.language import is_cjk

LETTER, DIGIT, SPACE, SYMBOL, CONTROL, PRIVATE, BROKEN = (
    "letter",
    "digit",
    "space",
    "symbol",
    "control",
    "private use",
    "replacement",
)
_SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "HANGUL", "HIRAGANA", "KATAKANA", "DEVANAGARI", "THAI", "ARMENIAN",
    "GEORGIAN", "BENGALI", "TAMIL",
)  # fmt: skip
_KANA = ("hiragana", "katakana")

# What UTF-8 looks like when it was read as Latin-1 or Windows-1252, and what GBK makes of broken characters.
_MOJIBAKE = re.compile(r"[ÃÂâ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ¡-¿]|ï»¿|[åæç][\x80-\xbf¡-¿]{2}|锟斤拷|烫烫烫|屯屯屯")
_MOJIBAKE_MARKS = frozenset("ÃÂâïåæç锟烫屯")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that make up a third of any English text.
_ENGLISH = _set(
    "the of and to a in that is was he for it with as his on be at by i this had not are but from or have an they "
    "which one you were her all she there would their we him been has when who will more no if out so said what"
)


@lru_cache(maxsize=2**16)
def kind(character: str) -> str:
    """Return the kind of a character."""
    category = unicodedata.category(character)
    if character == "\ufffd":
        return BROKEN
    if character in "\t\n\r" or category[0] == "Z":
        return SPACE
    if category == "Co":
        return PRIVATE
    if category[0] == "C":  # format characters such as zero-width joiners are part of some scripts
        return SYMBOL if category == "Cf" and character != "\ufeff" else CONTROL
    return LETTER if category[0] in "LM" else DIGIT if category == "Nd" else SYMBOL


@lru_cache(maxsize=2**16)
def script(letter: str) -> str:
    """Return the script of a letter, in lower case: ``latin``, ``han``, ``cyrillic`` …; ``other`` for rare ones."""
    if is_cjk(letter):
        return "han"
    name = unicodedata.name(letter, "")
    return next((known.lower() for known in _SCRIPTS if known in name), "other")


@dataclass(kw_only=True)
class Characters:
    """The characters of a text, counted."""

    kinds: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Characters":
        """Count kinds, and the scripts of letters, from the number of each character."""
        kinds: Counter[str] = Counter()
        scripts: Counter[str] = Counter()
        for character, number in counts.items():
            found = kind(character)
            kinds[found] += number
            if found == LETTER:
                scripts[script(character)] += number
        return cls(kinds=kinds, scripts=scripts)

    def symbol_share(self) -> float:
        """Share of symbols among all that is not white space."""
        return self.kinds[SYMBOL] / max(1, self.kinds.total() - self.kinds[SPACE])

    def script_share(self, name: str) -> float:
        """Share of letters in a script."""
        return self.scripts[name] / max(1, self.scripts.total())


def language_of(characters: Characters, opening: list[str]) -> str:
    """Return ``en``, ``zh``, ``other``, or ``none`` for a text without letters.

    Args:
        characters: of the text.
        opening: its first words, in lower case.
    """
    scripts = characters.scripts
    letters = scripts.total()
    if not letters:
        return "none"
    if scripts["han"] >= 0.2 * letters:
        return "other" if sum(scripts[kana] for kana in _KANA) > 0.1 * letters else "zh"
    if scripts["latin"] < 0.5 * letters:
        return "other"
    if len(opening) < 20:  # too few to tell English from its neighbours by
        return "en"
    return "en" if sum(word in _ENGLISH for word in opening) >= 0.12 * len(opening) else "other"


def mojibake(text: str, counts: Mapping[str, int]) -> int:
    """Return how many traces of a wrong encoding a text shows; ``counts`` are its characters."""
    if not any(mark in counts for mark in _MOJIBAKE_MARKS):
        return 0
    return sum(1 for _ in _MOJIBAKE.finditer(text))
