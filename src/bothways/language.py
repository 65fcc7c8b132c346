"""Where sentences and words begin and end, in English and in Chinese, by character offset; no dictionary, no model.

A sentence ends after its stop and whatever closes with it (quotes, brackets, a footnote number); the white space in
between belongs to the sentence that follows, so that the spans of a text, joined, are the text. Everything here takes
linear time: a pattern matches a run of characters as a whole (``++``), and only from where the run begins.
"""

import re
from typing import Literal

from bothways.errors import unknown

Language = Literal["auto", "en", "zh"]
Span = tuple[int, int]

_IDEOGRAPHS = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # for use inside [...]
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_LETTER = re.compile(r"[^\W\d_]")
_SAMPLES = 16  # spread over a text, since English front matter may open a Chinese book
_SAMPLE_LENGTH = 1024  # characters
_CHINESE_SHARE = 0.2  # Chinese words have some two letters and English ones five: one Chinese word in three


def is_cjk(char: str) -> bool:
    """Whether one character is a CJK ideograph (Chinese; also Japanese kanji, but not kana or hangul)."""
    return _IDEOGRAPH.fullmatch(char) is not None


def detect(text: str) -> Literal["en", "zh"]:
    """Return ``"zh"`` if at least a fifth of the letters are CJK ideographs, else ``"en"``; a long text is sampled."""
    if len(text) > _SAMPLES * _SAMPLE_LENGTH:
        step = len(text) // _SAMPLES
        text = "".join(text[start : start + _SAMPLE_LENGTH] for start in range(0, step * _SAMPLES, step))
    ideographs = len(_IDEOGRAPH.findall(text))
    return "zh" if ideographs and ideographs >= _CHINESE_SHARE * len(_LETTER.findall(text)) else "en"


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


# Sentences. A match is a place where one may end. A "gap" (a blank line, a new list item, in Chinese any new line) ends
# it before the white space, a "stop" ends it unless ``_goes_on``, and any other match ends it.

_CLOSING = r"(?:[\"'”’»)\]}」』）】》〉〕]|\[\d{1,3}\])*+"
_NEXT = r"(?=\s++(?=[^\s.,:;!?…)\]}])[\"'“‘«(\[{—–-]*+(?P<next>\w*+\.?))"  # white space, then a word
_TOUCHING = rf"(?=[{_IDEOGRAPHS}“「『《])"  # in Chinese there need be no white space
_BLANK_LINE = r"\n[^\S\n]*+\n\s*+"
_LIST_ITEM = r"\n(?=[^\S\n]*+(?:[-*+•‣◦▪·—–]|\(?\d{1,3}[.)、])[^\S\n])"


def _ends(hard: str, after_stop: str, gap: str) -> re.Pattern[str]:
    """Build the pattern of the places where a sentence may end.

    Args:
        hard: characters that end a sentence whatever follows, except a comma or a colon.
        after_stop: pattern of what must follow the other stops.
        gap: pattern of the gaps.
    """
    run = f"[.!?…{hard}]"
    hard_end = rf"(?=[.!?…]*[{hard}]){run}++{_CLOSING}(?![，、：])"
    return re.compile(rf"(?<!{run})(?:{hard_end}|(?P<stop>{run}++){_CLOSING}{after_stop})|(?P<gap>{gap})")


_ENDS = {
    "en": _ends("。！？", _NEXT, f"{_BLANK_LINE}|{_LIST_ITEM}"),
    "zh": _ends("。！？；…", f"(?:{_NEXT}|{_TOUCHING})", r"\n\s*+"),
}

_LAST_WORD = re.compile(rf"[^\s\"'“‘«(\[{{—–{_IDEOGRAPHS}]+\Z")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")  # U.S, e.g, Ph.D, p.m; not bbc.co.uk
_NUMBERING = re.compile(r"\s*\(?(?:\d{1,3}|[A-Za-z]|[IVXLC]{1,5})")  # "1." or "IV." opens a sentence, it is none
_NUMBER = re.compile(r"\d|(?:[VXLC]|I[IVX])[IVXLC]*\.?\Z")
_WORD_REACH = 24  # characters before a stop that can matter: more than the longest abbreviation


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
    spans: list[Span] = []
    start = 0
    for match in _ENDS[resolve(text, language)].finditer(text):
        if match["gap"] is not None:
            stop = start + len(text[start : match.start()].rstrip())
        elif match["stop"] is not None and _goes_on(text, start, match):
            continue
        else:
            stop = match.end()
        if stop > start:
            spans.append((start, stop))
            start = stop
    if text[start:].strip() or (text and not spans):
        spans.append((start, len(text)))
    elif spans:
        spans[-1] = (spans[-1][0], len(text))
    return spans


def _goes_on(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the sentence that begins at ``start`` goes on after the stop of this match."""
    following = match["next"] or ""
    if following[:1].islower():  # who opens sentences in lower case (chats, transcripts) does so for the next one too
        first = _LETTER.search(text, start, min(start + _WORD_REACH, match.start()))
        return first is None or not first[0].islower()
    if match["stop"] != ".":
        return False
    at = match.start()
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
