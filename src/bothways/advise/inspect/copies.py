"""Copies among the documents of a corpus, exact and near: what prepare would leave out, found on disk in bounded memory."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from bothways.text.copies.deduplication import Deduplication, DuplicateReport, Fingerprints, find_duplicates


class Copies:
    """Takes documents one by one; a context manager, since it keeps about a kilobyte of each in a temporary folder."""

    def __init__(self, settings: Deduplication | None = None) -> None:
        self._settings = settings or Deduplication()
        self._count = 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="bothways-inspect-")))
        self._writing = self._stack.enter_context(ExitStack())
        self._sources = self._writing.enter_context((self._folder / "sources").open("w", encoding="utf-8"))
        self._fingerprints = self._writing.enter_context(Fingerprints(self._folder, 0, self._settings))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, text: str, source: str) -> None:
        """Take the next document."""
        file = source.rpartition(":")[0] or source
        self._fingerprints.add(text, source=file)
        self._sources.write(source.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n") + "\n")
        self._count += 1

    def to_dict(self) -> dict[str, Any]:
        """Return how many documents are copies of earlier ones, and the first of them; nothing can be added after."""
        self._writing.close()
        found = find_duplicates(self._folder, [self._count], self._settings)
        return {
            "documents": found.documents,
            "exact": found.exact,
            "near": found.near,
            "share": round(found.dropped / max(1, found.documents), 6),
            "within_files": found.within_source,
            "across_files": found.across_sources,
            "threshold": self._settings.threshold,
            "examples": self._examples(found),
        }

    def _examples(self, found: DuplicateReport) -> list[dict[str, Any]]:
        """Return the first copies, with the sources of both documents."""
        shown = found.examples
        wanted = {index.document for each in shown for index in (each.dropped, each.original)}
        with (self._folder / "sources").open(encoding="utf-8") as lines:
            sources = {number: line.rstrip("\n") for number, line in enumerate(lines) if number in wanted}
        return [
            {
                "kind": each.kind,
                "copy": sources[each.dropped.document],
                "original": sources[each.original.document],
                "similarity": round(each.similarity, 3),
            }
            for each in shown
        ]
