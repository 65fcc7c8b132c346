"""Arms of a comparison: one model, fine-tuned for one task, measured on the same test examples as all the others."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bothways.checkpoints.checkpoint import Loaded, load
from bothways.evaluation.evaluate import intervals
from bothways.finetuning import Finetuning, finetune_model
from bothways.model.heads import Model
from bothways.tasks.task import Example, Prediction, Task, get_task, tokenizer_of
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.machine import default_device
from bothways.training.trainer import Run
from bothways.verbs.demonstration.material import Splits
from bothways.verbs.demonstration.planning import DemoPlan

# What was found to be best in the time there is (docs/experiments.md): many short examples beat fewer long ones, and
# embeddings that learn fast beat those that keep the pace of the matrices.
LENGTHS = {
    "classification": {"max_length": 64},
    "retrieval": {"query_length": 24, "document_length": 64},
    "summarization": {"max_length": 48},
}
BATCH_SIZE = {"classification": 32, "retrieval": 64, "summarization": 32}
LEARNING_RATE = {"classification": 6e-3, "retrieval": 6e-3, "summarization": 4e-3}
EMBEDDING_SCALE = {"classification": 32.0, "retrieval": 16.0, "summarization": 8.0}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One bar of a comparison.

    Attributes:
        name: as the report shows it: ``bert``, ``gpt_not_pretrained``, …
        family: ``"gpt"`` or ``"bert"``: whose pretraining run it starts from, and whose speed it is planned by.
        pretrained: false for the twin that starts from fresh weights.
    """

    name: str
    family: str
    pretrained: bool = True


ARMS = {
    "classification": (
        Arm(name="bert", family="bert"),
        Arm(name="bert_not_pretrained", family="bert", pretrained=False),
        Arm(name="gpt", family="gpt"),
    ),
    "retrieval": (
        Arm(name="bert", family="bert"),
        Arm(name="bert_not_pretrained", family="bert", pretrained=False),
        Arm(name="gpt", family="gpt"),
    ),
    "summarization": (
        Arm(name="gpt", family="gpt"),
        Arm(name="gpt_not_pretrained", family="gpt", pretrained=False),
    ),
}


def demonstrated(name: str, splits: Splits) -> Any:
    """Return the task of that name as the demonstration sets it: short texts, and the labels of the examples."""
    task: Any = get_task(name)
    return replace(task, **LENGTHS[name]).fitted_to(splits["train"])


def train_arm(arm: Arm, name: str, splits: Splits, plan: DemoPlan, out: Path) -> Loaded:
    """Fine-tune an arm for the task of that name, in a run of its own, and return the model."""
    task = demonstrated(name, splits)
    settings = Finetuning(
        task=name,
        batch_size=BATCH_SIZE[name],
        max_length=LENGTHS[name].get("max_length"),
        training=TrainingConfig(learning_rate=LEARNING_RATE[name], schedule="linear", warmup_share=0.1, steps=1),
        optimizer=OptimizerConfig(weight_decay=0.01, embedding_scale=EMBEDDING_SCALE[name]),
        seed=plan.seed,
    )
    loaded = start(arm, task, plan, out)
    tokenizer, config = tokenizer_of(loaded), loaded.model.config
    sample = [task.render(example, tokenizer, config) for example in splits["train"][:200]]
    per_epoch = -(-len(splits["train"]) // settings.batch_size)
    steps = plan.arm_steps(name, arm.family, settings.batch_size * sum(map(len, sample)) / len(sample), per_epoch)
    settings = replace(settings, training=replace(settings.training, steps=steps, save_every=max(1, steps // 4)))
    folder = out / f"{name}-{arm.name}"
    folder.mkdir(parents=True, exist_ok=True)
    settings.save(folder / "experiment.json")
    run = Run(folder=folder, tokenizer=loaded.tokenizer, labels=getattr(task, "labels", None) or None)
    finetune_model(task, loaded, splits["train"], settings=settings, run=run, resume=True)
    return loaded


def start(arm: Arm, task: Task, plan: DemoPlan, out: Path) -> Loaded:
    """Return the pretrained model of an arm, or its twin with fresh weights of the same shape."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        loaded = load(out / arm.family, heads=task.objective().heads)
        if not arm.pretrained:
            loaded = replace(loaded, model=Model(loaded.model.config, task.objective().heads))
    return replace(loaded, model=loaded.model.to(default_device()))


def measure_arm(
    arm: Arm, name: str, splits: Splits, plan: DemoPlan, out: Path
) -> tuple[dict[str, Any], list[Prediction]]:
    """Train an arm and return its figures on the test examples, and its predictions."""
    begin = time.perf_counter()
    loaded = train_arm(arm, name, splits, plan, out)
    seconds = time.perf_counter() - begin
    task = demonstrated(name, splits)
    predictions = task.predict(loaded, splits["test"], seed=plan.seed)
    return {**figures(task, predictions, splits["test"]), "seconds": round(seconds, 1)}, predictions


def figures(task: Task, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, Any]:
    """Return the figures of predictions, with the ends of their intervals under ``low`` and ``high``."""
    found = intervals(task, predictions, examples)
    ends: Mapping[str, dict[str, float]] = {
        side: {name: getattr(interval, side) for name, interval in found.items()} for side in ("low", "high")
    }
    return {**{name: interval.value for name, interval in found.items()}, **ends}
