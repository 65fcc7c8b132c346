"""Whether a model has seen the examples that it is tested on: every score comes with the answer.

A fine-tuned run keeps hashes of the words that it was trained on, in ``training_texts.npz``: 8 bytes a word before
compression, and no text. They stay with the run, whatever becomes of the files. A run on more than eight million words
keeps only the names of its files, and then it is not known whether a test overlaps them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bothways.tasks.task import Example, Task
from bothways.text.overlap.overlap import HashedExamples, OverlapReport, overlap

TRAINING_TEXTS = "training_texts.npz"
MOST_WORDS = 8_000_000
UNKNOWN = "it is not known which texts this model was trained on"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How many test examples stand in the texts that a model was fine-tuned on.

    Attributes:
        report: the counts; None: it is not known.
        files: that the model was trained on.
        note: why it is not known; or empty.
        in_collection: queries that stand in the collection as they are; None: the task has no collection.
    """

    report: OverlapReport | None
    files: tuple[str, ...] = ()
    note: str = UNKNOWN
    in_collection: OverlapReport | None = None

    @property
    def found(self) -> int:
        """Examples that overlap, as far as is known."""
        return sum(report.found for report in (self.report, self.in_collection) if report)

    def to_dict(self) -> dict[str, Any] | None:
        """Return plain values, without examples; None if it is not known."""
        if self.report is None:
            return None
        values = self.report.to_dict()
        del values["examples"]
        return {**values, "train": list(self.files)}

    def sentences(self) -> list[str]:
        """Return what to tell a person."""
        told = [f"Overlap with the training files: {self.note}"]
        if self.report is not None:
            told = [f"Overlap with the training files: {in_words(self.report)}"]
        if self.in_collection is not None and self.in_collection.found:
            first = next((f"; the first is {each.test}" for each in self.in_collection.examples), "")
            told.append(
                f"{self.in_collection.found:,} of {self.in_collection.of:,} queries stand in the collection as they "
                f"are, and finding such is no feat{first}"
            )
        return told


def in_words(report: OverlapReport) -> str:
    """Return a report as one phrase."""
    if not report.found:
        return f"none of {report.of:,} examples"
    kinds = {"the same": report.exact, "13 words in a row": report.ngram, "all but one word": report.near}
    parts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    where = next((f"; the first is {each.test}, which {each.train} holds" for each in report.examples), "")
    return f"{report.found:,} of {report.of:,} examples ({report.share:.1%}: {parts}){where}"


def texts(task: Task, examples: Sequence[Example]) -> list[dict[str, str]]:
    """Return the columns of examples that hold text of their own: all that the task reads, except the label."""
    columns = [column for column in {**task.INPUTS, **task.ANSWERS} if column != "label"]
    return [{column: example[column] for column in columns if column in example} for example in examples]


def keep_training_texts(
    folder: Path, task: Task, examples: Sequence[Example], *, sources: Sequence[str], files: Sequence[str | Path]
) -> HashedExamples:
    """Write the hashes of what a run is trained on into its folder, and return them all.

    Args:
        folder: the RUN.
        task: whose columns the examples have.
        examples: that it is trained on.
        sources: where each of them stands.
        files: from which they were read.
    """
    hashed = replace(HashedExamples.of(texts(task, examples), sources), files=tuple(map(str, files)))
    kept = hashed
    if len(hashed.texts.hashes) > MOST_WORDS:
        kept = replace(HashedExamples.of([]), files=hashed.files)
    kept.save(folder / TRAINING_TEXTS)
    return hashed


def seen_in_training(folder: Path, task: Task, examples: Sequence[Example], *, sources: Sequence[str]) -> Seen:
    """Look for test examples among the texts that the run in a folder was trained on.

    Args:
        folder: a RUN, or any folder, of which then nothing is known.
        task: whose columns the examples have.
        examples: to be tested on.
        sources: where each of them stands.
    Raises:
        DamagedFileError: the run's training texts cannot be read.
    """
    tested = texts(task, examples)
    collection = queries_in_collection(tested, sources)
    file = folder / TRAINING_TEXTS
    if not file.is_file():
        return Seen(report=None, in_collection=collection)
    trained = HashedExamples.load(file)
    if not len(trained):
        note = f"the model was trained on more than {MOST_WORDS:,} words, of which only the files' names were kept"
        return Seen(report=None, files=trained.files, note=note, in_collection=collection)
    report = overlap(trained, tested, test_sources=sources)
    return Seen(report=report, files=trained.files, note="", in_collection=collection)


def queries_in_collection(examples: Sequence[Mapping[str, str]], sources: Sequence[str]) -> OverlapReport | None:
    """Return which queries are, word for word, documents of the collection; None where there is no collection."""
    if not examples or not {"query", "document"} <= examples[0].keys():
        return None
    documents = list(dict.fromkeys(example["document"] for example in examples))
    found = overlap(documents, [example["query"] for example in examples], test_sources=sources)
    same = tuple(each for each in found.examples if each.kind == "exact")
    return replace(found, ngram=0, near=0, examples=same)
