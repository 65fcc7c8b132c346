"""What a run's folder tells of it, read without loading a model: what was trained on what, how far it came, how good it is.

Nothing in the folder is trusted to be whole: what cannot be read is left unknown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bothways.config import read_json
from bothways.errors import UserError, unknown
from bothways.evaluation.curves import drawable
from bothways.evaluation.digest import higher_is_better
from bothways.training.tracking import MEASURED_ANEW, read_metrics

State = Literal["running", "finished", "interrupted", "failed"]
# What tells how good a model is, the first of these that was measured; else the first measure of the evaluation.
MAIN_MEASURES = ("bits_per_byte", "loss")
X_AXES = {
    "steps": "step",
    "tokens": "tokens seen",
    "seconds": "seconds of training",
    "flops": "floating point operations",
}


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run.

    Attributes:
        folder: where it lies.
        name: the folder from where was searched.
        kind: ``"pretraining"``, or the task that was learnt.
        recipe: the recipe with this model, or its family where none has it; of a fine-tuned run the model it came from.
        parameters: of the model; None: not known yet.
        data: the corpora, or None.
        steps, planned: taken and to take in all; None: not known.
        state: ``running``; ``finished``; ``interrupted``: ``--resume`` goes on from a checkpoint; ``failed``: there is no
            checkpoint, or its last loss was not finite.
        tokens, seconds, tokens_per_second: of training.
        measure: which figure ``newest`` and ``best`` are of.
        newest, best: of the evaluations.
        validation: all figures of the newest evaluation.
        warnings: step, name and text of each.
        settings: by dotted name.
        records: all that was written down while it ran.
    """

    folder: Path
    name: str
    kind: str
    recipe: str
    parameters: int | None
    data: str | None
    steps: int
    planned: int | None
    state: State
    tokens: int | None
    seconds: float | None
    tokens_per_second: float | None
    measure: str | None
    newest: float | None
    best: float | None
    validation: Mapping[str, float]
    warnings: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the records are in the run's ``metrics.jsonl``."""
        values = {known.name: getattr(self, known.name) for known in fields(self) if known.name != "records"}
        return {**values, "folder": str(self.folder)}


SORTABLE = tuple(
    name for name in RunSummary.__dataclass_fields__ if name not in ("folder", "validation", "settings", "records")
)


def is_run(folder: Path) -> bool:
    """Whether a folder looks like one of a run."""
    return (folder / "experiment.json").is_file()


def read_run(folder: Path, *, name: str, running: bool, recipes: Mapping[str, Mapping[str, Any]]) -> RunSummary:
    """Return what a run's folder tells.

    Args:
        folder: of the run.
        name: how to call it.
        running: whether a process holds it now.
        recipes: the settings of each recipe's model, for the name of the one that was taken.
    Raises:
        UserError: it is no run's folder, or what made it cannot be read.
    """
    made_by = _object(folder / "experiment.json")
    pretraining = "model" in made_by and "objective" in made_by
    if not pretraining and "task" not in made_by:
        raise UserError(f"{str(folder / 'experiment.json')!r} holds the settings of no run of ours")
    plan = _object(folder / "plan.json") if (folder / "plan.json").is_file() else {}
    records = read_metrics(folder)
    checkpoint = _newest_checkpoint(folder)
    remembered = _remembered(checkpoint)
    anew = max((place for place, record in enumerate(records) if MEASURED_ANEW in record), default=0)
    comparable = records[anew:]
    evaluations = [_finite(record["validation"]) for record in comparable if isinstance(record.get("validation"), dict)]
    measure, best = _best([found for found in evaluations if found])
    newest = next((found[measure] for found in reversed(evaluations) if measure in found), None) if measure else None
    tokens, seconds = _last(records, "tokens"), _last(records, "seconds")
    settings = _flat(made_by)
    planned = plan.get("steps") or _whole(settings.get("training.steps")) or None
    saved = int(checkpoint.name[5:]) if checkpoint else 0  # the step at which a signal came need not be a record
    steps = max([saved, *(int(record["step"]) for record in records)])
    return RunSummary(
        folder=folder,
        name=name,
        kind="pretraining" if pretraining else str(made_by["task"]),
        recipe=_recipe(made_by["model"], recipes) if pretraining else f"from {remembered.get('model', 'a model')}",
        parameters=_whole(plan.get("parameters")) or _count_parameters(folder, checkpoint),
        data=_data(remembered) if pretraining else None,
        steps=steps,
        planned=planned,
        state=_state(folder, records, running=running, steps=steps, planned=planned, checkpoint=checkpoint),
        tokens=None if tokens is None else int(tokens),
        seconds=seconds,
        tokens_per_second=None if not tokens or not seconds else tokens / seconds,
        measure=measure,
        newest=newest,
        best=best,
        validation=next((found for found in reversed(evaluations) if found), {}),
        warnings=[
            {"step": record["step"], **record["warning"]}
            for record in records
            if isinstance(record.get("warning"), dict)
        ],
        settings=settings,
        records=records,
    )


def curve(run: RunSummary, measure: str | None, *, x: str) -> list[tuple[float, float]]:
    """Return the points of a run's curve.

    Args:
        run: whose.
        measure: of the evaluations; None: the training loss.
        x: a name of ``X_AXES``.
    Raises:
        UserError: there is no such axis.
    """
    if x not in X_AXES:
        raise unknown("value for --x:", x, X_AXES)
    points: dict[float, float] = {}
    place: dict[str, float] = {"steps": 0.0, "tokens": 0.0, "seconds": 0.0, "flops": 0.0}
    for record in run.records:
        _move(place, record)
        values = record if measure is None else record.get("validation")
        value: Any = values.get("loss" if measure is None else measure) if isinstance(values, Mapping) else None
        if drawable(value) and (x == "steps" or place[x] > 0):
            points[place[x]] = float(value)
    return sorted(points.items())


def _move(place: dict[str, float], record: Mapping[str, Any]) -> None:
    """Go on to where a record stands. A line of an evaluation says its step alone, and stands where training was then."""
    place["steps"] = float(record["step"])
    before = place["seconds"]
    for name in ("tokens", "seconds"):
        if drawable(record.get(name)):
            place[name] = float(record[name])
    if drawable(record.get("flops_per_second")):
        place["flops"] += float(record["flops_per_second"]) * max(0.0, place["seconds"] - before)


def _object(file: Path) -> dict[str, Any]:
    values = read_json(file)
    if not isinstance(values, dict):
        raise UserError(f"{str(file)!r} must hold a JSON object, not {type(values).__name__}")
    return values


def _newest_checkpoint(folder: Path) -> Path | None:
    steps = [(int(found.name[5:]), found) for found in folder.glob("checkpoints/step-*") if found.name[5:].isdecimal()]
    return max(steps)[1] if steps else None


def _remembered(checkpoint: Path | None) -> dict[str, Any]:
    """Return what a checkpoint remembers of what its run was made from; nothing, where it cannot be read."""
    if checkpoint is None:
        return {}
    try:
        found = _object(checkpoint / "state.json").get("fingerprint")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def _recipe(model: Any, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the recipe with this model, whatever its vocabulary."""
    if not isinstance(model, dict):
        return "unknown"
    names = [
        name
        for name, values in recipes.items()
        if all(values[key] == model.get(key, values[key]) for key in values if key != "vocab_size")
    ]
    family = "hybrid" if model.get("hybrid") else "gpt" if model.get("attention") == "causal" else "bert"
    shape = f"{family} {model.get('num_hidden_layers')} × {model.get('hidden_size')}"
    return names[0] if len(names) == 1 else shape


def _data(remembered: Mapping[str, Any]) -> str | None:
    """Return the corpora, with their weights where they have some."""
    sources = remembered.get("data")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        return None
    return ", ".join(
        f"{source.get('folder')}" + (f":{source['weight']:g}" if drawable(source.get("weight")) else "")
        for source in sources
    )


def _state(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    running: bool,
    steps: int,
    planned: int | None,
    checkpoint: Path | None,
) -> State:
    if running:
        return "running"
    if (folder / "last").is_dir() and (planned is None or steps >= planned):  # the last step writes it
        return "finished"
    losses = [record["loss"] for record in records if "loss" in record]
    broken = bool(losses) and not drawable(losses[-1])
    broken = broken or (bool(records) and "stopped" in records[-1])
    return "failed" if broken or checkpoint is None else "interrupted"


def _best(evaluations: Sequence[Mapping[str, float]]) -> tuple[str | None, float | None]:
    """Return the figure that tells how good a model is, and its best value."""
    if not evaluations:
        return None, None
    last = evaluations[-1]
    measure = next((name for name in MAIN_MEASURES if name in last), next(iter(last)))
    values = [found[measure] for found in evaluations if measure in found]
    return measure, max(values) if higher_is_better(measure) else min(values)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if name != "step" and drawable(value)}


def _last(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values: list[Any] = [record.get(name) for record in records]
    return next((float(value) for value in reversed(values) if drawable(value)), None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count_parameters(folder: Path, checkpoint: Path | None) -> int | None:
    """Return the weights of the model that a run has saved, read off the head of the file; None: there is none yet."""
    from safetensors import SafetensorError, safe_open

    for place in (folder / "best", folder / "last", checkpoint):
        if place is None or not (place / "model.safetensors").is_file():
            continue
        try:
            with safe_open(str(place / "model.safetensors"), framework="numpy") as stored:
                return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            continue
    return None
