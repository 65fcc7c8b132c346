"""Which documents train, which validate, which test: decided by the text alone, so that it never changes and never leaks."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from bothways.text.cutting import LONGEST, cut
from bothways.text.reading.documents import Document

FEWEST = 100  # documents that a split by document needs; fewer, and they are cut smaller


def draw(text: str) -> float:
    """Return a number from 0 to 1 that depends on the text alone."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(text: str, *, validation_share: float, test_share: float = 0.0) -> str:
    """Return ``"train"``, ``"validation"`` or ``"test"`` for a text: the same text always falls on the same side."""
    return split_at(draw(text), validation_share=validation_share, test_share=test_share)


def split_at(drawn: float, *, validation_share: float, test_share: float = 0.0) -> str:
    """Return the split of a number that ``draw`` gave."""
    if drawn < validation_share:
        return "validation"
    return "test" if drawn < validation_share + test_share else "train"


def without_duplicates(documents: Iterable[Document]) -> Iterator[Document]:
    """Leave out documents whose text, case and spacing aside, has come before."""
    seen: set[bytes] = set()
    for document in documents:
        digest = hashlib.sha256(" ".join(document.text.lower().split()).encode("utf-8", "surrogatepass")).digest()[:16]
        if digest not in seen:
            seen.add(digest)
            yield document


def cut_long(documents: list[Document]) -> list[Document]:
    """Cut long documents between paragraphs, and shorter ones too where there are so few that none could be held out."""
    most = most_characters(len(documents), sum(len(document.text) for document in documents))
    return [piece for document in documents for piece in pieces(document, most)]


def most_characters(documents: int, characters: int) -> int:
    """Return how long a document may be in a corpus of so many: fewer than ``FEWEST`` are cut to about as many pieces."""
    return LONGEST if documents >= FEWEST else min(LONGEST, max(2_000, characters // FEWEST))


def pieces(document: Document, most: int) -> Iterator[Document]:
    """Yield the pieces of a document of at most ``most`` characters; the second is called ``SOURCE#1``, and so on."""
    if len(document.text) <= most:
        yield document
        return
    for number, part in enumerate(cut(document.text, most)):
        yield replace(document, text=part, source=f"{document.source}#{number}" if number else document.source)
