"""Where sentences and words begin and end, in English and in Chinese, by character offset; no dictionary, no model.

A sentence ends after its stop and whatever closes with it (quotes, brackets, a footnote number); the white space in
between belongs to the sentence that follows, so that the spans of a text, joined, are the text. Everything here takes
linear time: a pattern matches a run of characters as a whole (``++``), and only from where the run begins.
"""

import re
from collections.abc import Mapping
from typing import Literal

from bothways.errors import unknown

Language = Literal["auto", "en", "zh"]
Span = tuple[int, int]

_IDEOGRAPHS = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # for use inside [...]
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_IDEOGRAPH_RUN = re.compile(f"[{_IDEOGRAPHS}]++")
_LETTER = re.compile(r"[^\W\d_]")
_LETTERS = re.compile(r"[^\W\d_]++")
_SAMPLES = 16  # spread over a text, since English front matter may open a Chinese book
_SAMPLE_LENGTH = 1024  # characters
_LEAST_SHARE = 0.01  # of a language that is told
_CHINESE_SHARE = 0.2  # Chinese words have some two letters and English ones five: one Chinese word in three


def is_cjk(char: str) -> bool:
    """Whether one character is a CJK ideograph (Chinese; also Japanese kanji, but not kana or hangul)."""
    return _IDEOGRAPH.fullmatch(char) is not None


def detect(text: str) -> Literal["en", "zh"]:
    """Return ``"zh"`` if at least a fifth of the letters are CJK ideographs, else ``"en"``; a long text is sampled."""
    if text.isascii():
        return "en"
    if len(text) > _SAMPLES * _SAMPLE_LENGTH:
        step = len(text) // _SAMPLES
        text = "".join(text[start : start + _SAMPLE_LENGTH] for start in range(0, step * _SAMPLES, step))
    ideographs = sum(map(len, _IDEOGRAPH_RUN.findall(text)))
    if ideographs == 0 or ideographs >= _CHINESE_SHARE * len(text):  # nearly always; letters are slower to count
        return "zh" if ideographs else "en"
    return "zh" if ideographs >= _CHINESE_SHARE * len("".join(_LETTERS.findall(text))) else "en"


def told(language: str, sizes: Mapping[str, int]) -> str:
    """Return the language of a corpus for a person, with the shares of each where it is mixed.

    >>> told("en", {"en": 1000, "zh": 2}), told("zh", {"en": 300, "zh": 700})
    ('en', 'zh 70 %, en 30 %')

    Args:
        language: that is told where it is not mixed.
        sizes: of the text in each language.
    """
    parts = mixed(sizes)
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts.items()) if len(parts) > 1 else language


def mixed(sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each language that makes up at least a hundredth of a text, the largest first."""
    whole = sum(sizes.values())
    parts = sorted(sizes.items(), key=lambda part: part[1], reverse=True)
    return {name: size / whole for name, size in parts if size >= _LEAST_SHARE * whole and size}


def resolve(text: str, language: Language = "auto") -> Literal["en", "zh"]:
    """Return the language itself, or for ``"auto"`` that of the text.

    Raises:
        UserError: there is no such language.
    """
    if language == "auto":
        return detect(text)
    if language not in ("en", "zh"):
        raise unknown("language", language, ("auto", "en", "zh"))
    return language


# Sentences. A match is a place where one may end, and the group that closes it says what is known of the place: a "gap"
# (a blank line, a new list item, in Chinese any new line) ends the sentence before the white space, a "stop" (followed
# by a "next" word) ends it unless ``_goes_on``, and a "sure" end is one for which the pattern has seen that already.
# Sure ends are there for speed: they are found without running any Python and are most ends.

_STOPS = ".!?…"
_CLOSING = r"(?:[\"'”’»)\]}」』）】》〉〕]|\[\d{1,3}\])*+"
_OPENING = "[\"'“‘«(\\[{—–-]*+"
_NEXT = rf"(?=\s++(?=[^\s.,:;!?…)\]}}]){_OPENING}(?P<next>\w*+\.?))"  # white space, then a word
_TOUCHING = rf"(?=[{_IDEOGRAPHS}“「『《])"  # in Chinese there need be no white space
_BLANK_LINE = r"[^\S\n]*+\n\s*+"  # what follows its first "\n"
_LIST_ITEM = r"(?=[^\S\n]*+(?:[-*+•‣◦▪·—–]|\(?\d{1,3}[.)、])[^\S\n])"  # likewise


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER_LAST = _set(
    "mr mrs ms mx dr prof st rev fr hon gen col capt cmdr lt sgt maj gov sen rep pres supt mme mlle messrs "
    "vs viz cf approx ca e.g i.e"
)
_BEFORE_NUMBER = _set(
    "no nos vol vols ch p pp fig figs sec art eq ref jan feb mar apr jun jul aug sep sept oct nov dec"
)
_MAY_BE_LAST = _set("etc inc ltd co corp jr sr bros esq al est ave blvd dept univ assn")
_OPENERS = _set(
    "a after all although an and as at because but by for from he her here his how however i if in it its my no not "
    "now on one our she so some that the their then there these they this those to we what when where while who why "
    "with yet you your"
)
_LAST_WORD = re.compile(rf"[^\s\"'“‘«(\[{{—–{_IDEOGRAPHS}]+\Z")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")  # U.S, e.g, Ph.D, p.m; not bbc.co.uk
_NUMBERING = re.compile(r"\s*\(?(?:\d{1,3}|[A-Za-z]|[IVXLC]{1,5})")  # "1." or "IV." opens a sentence, it is none
_NUMBER = re.compile(r"\d|(?:[VXLC]|I[IVX])[IVXLC]*\.?\Z")
_WORD_REACH = 24  # characters before a stop that can matter: more than the longest abbreviation


def _plain_word() -> str:
    """Build the pattern that, behind a full stop, sees a word that is no abbreviation, initial, or number.

    It looks at no more than the last letters and therefore knows few of these words: those that end in three lower-case
    letters, and those that are two lower-case letters after white space.
    """
    lengths: dict[int, list[str]] = {}
    for word in sorted(_NEVER_LAST | _BEFORE_NUMBER | _MAY_BE_LAST):
        if word.isalpha():
            any_case = "".join(f"[{letter.upper()}{letter}]" for letter in word[:-3])  # the last three are lower-case
            lengths.setdefault(len(word), []).append(any_case + word[-3:])
    # A pattern can look back only so far as is fixed, hence one for each length.
    known = "".join(rf"(?<!(?<![A-Za-z])(?:{'|'.join(words)})\.)" for words in lengths.values())
    return rf"(?:(?<=[a-z]{{3}}\.)|(?<=\s[a-z]{{2}}\.)){known}"


def _ends(hard: str, after_stop: str, gap: str) -> re.Pattern[str]:
    """Build the pattern of the places where a sentence may end.

    It begins with a plain set of characters, which is what ``re`` finds fastest; all else is looked at from there.

    Args:
        hard: characters that end a sentence whatever follows, except a comma or a colon.
        after_stop: pattern of what must follow the other stops.
        gap: pattern of the gaps, without their first new line.
    """
    run = f"[{_STOPS}{hard}]"
    run_begins = rf"(?<!{run}.)"  # else a long run would be tried from each of its characters
    sure_stop = rf"(?:{_plain_word()}|(?<=[!?]))[{_STOPS}]*+{_CLOSING}(?=\s++{_OPENING}[A-Z])"
    hard_end = rf"{run_begins}(?:(?<=[{hard}])|(?=[{_STOPS}]*[{hard}])){run}*+{_CLOSING}(?![，、：])"
    stop = rf"{run_begins}(?P<stop>{run}*+){_CLOSING}{after_stop}"
    return re.compile(
        rf"[{_STOPS}{hard}\n](?:(?<!\n)(?:(?P<sure>{sure_stop}|{hard_end})\s*+|{stop})|(?<=\n)(?P<gap>{gap}))"
    )


_ENDS = {
    "en": _ends("。！？", _NEXT, f"{_BLANK_LINE}|{_LIST_ITEM}"),
    "zh": _ends("。！？；…", f"(?:{_NEXT}|{_TOUCHING})", r"\s*+"),
}


def sentences(text: str, language: Language = "auto") -> list[Span]:
    """Cut a text into sentences.

    English: a full stop, question or exclamation mark or ellipsis before white space, unless it belongs to an
    abbreviation, an initial or a list number, or the sentence plainly goes on in lower case; a blank line; the start of
    a list item. Chinese: 。！？；… and every new line. 。！？ end a sentence in both.

    Args:
        text: any text; in English, lines may be wrapped inside a paragraph.
        language: ``"auto"`` decides by ``detect``.
    Returns:
        ``(start, stop)`` of each sentence, in order; together they cover the text completely. White space before a
        sentence belongs to it, and white space at the end of the text to the last one. An empty text has no sentence.
    Raises:
        UserError: there is no such language.
    """
    starts = sentence_starts(text, language)
    return list(zip(starts, [*starts[1:], len(text)], strict=False))  # an empty text has an end and no start


def sentence_starts(text: str, language: Language = "auto") -> list[int]:
    """Return where each sentence of ``sentences`` begins: all that is needed, since each ends where the next begins.

    Raises:
        UserError: there is no such language.
    """
    starts = [0] if text else []
    start = 0
    for match in _ENDS[resolve(text, language)].finditer(text):
        kind = match.lastgroup
        if kind == "sure":
            start = match.end("sure")
        elif kind == "gap":
            stop = start + len(text[start : match.start()].rstrip())
            if stop == start:
                continue
            start = stop
        elif _goes_on(text, start, match):
            continue
        else:
            start = match.end()
        starts.append(start)
    if len(starts) > 1 and not text[start:].strip():
        starts.pop()
    return starts


def _goes_on(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the sentence that begins at ``start`` goes on after the stop of this match."""
    following = match["next"] or ""
    if following[:1].islower():  # who opens sentences in lower case (chats, transcripts) does so for the next one too
        first = _LETTER.search(text, start, min(start + _WORD_REACH, match.start()))
        return first is None or not first[0].islower()
    at = match.start()
    if text[at] != "." or match["stop"]:  # not one full stop alone
        return False
    last = _LAST_WORD.search(text[max(start, at - _WORD_REACH) : at])
    if last is None:
        return False
    if at - start <= _WORD_REACH and _NUMBERING.fullmatch(text, start, at):
        return True
    return _is_abbreviation(last[0], following)


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether the stop after ``word`` only abbreviates it, given the first word after the gap."""
    lower = word.lower()
    if lower in _NEVER_LAST:
        return True
    if lower in _BEFORE_NUMBER:
        return _NUMBER.match(following) is not None
    initial = len(word) == 1 and word.isupper() and word != "I"
    if initial or lower in _MAY_BE_LAST or _DOTTED.fullmatch(word):
        return following != "" and following.lower() not in _OPENERS
    return False


# Words.

_WORD = re.compile(
    rf"[{_IDEOGRAPHS}]"
    rf"|[^\W_{_IDEOGRAPHS}]++(?:[\u0300-\u036f]++[^\W_{_IDEOGRAPHS}]*+"  # decomposed accents
    rf"|(?:['’\-\u2010\u2011]|(?<=\d)[.,](?=\d))[^\W_{_IDEOGRAPHS}]++)*+"
)


def words(text: str, language: Language = "auto") -> list[Span]:
    """Find the words of a text.

    A word is a run of letters and digits of any alphabet, with apostrophes and hyphens inside it (``don't``,
    ``two-core``) and the points and commas of a number (``1,000.5``); a CJK ideograph is a word of its own. These rules
    serve both languages and texts that mix them, so ``language`` is only checked: no segmenter joins ideographs yet.

    Returns:
        ``(start, stop)`` of each word, in order, without what lies between words.
    Raises:
        UserError: there is no such language.
    """
    if language != "auto":
        resolve(text, language)
    return [match.span() for match in _WORD.finditer(text)]


def word_list(text: str, language: Language = "auto") -> list[str]:
    """Return the words of a text in lower case; each Chinese character is one."""
    return [text[start:stop].lower() for start, stop in words(text, language)]
