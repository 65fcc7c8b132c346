"""Reads raw text for the survey: a file that cannot be read is reported, and the others are read all the same."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bothways import progress
from bothways.errors import UserError
from bothways.text.reading.documents import FORMATS, Document, IngestReport, Intake, Stretch, documents_of
from bothways.text.reading.files import SourceFile, find_files
from bothways.text.reading.parts import spool

SHOWN = 20
STDIN = Path("-")

Take = Callable[[Document], None]


def read_all(paths: Sequence[Path], take: Take, *, text_column: str, delimiter: str | None = None) -> dict[str, Any]:
    """Give ``take`` every document of files, folders and, as ``-``, standard input; return what became of each line.

    Raises:
        UserError: a path is missing, or holds no file that is read.
    """
    total = IngestReport()
    kinds: dict[str, Counter[str]] = {}
    unreadable: list[dict[str, str]] = []
    wrong = 0
    with stretches_of(paths, total) as (stretches, size), progress.bar("Reading", size) as bar:
        for stretch in stretches:
            report = IngestReport()
            intake = Intake("skip", 1.0, report, delimiter=delimiter, judging=False)
            try:
                _read(stretch, take, intake, text_column, bar)
            except UserError as error:
                wrong += 1
                if len(unreadable) < SHOWN:
                    unreadable.append({"file": stretch.file.shown, "reason": str(error)})
            total.add(report)
            kind = stretch.file.format + stretch.file.compression
            found = {"files": report.files, "documents": report.documents, "bytes": report.bytes}
            kinds.setdefault(kind, Counter()).update(found)
    return {
        "kinds": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "ingest": total.to_dict(),
        "unreadable": unreadable,
        "unreadable_files": wrong,
    }


@contextmanager
def stretches_of(paths: Sequence[Path], total: IngestReport) -> Iterator[tuple[Iterator[Stretch], int | None]]:
    """Give what is to be read, and its bytes if they are known."""
    if STDIN in paths:
        if len(paths) > 1:
            raise UserError("- is standard input, and no other path may be named beside it")
        if sys.stdin is None:
            raise UserError("standard input is closed; name a file")
        with TemporaryDirectory(prefix="bothways-inspect-") as folder:
            yield _spooled(Path(folder)), None
        return
    files, skipped = find_files(list(paths), FORMATS)
    total.skipped_files = skipped
    packed = any(file.compression or file.format == "hub" for file in files)
    yield (Stretch(file=file) for file in files), None if packed else sum(file.size for file in files)


def _spooled(folder: Path) -> Iterator[Stretch]:
    """Yield parts of standard input; each lies on the disk only until it has been read."""
    for part in spool(sys.stdin.buffer, folder):
        (file,) = part.files
        yield Stretch(file=file, bytes_before=part.bytes_before, lines_before=part.lines_before)
        file.path.unlink()


def _read(stretch: Stretch, take: Take, intake: Intake, text_column: str, bar: progress.Bar) -> None:
    report, before = intake.report, 0
    try:
        for document in documents_of([stretch], intake, text_column):
            take(document)
            bar.advance(report.bytes - before, stretch.file.name)
            before = report.bytes
    finally:
        bar.advance(report.bytes - before)


def columns_of(file: SourceFile) -> list[str]:
    """Return the columns of the first sound row of a file that has rows; none of other files, or if there is no row."""
    from bothways.text.reading.documents import RECORD_READERS, read_records

    if file.format not in RECORD_READERS:
        return []
    try:
        return list(next(read_records(file.path, on_bad="skip", max_bad=1.0)).values)
    except (StopIteration, UserError):
        return []
