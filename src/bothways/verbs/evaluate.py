"""``bothways evaluate`` and ``bothways predict``: what a model says, and how good that is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from bothways import progress
from bothways.checkpoints.checkpoint import Loaded, load
from bothways.config import read_json
from bothways.errors import UserError
from bothways.evaluation.evaluate import Scores, evaluate_task
from bothways.evaluation.training_overlap import Seen, seen_in_training
from bothways.finetuning import Finetuning, with_length
from bothways.tasks.task import Example, Prediction, Task, Way, check_attention, check_examples, get_task
from bothways.text.reading.documents import Record
from bothways.training.machine import default_device
from bothways.verbs.finetune import Paths, read_examples, read_examples_and_sources, unknown_labels
from bothways.verbs.folders import check_file, write_file


def evaluate(
    task: str,
    *,
    model: str | Path,
    test: Paths,
    out: str | Path | None = None,
    fail_on_overlap: bool = False,
    attention: Way | None = None,
    seed: int = 0,
    verify: bool = True,
) -> Scores:
    """Measure a model on a task, each figure with a 95 % interval, beside the baseline and the overlap with training.

    Args:
        task: name of a task.
        model: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        test: files with the task's columns.
        out: a JSON file to write the scores to.
        fail_on_overlap: refuse test examples that stand in the texts that the model was fine-tuned on.
        attention: which way a hybrid reads; by default as the task needs, or both ways. ``"both"``: minimal pairs are
            scored from left to right and both ways, and the scores added.
        seed: of sampling and of the intervals.
        verify: compare the model's files with their hashes.
    Raises:
        UserError: with ``fail_on_overlap``, there are such examples, or it is not known whether there are.
    """
    if out is not None:
        check_file(Path(out))
    found, loaded = load_trained(task, model, attention=attention, verify=verify)
    examples, sources = read_examples_and_sources(found, test)
    seen = seen_in_training(run_of(loaded), found, examples, sources=sources)
    if fail_on_overlap:
        check_unseen(seen)
    if strange := unknown_labels(found, examples):
        progress.note(f"labels that this model has not learnt and can only get wrong: {', '.join(strange)}")
    predictions = found.predict(loaded, examples, seed=seed)
    way = "both" if attention == "both" else loaded.model.config.attention
    scores = evaluate_task(found, task, predictions, examples, model=str(model), attention=way, seen=seen, seed=seed)
    if out is not None:
        write_file(Path(out), json.dumps(scores.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return scores


def check_unseen(seen: Seen) -> None:
    """Refuse a test that a model has seen, or may have seen.

    Raises:
        UserError: it has, or may have.
    """
    if seen.report is None:
        raise UserError(f"overlap cannot be ruled out, since {seen.note}; evaluate without --fail-on-overlap")
    if seen.found:
        raise UserError(f"{'. '.join(seen.sentences())}; take them out of --test, or do without --fail-on-overlap")


def predict(
    task: str, *, model: str | Path, examples: str | Path | Sequence[str | Example], seed: int = 0, verify: bool = True
) -> list[Prediction]:
    """Return a model's answer to each example.

    Args:
        task: name of a task.
        model: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        examples: the path of a file, or a list of texts or of mappings from column to text.
        seed: of sampling.
        verify: compare the model's files with their hashes.
    """
    found, loaded = load_trained(task, model, verify=verify)
    if isinstance(examples, str | Path):
        return found.predict(loaded, read_examples(found, examples, answers=False), seed=seed)
    return found.predict(loaded, given_examples(found, examples), seed=seed)


def given_examples(task: Task, items: Sequence[str | Example]) -> list[Example]:
    """Turn texts, or mappings, into examples: a text is the task's first input."""
    first = next(iter(task.INPUTS))
    records = [
        Record(values=dict(item) if isinstance(item, Mapping) else {first: item}, source=f"example {number}")
        for number, item in enumerate(items, 1)
    ]
    return check_examples(task, records, answers=False)


def load_trained(
    task: str, model: str | Path, *, attention: Way | None = None, verify: bool = True
) -> tuple[Task, Loaded]:
    """Return a task, set as it was when a model was trained for it, and that model.

    Raises:
        UserError: the model was not trained for the task.
    """
    found = get_task(task)
    way = None if attention == "both" else attention or found.ATTENTION or "bidirectional"
    loaded = load(model, attention=way, verify=verify)
    if attention == "both":
        found = found.by_both_ways()
    elif attention is not None:
        loaded.model.config.read_as(attention)  # or it is refused: only a hybrid has a choice
    check_attention(found, task, loaded.model.config)
    restored = found.restored(loaded.labels)
    missing = [head for head in restored.heads() if head not in loaded.model.heads and head != "embedding"]
    if missing:
        remedy = "fine-tune it first" if found.TRAINABLE else "name a pretrained model"
        raise UserError(f"{str(model)!r} was not trained for {task}: it has no {missing[0]} head; {remedy}")
    loaded.model.to(default_device())
    loaded.model.shifted = loaded.model.shifted or shifted_in(loaded)
    if settings := settings_of_run(loaded, task):
        restored = with_length(restored, settings)
    return restored, loaded


def shifted_in(loaded: Loaded) -> bool:
    """Return whether the run of a checkpoint says that hidden tokens are said at the position before them.

    ``config.json`` says so too, but for what was saved by earlier versions.
    """
    file = run_of(loaded) / "experiment.json"
    values = read_json(file) if file.is_file() else None
    objective = values.get("objective") if isinstance(values, Mapping) else None
    return isinstance(objective, Mapping) and objective.get("shifted") is True


def run_of(loaded: Loaded) -> Path:
    """Return the folder of the run to which a checkpoint belongs, if it lies in one: RUN/best or RUN/checkpoints/step-9."""
    above = loaded.folder.resolve().parent
    return above.parent if above.name == "checkpoints" else above


def settings_of_run(loaded: Loaded, task: str) -> Finetuning | None:
    """Return how a model was fine-tuned for a task, if its checkpoint lies in the run that did it."""
    file = run_of(loaded) / "experiment.json"
    values = read_json(file) if file.is_file() else None
    if not isinstance(values, Mapping) or values.get("task") != task.replace("-", "_"):
        return None
    return Finetuning.from_dict(values)


def read_lines(stream: TextIO | None) -> list[str | dict[str, Any]]:
    """Return the examples on standard input: each line a text, or a JSON object if it begins with a brace.

    Blank lines are passed over.

    Raises:
        UserError: it is closed, not UTF-8, or a line begins with a brace and is no JSON object.
    """
    if stream is None:
        raise UserError("standard input is closed; name a file with --input")
    examples: list[str | dict[str, Any]] = []
    for number, line in enumerate(getattr(stream, "buffer", stream), 1):
        where = f"standard input, line {number}"
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}, byte {error.start} of the line is not UTF-8") from None
        if text.lstrip().startswith("{"):
            examples.append(read_object(text, where))
        elif text.strip():
            examples.append(text)
    return examples


def read_object(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object that a line holds."""
    try:
        found = dict(json.loads(text))
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is JSON and no text
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} begins as a JSON object and is no valid one: {error}") from None
    return found
