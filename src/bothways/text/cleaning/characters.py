"""Repairs of single characters: broken encodings, line ends, control characters, Unicode's many spellings.

Every function returns the very text it was given where there is nothing to do, and takes time in proportion to the text
whatever that holds.
"""

import re
import unicodedata
from functools import cache
from typing import Literal

NormalForm = Literal["NFC", "NFKC"]

_BLOCK = 1 << 18  # characters


def _replaced(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """Replace all that a pattern of one character (or ``\\r\\n``) finds, holding the pieces of one block at a time."""
    if not pattern.search(text):
        return text
    blocks, start = [], 0
    while start < len(text):
        stop = start + _BLOCK
        stop += text.startswith("\n", stop)  # a CR LF is not cut in two
        blocks.append(pattern.sub(replacement, text[start:stop]))
        start = stop
    return "".join(blocks)


# Line ends

_LINE_END = re.compile("[\r\v\f\x85\u2028\u2029](?:(?<=\r)\n)?")


def unify_line_ends(text: str) -> str:
    """Turn every kind of line end (CR LF, CR, VT, FF, NEL, U+2028, U+2029) into ``\\n``."""
    return _replaced(_LINE_END, "\n", text)


# Control characters. For use inside [...]: what never belongs to a text (C0 and C1 but tab and line ends, the soft hyphen,
# zero-width spaces and the byte order mark, bidirectional marks, annotation marks, U+FFFC, surrogates, noncharacters), and
# what does so only in its place (joiners, tags). A class is searched some ten times faster while it lies below U+10000,
# hence the two versions of some patterns.

_CONTROL = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
)
_FAR_NONCHARACTERS = "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000)
)
_JOINERS = "\u200c\u200d"
_TAGS = "\U000e0020-\U000e007f"
_FAR = re.compile("[^\0-\uffff]")

# Scripts in which joiners change what is seen: Arabic to Mandaic, the Indic ones, Tibetan to Myanmar, Khmer and Mongolian,
# Balinese to Lepcha, their extensions; and emoji, except for the flag that is treated by itself.
_JOINING = (
    "\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u0f00-\u109f\u1700-\u18af\u1b00-\u1c4f\u1cd0-\u1cff\ua800-\ua95f\ua980-\ua9ff"
    "\uaa60-\uaa7f\uaae0-\uaaff\uabc0-\uabff\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00010a00-\U00010fff"
    "\U00011000-\U00011fff\U0001e900-\U0001e95f\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2900-\u2bff"
    "\U0001f000-\U0001f3f3\U0001f3f5-\U0001faff"
)
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
_FLAG = f"\U0001f3f4(?:[{_TAGS[0]}-\U000e007e]{{1,6}}\U000e007f)?+"  # of Scotland: a black flag and g b s c t as tags

# A joiner stays where it follows, marks aside, a letter or picture that can join. The first alternative takes a whole run,
# so that it is tried once a run; normalisation cannot move the letter away, which makes the rule stable.
_MISPLACED = re.compile(
    rf"((?:[{_JOINING}]|{_FLAG})(?:[{_JOINING}{_MARKS}]|{_FLAG})*+[{_JOINERS}]?)|[{_JOINERS}{_TAGS}]+"
)
_ANSI_ESCAPE = re.compile(
    "\x1b(?:"
    r"\[[0-?]*+[ -/]*+[@-~]"  # control sequences: colours, cursor
    "|\\][^\x07\x1b\n]*+(?:\x07|\x1b\\\\)"  # operating system commands: titles, links
    "|[PX^_][^\x1b\n]*+\x1b\\\\"  # device control and other strings
    "|[ -/]*+[0-~])"  # the short ones
)
_CONTROLS = re.compile(f"[{_CONTROL}]")
_FAR_CONTROLS = re.compile(f"[\U000e0001{_FAR_NONCHARACTERS}]")
_PLACED = re.compile(f"[{_JOINERS}{_TAGS}]")


def remove_control_characters(text: str) -> str:
    """Remove what shows nothing: control and format characters, surrogates, noncharacters, and escapes as a whole.

    Tab and all line ends stay; so do joiners inside emoji and in scripts that need them (Arabic, Indic, Khmer, …), and
    the tags of a flag.
    """
    result = _ANSI_ESCAPE.sub("", text) if "\x1b" in text else text
    result = _replaced(_CONTROLS, "", result)
    if _FAR.search(result):
        result = _replaced(_FAR_CONTROLS, "", result)
    if _PLACED.search(result):
        result = _MISPLACED.sub(r"\1", result)
    return text if len(result) == len(text) else result


_PRIVATE = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_PRIVATE_USE = re.compile(f"[{_PRIVATE}]")


def remove_private_use(text: str) -> str:
    """Remove characters of the private use areas: icons of a web font, old Chinese encodings' own characters."""
    return _replaced(_PRIVATE_USE, "", text)


# Unicode normalisation

_MOST_MARKS = 30  # in a row: the limit of the Stream-Safe Text Format, Unicode Standard Annex #15


@cache
def _marks(stop: int) -> str:
    """Return all characters below ``stop`` that normalisation may reorder, for use inside [...]."""
    return "".join(char for char in map(chr, range(0x300, stop)) if unicodedata.combining(char))


@cache
def _stacked_marks(stop: int) -> re.Pattern[str]:
    marks = _marks(stop)
    return re.compile(f"([{marks}][{marks}]{{{_MOST_MARKS - 1}}})[{marks}]++")  # one class first: a fast search


def cut_stacked_marks(text: str) -> str:
    """Cut every run of combining marks ("Zalgo") to 30.

    More than that is no writing, and Python's normalisation takes quadratic time: hours for a megabyte of marks.
    """
    stacked = _stacked_marks(0x20000 if _FAR.search(text) else 0x10000)
    return stacked.sub(r"\1", text) if stacked.search(text) else text


def normalise(text: str, form: NormalForm) -> str:
    """Bring text to a normal form; ``cut_stacked_marks`` comes first."""
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)


_UNUSUAL_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


_FAR_UNUSUAL = re.compile("[\U00010000-\U0001efff\U0001fffe-\U0001ffff\U0002fffe-\U0002ffff\U0003fffe-\U0010ffff]")


@cache
def _unusual() -> re.Pattern[str]:
    return re.compile(f"[\v\f\r\x85\u2028\u2029{_CONTROL}{_JOINERS}\ue000-\uf8ff{_marks(0x10000)}]")


def is_usual(text: str) -> bool:
    """Whether no function above but ``normalise`` can have anything to do: one fast look that most texts pass."""
    if text.isascii():
        return _UNUSUAL_ASCII.search(text) is None
    if _unusual().search(text):
        return False
    return _FAR.search(text) is None or _FAR_UNUSUAL.search(text) is None


# Broken encodings: UTF-8 that was read as an encoding of one byte a character ("â€™" for "’"). ftfy repairs them, with
# great care and slowly (2-8 MB/s), so it sees only the lines that hold a sequence such a mistake must produce.

_CODE_PAGES = ("latin-1", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "iso8859-2")
_CHINESE = re.compile("[\u3400-\u9fff]")
_LONG_LINE = 1 << 16
_PIECE = re.compile(f"[^\n]{{1,{_LONG_LINE}}}+[^\n ]{{0,64}}+")  # a longer line is mended in pieces


def _decoded(encoding: str, first: int, last: int) -> str:
    """Return what the bytes from ``first`` to ``last`` look like when read so, for use inside [...]."""
    sloppy = (bytes([byte]).decode(encoding, errors="ignore") or chr(byte) for byte in range(first, last + 1))
    return "".join(re.escape(char) for char in sloppy)


def _sequences(encoding: str, two: tuple[int, int], three: tuple[int, int], four: tuple[int, int]) -> str:
    """Return alternatives for the rest of a UTF-8 sequence of two, three and four bytes, each looking back at its first."""
    rest = f"[{_decoded(encoding, 0x80, 0xBF)}]"
    heads = (two, three, four)
    return "|".join(f"(?<=[{_decoded(encoding, *head)}]){rest * length}" for length, head in enumerate(heads, start=1))


@cache
def suspicious() -> re.Pattern[str]:
    """Return the pattern of what misread UTF-8 looks like, and of C1 control characters.

    Mac Roman and code page 437 turn quotes and dashes, or line drawings, into first bytes; of theirs only such first
    bytes count that English, other Western text and Chinese have (C2, C3; E2 to EF; F0).
    """
    full = ((0xC2, 0xDF), (0xE0, 0xEF), (0xF0, 0xF4))
    western = ((0xC2, 0xC3), (0xE2, 0xEF), (0xF0, 0xF0))
    pages = [(page, full) for page in _CODE_PAGES] + [("mac_roman", western), ("cp437", western)]
    heads = "".join(_decoded(page, *head) for page, ranges in pages for head in ranges)
    rest = "|".join(_sequences(page, *ranges) for page, ranges in pages)
    follow = "".join(_decoded(page, 0x80, 0xBF) for page, _ in pages)
    # One class in front of everything lets the search skip over clean text at full speed; the next one, over Cyrillic.
    return re.compile(f"[{heads}\x80-\x9f](?:(?=[{follow}])(?:{rest})|(?<=[ÂÃ]) |(?<=[\x80-\x9f]))")


def repair_encoding(text: str) -> str:
    """Undo, line by line, the reading of UTF-8 in a wrong encoding, also where it happened more than once.

    Only ftfy's repair of encodings is used; quotes, ligatures, widths and HTML entities stay as they are. A lone C1
    control character becomes what Windows-1252 has there (``\\x92`` is ’), but not beside Chinese, where it is a stray byte.
    """
    if text.isascii() or not suspicious().search(text):
        return text
    result = _PIECE.sub(_repaired, text)
    return text if result == text else result


def _repaired(match: re.Match[str]) -> str:
    line = match[0]
    if line.isascii() or not suspicious().search(line):
        return line
    from ftfy import TextFixerConfig, fix_encoding

    return fix_encoding(line, TextFixerConfig(explain=False, fix_c1_controls=_CHINESE.search(line) is None))
