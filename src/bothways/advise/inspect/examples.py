"""A look at task files: their columns, lengths, copies and labels, and what train and test have in common.

Task files are read into memory, as fine-tuning reads them. What is checked follows from the columns that a task has, so
a new task is looked at without being named here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bothways import discover, progress
from bothways.advise.inspect.counting import Distribution, Reservoir
from bothways.advise.inspect.findings import Finding, counted, error, remark, share, warning
from bothways.errors import UserError, unknown
from bothways.language import word_list
from bothways.tasks.task import get_task
from bothways.text.overlap.overlap import OverlapReport, overlap
from bothways.text.reading.documents import IngestReport, Record, read_records
from bothways.text.reading.files import Paths

# Tasks whose files can be looked at before the task itself is built: what is read, what is answered.
LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "question_answering": (("question", "context"), ("answers",)),
    "translation": (("source",), ("target",)),
    "pairs": (("source", "target"), ("label",)),
}
SHOWN, SHOWN_COLUMNS = 5, 20
FEW_SHARED = 0.01  # share of test examples with passages of train that may be chance
EXCERPT = 400  # characters of a cell that is shown


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """Examples in memory.

    Attributes:
        examples: column to value, those with a cell that is missing left out.
        sources: where each stands.
        missing: column to the places of rows in which it is missing or empty.
        report: what became of the lines.
    """

    examples: list[dict[str, Any]]
    sources: list[str]
    missing: dict[str, list[str]] = field(default_factory=dict)
    report: IngestReport = field(default_factory=IngestReport)


def task_names() -> list[str]:
    """Return the names of tasks whose files can be looked at."""
    return sorted({*discover.names("tasks"), *LAYOUTS})


def task_columns(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that a task reads, and those that it answers.

    Raises:
        UserError: there is no such task.
    """
    stem = name.replace("-", "_")
    if stem in discover.names("tasks"):
        task = get_task(stem)
        return tuple(task.INPUTS), tuple(task.ANSWERS)
    if stem not in LAYOUTS:
        raise unknown("task", name, task_names())
    return LAYOUTS[stem]


def read_task_file(
    paths: Paths, columns: Sequence[str], renamed: Mapping[str, str], *, delimiter: str | None = None
) -> TaskFile:
    """Read task files, leaving out and counting the rows that training would stop at.

    Args:
        paths: files and folders.
        columns: that every row should have.
        delimiter: between the cells of csv files; None: a comma.
        renamed: the task's name of a column to the name it has in the files.
    Raises:
        UserError: nothing can be read, or a column is in no row at all.
    """
    report = IngestReport()
    records = read_records(paths, on_bad="skip", max_bad=1.0, report=report, delimiter=delimiter)
    found = TaskFile(examples=[], sources=[], report=report)
    names: Counter[str] = Counter()
    rows = 0
    for record in flattened(progress.track(records, "Reading examples")):
        rows += 1
        values = {**record.values, **{column: record.values.get(name) for column, name in renamed.items()}}
        names.update(name for name, value in record.values.items() if value is not None)
        empty = [column for column in columns if not _has_content(values.get(column))]
        for column in empty:
            found.missing.setdefault(column, []).append(record.source)
        if not empty:
            found.examples.append({column: _as_text(column, value) for column, value in values.items()})
            found.sources.append(record.source)
    _check_columns(rows, columns, renamed, names, found)
    return found


def _check_columns(
    rows: int, columns: Sequence[str], renamed: Mapping[str, str], names: Counter[str], found: TaskFile
) -> None:
    """Refuse files of which no row can be used."""
    if not rows:
        report = found.report
        why = f"; the first line that cannot be read: {report.first_rejected[0]}" if report.first_rejected else ""
        raise UserError(f"there is not one example in the files; they need the columns {', '.join(columns)}{why}")
    absent = [renamed.get(column, column) for column in columns if not names[renamed.get(column, column)]]
    if absent:
        there = [name for name, _ in names.most_common()]
        other = next((name for name in there if name not in columns), "NAME")
        raise UserError(
            f"no row has the column {absent[0]!r}; there are {', '.join(map(repr, there[:SHOWN_COLUMNS]))} (the first line of "
            f"a table must name them). Say which one is meant, as in --column {absent[0]}={other}"
        )
    if not found.examples:
        column = max(found.missing, key=lambda name: len(found.missing[name]))
        raise UserError(
            f"not one of {rows:,} rows has all the columns {', '.join(columns)}: {column!r} is empty in "
            f"{len(found.missing[column]):,} of them, first in {found.missing[column][0]}; fill them in"
        )


def _has_content(value: Any) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _as_text(column: str, value: Any) -> Any:
    """Return a label that is a number as text, as fine-tuning takes it; else the value."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if plain and column == "label" else value


def flattened(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records, those of SQuAD's nested files taken apart into question, context and answers."""
    for record in records:
        articles = record.values.get("data")
        if not isinstance(articles, list):
            yield record
            continue
        for number, article in enumerate(articles):
            for paragraph in article.get("paragraphs", []) if isinstance(article, Mapping) else []:
                for asked in paragraph.get("qas", []):
                    values = {"question": asked.get("question"), "context": paragraph.get("context")}
                    source = f"{record.source}, article {number + 1}, question {asked.get('id', '?')}"
                    yield Record(values={**values, "answers": asked.get("answers")}, source=source)


def describe(file: TaskFile, inputs: Sequence[str], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Return the figures of one file: lines, examples, lengths of each column, copies, and a sample."""
    texts = Reservoir(SHOWN, seed)
    for example, source in zip(file.examples, file.sources, strict=True):
        texts.add({"source": source, **{name: cell(example[name]) for name in (*inputs, *answers)}})
    keys = [normal_key(example, inputs) for example in file.examples]
    whole = [normal_key(example, (*inputs, *answers)) for example in file.examples]
    return {
        "examples": len(file.examples),
        "ingest": file.report.to_dict(),
        "missing": {column: len(places) for column, places in file.missing.items()},
        "columns": {name: lengths(file, name) for name in (*inputs, *answers)},
        "same_inputs": len(keys) - len(set(keys)),
        "same_examples": len(whole) - len(set(whole)),
        "samples": texts.items,
    }


def lengths(file: TaskFile, column: str) -> dict[str, Any]:
    """Return the lengths of a column's cells."""
    characters, words = Distribution(), Distribution()
    values: set[str] = set()
    for example in file.examples:
        text = cell_text(example[column])
        values.add(text)
        characters.add(len(text))
        words.add(len(word_list(text)))
    return {"distinct": len(values), "characters": characters.to_dict(), "words": words.to_dict()}


def cell_text(value: Any) -> str:
    """Return a cell as text; of a list of answers, or SQuAD's mapping of them, all texts."""
    if isinstance(value, Mapping):
        value = value.get("text", "")
    if isinstance(value, list):
        return " | ".join(cell_text(item) for item in value)
    return value if isinstance(value, str) else str(value)


def cell(value: Any) -> str:
    """Return a cell as it is shown."""
    text = cell_text(value)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def normal_key(example: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Return columns in lower case with single spaces, by which copies are found."""
    return tuple(" ".join(cell_text(example[column]).lower().split()) for column in columns)


def file_findings(figures: Mapping[str, Any], file: TaskFile, name: str) -> Iterator[Finding]:
    """Yield what there is to say about one file, whatever the task."""
    count = figures["examples"]
    if rejected := file.report.rejected:
        fact = f"{counted(rejected, 'line')} of {name} cannot be read, the first: {file.report.first_rejected[0]}"
        yield error("bad lines", fact.rstrip("."), "mend them: fine-tuning stops there")
    for column, places in file.missing.items():
        fact = f"{column!r} is missing or empty in {counted(len(places), 'row')} of {name}, first in {places[0]}"
        yield error("missing cells", fact, "fill them in or leave the rows out: fine-tuning stops there")
    if same := figures["same_examples"]:
        level = warning if same > 0.01 * count else remark
        yield level("duplicates", f"{same:,} of {count:,} examples of {name} are copies of others", "leave them out")
    if count < 100 and name != "test":
        yield warning(
            "few examples", f"{name} has {counted(count, 'example')}", "give a hundred or more; a thousand is better"
        )


def find_overlap(train: TaskFile, test: TaskFile, inputs: Sequence[str]) -> OverlapReport:
    """Look for the test examples among the training examples."""
    sides = [
        [{column: cell_text(example[column]) for column in inputs} for example in file.examples]
        for file in (train, test)
    ]
    return overlap(sides[0], sides[1], train_sources=train.sources, test_sources=test.sources)


def overlap_finding(found: OverlapReport) -> Iterator[Finding]:
    """Yield a warning where test examples stand in the training examples."""
    if not found.found:
        return
    kinds = {"word for word": found.exact, "in large part": found.ngram, "nearly": found.near}
    parts = ", ".join(f"{number:,} {how}" for how, number in kinds.items() if number)
    fact = f"{found.found:,} of {found.of:,} test examples ({share(found.found, found.of)}) stand in train: {parts}"
    level = error if found.exact or found.share > FEW_SHARED else warning
    yield level("overlap", fact, "take them out of one of the two, or the scores will flatter")
