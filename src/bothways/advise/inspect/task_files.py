"""A look at the files of a task: what is read, what was found, train and test together."""

from collections.abc import Mapping
from typing import Any

from bothways.advise.inspect.checks import check_file, unseen_labels
from bothways.advise.inspect.examples import (
    describe,
    file_findings,
    find_overlap,
    overlap_finding,
    read_task_file,
    task_columns,
)
from bothways.advise.inspect.findings import Finding
from bothways.text.reading.files import Paths


def look_at_examples(
    task: str,
    train: Paths,
    *,
    test: Paths | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the figures and findings of task files.

    Args:
        task: name of a task.
        train: its training files.
        test: its test files.
        columns: the task's name of a column to the name it has in the files, where they differ.
        delimiter: between the cells of csv files; None: a comma.
        seed: of the examples drawn at random.
    Raises:
        UserError: there is no such task, or no example can be read.
    """
    inputs, answers = task_columns(task)
    wanted = (*inputs, *answers)
    read = {"train": read_task_file(train, wanted, columns or {}, delimiter=delimiter)}
    if test is not None:
        read["test"] = read_task_file(test, wanted, columns or {}, delimiter=delimiter)
    figures: dict[str, Any] = {"task": task, "inputs": list(inputs), "answers": list(answers), "files": {}}
    findings: list[Finding] = []
    for name, file in read.items():
        described = describe(file, inputs, answers, seed=seed)
        checks, said = check_file(file, name, inputs, answers)
        figures["files"][name] = {**described, "checks": checks}
        findings += [*file_findings(described, file, name), *said]
    if "test" in read:
        found = find_overlap(read["train"], read["test"], inputs)
        figures["overlap"] = found.to_dict()
        findings += overlap_finding(found)
        if "label" in answers:
            findings += unseen_labels(read["train"], read["test"])
    return figures, findings
