"""``bothways finetune``: a model and labelled examples to a model for a task."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bothways import progress
from bothways.checkpoints.checkpoint import Loaded, checkpoints_in, load
from bothways.errors import UserError
from bothways.evaluation.card import write_card
from bothways.evaluation.loss_curves import plot_run
from bothways.evaluation.training_overlap import in_words, keep_training_texts, texts
from bothways.finetuning import Finetuning, finetune_model, with_length
from bothways.tasks.task import Example, Task, check_attention, check_examples, get_task
from bothways.text.overlap.overlap import OverlapReport, overlap
from bothways.text.reading.documents import Record, read_records
from bothways.training.batches import check_compared
from bothways.training.cost import PowerMeter
from bothways.training.distributed import PATIENCE, Group, joined
from bothways.training.machine import default_device
from bothways.training.trainer import Run, Trained
from bothways.training.weights_and_biases import check_installed
from bothways.verbs.folders import check_free, locked_by_first
from bothways.verbs.resuming import OF_THE_MACHINES

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A finished run.

    Attributes:
        folder: the RUN.
        settings: of the run.
        trained: what came of it.
        overlap: how many validation examples stand in the training files; None: there are none.
    """

    folder: Path
    settings: Finetuning
    trained: Trained
    overlap: OverlapReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, ``validation`` being those of the model in ``best/``."""
        steps, seconds, validation = self.trained.steps, round(self.trained.seconds, 2), self.trained.best
        figures = {"run": str(self.folder), "steps": steps, "seconds": seconds, "validation": validation}
        if self.overlap is None:
            return figures
        counts = self.overlap.to_dict()
        del counts["examples"]
        return {**figures, "validation_overlap": counts}


def finetune(
    task: str,
    *,
    model: str | Path,
    train: Paths,
    out: str | Path,
    validation: Paths | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    seed: int = 0,
    wandb: str | None = None,
    verify: bool = True,
) -> Finetuned:
    """Fine-tune a model for a task.

    Args:
        task: name of a task, such as ``"classification"``.
        model: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        train: jsonl, json, csv or tsv files with the task's columns.
        out: the RUN folder to make.
        validation: files by which the best checkpoint is chosen, after every epoch or as ``training.evaluate_every`` says.
        settings: ``"dotted.name=value"`` overrides, such as ``epochs=5`` or ``training.learning_rate=3e-5``.
        resume: go on with the interrupted run in ``out``, or start it if there is none.
        seed: of the order of examples, of dropout and of a new head.
        verify: compare the model's files with their hashes.
        wandb: a project of Weights & Biases to send the records to, too; needs the extra ``bothways[wandb]``.
    """
    begun = Finetuning(task=task.replace("-", "_"), seed=seed)
    with joined(patience_of(begun, settings)) as group:
        return _finetune(
            group,
            begun,
            settings=settings,
            model=model,
            train=train,
            folder=Path(out),
            validation=validation,
            resume=resume,
            wandb=wandb,
            verify=verify,
        )


def _finetune(
    group: Group,
    begun: Finetuning,
    *,
    settings: Sequence[str],
    model: str | Path,
    train: Paths,
    folder: Path,
    validation: Paths | None,
    resume: bool,
    wandb: str | None,
    verify: bool,
) -> Finetuned:
    """Do it, as one process of a group."""
    with group.agreeing():
        if wandb:
            check_installed()
        chosen = begun.override(settings)
        chosen.check_used()
        found = with_length(get_task(chosen.task), chosen)
    if not group.first_only(lambda: resume and (folder / "experiment.json").exists()):
        group.first_only(lambda: check_free(folder, kind=chosen.task))
    with group.agreeing():
        examples, sources = read_examples_and_sources(found, train)
        held_out, held_out_sources = read_examples_and_sources(found, validation) if validation else ([], [])
        if found.PACKS_ALL:
            check_compared(len(examples), chosen.batch_size)
        fitted = found.fitted_to(examples)
        if strange := unknown_labels(fitted, held_out):
            raise UserError(f"--validation has labels that --train has not: {', '.join(strange)}")
        loaded = load_for_task(fitted, chosen.task, model, seed=chosen.seed, verify=verify)
        chosen = begun.suited_to(loaded.model).override(settings)
    labels = getattr(fitted, "labels", None) or None
    with locked_by_first(folder, group):
        shared = None
        if group.first:
            if not checkpoints_in(folder):  # else the trainer refuses what differs, and the file must stay as it is
                chosen.save(folder / "experiment.json")
            kept = keep_training_texts(folder, found, examples, sources=sources, files=paths_of(train))
            shared = overlap(kept, texts(found, held_out), test_sources=held_out_sources) if held_out else None
            if shared and shared.found:
                progress.note(f"Overlap of --validation with the training files: {in_words(shared)}")
        run = Run(
            folder=folder,
            tokenizer=loaded.tokenizer,
            labels=labels,
            fingerprint={"model": str(model), "examples": digest(examples), **made_by(chosen)},
            saved=partial(plot_run, pictures=["loss.svg"]),
            wandb_project=wandb,
        )
        options: dict[str, Any] = {"settings": chosen, "validation": held_out, "run": run, "resume": resume}
        try:
            with PowerMeter() as meter:
                trained = finetune_model(fitted, loaded, examples, **options)
        finally:
            if group.first:
                plot_run(folder)
        done = Finetuned(folder=folder, settings=chosen, trained=trained, overlap=shared)
        files = Counter(source.rpartition(":")[0] for source in sources)
        if group.first:
            write_card(
                folder,
                title=f"{chosen.task} from {model}",
                figures=done.to_dict(),
                data=[{"folder": file, "examples": count} for file, count in files.items()],
                trained=trained,
                meter=meter,
            )
    return done


def patience_of(begun: Finetuning, settings: Sequence[str]) -> float:
    """Return how long processes wait for each other; what is wrong with the settings is said once they are together."""
    try:
        return begun.override(settings).training.patience
    except UserError:
        return PATIENCE


def made_by(settings: Finetuning) -> dict[str, Any]:
    """Return the settings that a run must keep when it is resumed."""
    return {name: value for name, value in settings.flat().items() if name not in OF_THE_MACHINES}


def read_examples(task: Task, paths: Paths, *, answers: bool = True) -> list[Example]:
    """Return the examples in files."""
    return read_examples_and_sources(task, paths, answers=answers)[0]


def read_examples_and_sources(task: Task, paths: Paths, *, answers: bool = True) -> tuple[list[Example], list[str]]:
    """Return the examples in files, and where each of them stands."""
    sources: list[str] = []

    def noted(records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            sources.append(record.source)
            yield record

    columns = [column for column in (*task.INPUTS, *(task.ANSWERS if answers else ())) if column not in task.ALIASES]
    examples = check_examples(task, noted(read_records(paths_of(paths), columns=columns)), answers=answers)
    return examples, sources


def paths_of(paths: Paths) -> list[str | Path]:
    """Return one path or several as a list."""
    return [paths] if isinstance(paths, str | Path) else list(paths)


def digest(examples: Sequence[Example]) -> str:
    """Return what tells these examples from any others."""
    return hashlib.sha256(json.dumps(examples).encode()).hexdigest()[:16]


def unknown_labels(task: Task, examples: Sequence[Example]) -> list[str]:
    """Return the labels of examples that a task, if it has labels at all, cannot give."""
    known = getattr(task, "labels", None)
    return sorted({example["label"] for example in examples} - set(known)) if known else []


def load_for_task(task: Task, name: str, model: str | Path, *, seed: int = 0, verify: bool = True) -> Loaded:
    """Load a model with the heads that a task reads; new heads are drawn from the seed, and that is said."""
    heads = task.objective().heads
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loaded = load(model, heads=heads, attention=task.ATTENTION or "bidirectional", verify=verify)
    check_attention(task, name, loaded.model.config)
    loaded.model.config = replace(loaded.model.config, hybrid=False)  # what is tuned one way serves that way
    if loaded.new_heads:
        progress.note(f"New, untrained: {', '.join(loaded.new_heads)}")
    return replace(loaded, model=loaded.model.to(default_device()))
