"""A look at raw text: reading, survey, copies, tokens and recipes brought together."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways import progress
from bothways.advise.inspect.copies import Copies
from bothways.advise.inspect.corpus import Survey
from bothways.advise.inspect.diagnosis import corpus_findings
from bothways.advise.inspect.findings import Finding, counted, remark
from bothways.advise.inspect.reading import STDIN, columns_of, read_all
from bothways.advise.inspect.sizes import recipe_fits
from bothways.advise.inspect.tokens import TokenMeter
from bothways.errors import UserError
from bothways.text.reading.documents import FORMATS, Document
from bothways.text.reading.files import find_files
from bothways.text.tokenizing.tokenizer import Tokenizer

LABELS = ("label", "labels", "class", "category")


def look_at_text(
    paths: Sequence[Path],
    *,
    text_column: str = "text",
    delimiter: str | None = None,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the figures and findings of raw text, in less than 500 MB of memory whatever its size.

    Args:
        paths: what ``prepare`` takes, or ``-`` for standard input.
        text_column: of jsonl and csv files.
        delimiter: between the cells of csv files; None: a comma.
        tokenizer: to count tokens with; None: their number is reckoned from the words.
        seed: of the documents drawn at random.
    Raises:
        UserError: nothing can be read.
    """
    survey = Survey(seed=seed)
    meter = TokenMeter(tokenizer) if tokenizer else None
    with Copies() as copies:

        def take(document: Document) -> None:
            survey.add(document.text, document.source)
            copies.add(document.text, document.source)
            if meter:
                meter.add(document.text)

        read = read_all(paths, take, text_column=text_column, delimiter=delimiter)
        if not survey.documents:
            raise UserError(_nothing(read))
        progress.note("Looking for copies")
        duplicates = copies.to_dict()
    measured = meter.to_dict(all_bytes=survey.bytes) if meter else None
    tokens = measured["tokens"] if measured else survey.tokens()
    kind, vocab_size = (tokenizer.kind, len(tokenizer)) if tokenizer else (None, None)
    figures = {
        **survey.to_dict(),
        **read,
        "duplicates": duplicates,
        "tokenizer": measured,
        "recipes": recipe_fits(tokens, vocab_size=vocab_size, kind=kind),
    }
    return figures, [*corpus_findings(figures), *_labelled(paths)]


def _nothing(read: Mapping[str, Any]) -> str:
    """Return why not one document was found."""
    ingest = read["ingest"]
    if read["unreadable"]:
        return f"not one document can be read: {read['unreadable'][0]['reason']}"
    lines = f"{ingest['lines']:,} lines, {ingest['empty']:,} empty and {ingest['rejected']:,} bad"
    counts = f"{counted(ingest['files'], 'file')} with {lines}"
    if ingest["first_rejected"]:
        first = ingest["first_rejected"][0]
        return f"there is no text: {counts}, the first {first['file']}, line {first['line']}: {first['reason']}"
    return f"there is no text: {counts}; give files that hold some"


def _labelled(paths: Sequence[Path]) -> Iterator[Finding]:
    """Yield a note where the files look like those of a task."""
    if STDIN in paths:
        return
    files, _ = find_files(list(paths), FORMATS)
    label = next((name for name in columns_of(files[0]) if name.lower() in LABELS), None)
    if label:
        fact = f"the file {files[0].name} has a column {label!r}"
        rename = "" if label == "label" else f" --column label={label}"
        yield remark("task file", fact, f"if it is a task file, see its labels by --task classification{rename}")
