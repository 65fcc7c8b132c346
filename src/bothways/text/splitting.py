"""Which documents train, which validate, which test: decided by the text alone, so that it never changes and never leaks."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from bothways.text.documents import Document

LONGEST = 100_000  # characters of a document; longer ones are cut between paragraphs
FEWEST = 100  # documents that a split by document needs; fewer, and they are cut smaller


def split_of(text: str, *, validation_share: float, test_share: float = 0.0) -> str:
    """Return ``"train"``, ``"validation"`` or ``"test"`` for a text: the same text always falls on the same side."""
    draw = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    if draw < validation_share:
        return "validation"
    return "test" if draw < validation_share + test_share else "train"


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
    total = sum(len(document.text) for document in documents)
    most = LONGEST if len(documents) >= FEWEST else min(LONGEST, max(2_000, total // FEWEST))
    return [
        replace(document, text=part, source=f"{document.source}#{number}" if number else document.source)
        for document in documents
        for number, part in enumerate(_parts(document.text, most))
    ]


def _parts(text: str, most: int) -> list[str]:
    if len(text) <= most:
        return [text]
    parts, start = [], 0
    while len(text) - start > most:
        middle, stop = start + most // 2, start + most
        cut = max(text.rfind(mark, middle, stop) + len(mark) for mark in ("\n\n", "\n", "。", ". "))
        cut = cut if cut > middle else stop
        parts.append(text[start:cut])
        start = cut
    return [*parts, text[start:]]
