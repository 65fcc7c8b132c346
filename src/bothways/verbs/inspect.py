"""``bothways inspect``: what is in text, prepared data or task files, and what should be mended before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bothways.advise.inspect.collection import is_collection, look_at_collection
from bothways.advise.inspect.findings import Finding, ranked
from bothways.advise.inspect.prepared import is_prepared, look_at_data
from bothways.advise.inspect.task_files import look_at_examples
from bothways.advise.inspect.text import look_at_text
from bothways.checkpoints.hub import tokenizer_place
from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.folders import check_file, write_file

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        figures: all of them, in JSON's own types; ``kind`` is ``text``, ``data`` or ``examples``.
        findings: what should be known before training, the gravest first.
        out: the page that was written, if one was asked for.
    """

    figures: Mapping[str, Any]
    findings: Sequence[Finding]
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return figures and findings as plain values."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            **self.figures,
            "out": None if self.out is None else str(self.out),
        }

    def to_html(self) -> str:
        """Return the page: one file that loads nothing."""
        from bothways.advise.inspect.page import render_page

        return render_page(self.figures, self.findings)


def inspect(
    paths: Paths,
    *,
    task: str | None = None,
    test: Paths | None = None,
    columns: Mapping[str, str] | None = None,
    text_column: str = "text",
    delimiter: str | None = None,
    tokenizer: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> Inspection:
    """Look at text, prepared data or task files, and say what should be known before training.

    Args:
        paths: files and folders of raw text (``-``: standard input), or DATA that ``prepare`` made; with ``task``, the
            training files of a task, for retrieval also a folder with corpus.jsonl, queries.jsonl and qrels/.
        task: name of a task whose files these are.
        test: test files of the task.
        columns: the task's name of a column to the name that the files have for it, where they differ.
        text_column: of raw text in jsonl and csv files.
        delimiter: between the cells of csv files; None: a comma.
        tokenizer: a tokenizer.json, or a folder with one (a model, a run, DATA): tokens are counted by it; without it,
            their number is reckoned from the words.
        out: an HTML file to write a page to.
        seed: of what is drawn at random to be shown.
    Raises:
        UserError: nothing can be read, no such task, or a page that cannot be written.
        DamagedFileError: DATA is not what its manifest says.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if out is not None:
        check_file(Path(out))
    if task is None and (test is not None or columns):
        raise UserError("--test and --column are for task files; say which task by --task")
    if task == "retrieval" and test is None and is_collection(given):
        figures, findings = look_at_collection(given[0], seed=seed)
        kind = "examples"
    elif task is not None:
        figures, findings = look_at_examples(task, given, test=test, columns=columns, delimiter=delimiter, seed=seed)
        kind = "examples"
    elif len(given) == 1 and is_prepared(given[0]):
        figures, findings = look_at_data(given[0], seed=seed)
        kind = "data"
    else:
        measure = None if tokenizer is None else load_tokenizer(tokenizer)
        figures, findings = look_at_text(
            given, text_column=text_column, delimiter=delimiter, tokenizer=measure, seed=seed
        )
        kind = "text"
    about = {"bothways": version("bothways"), "kind": kind, "paths": [str(path) for path in given]}
    found = Inspection(figures={**about, **figures}, findings=ranked(findings), out=None if out is None else Path(out))
    if found.out is not None:
        write_file(found.out, found.to_html().encode("utf-8", "backslashreplace").decode())
    return found


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the tokenizer of a file, a model, a run or prepared data."""
    return Tokenizer.load(tokenizer_place(path))
