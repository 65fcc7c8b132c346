"""Fine-tuning: examples of a task and a model in, a better model out. The same trainer as pretraining."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bothways import progress
from bothways.batch import Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.config import Config
from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.tasks.task import Example, Task, tokenizer_of
from bothways.training.batches import ExampleBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.trainer import Run, Trained, Trainer

# Of the learning rate of pretraining: from a third on it made no difference any more (docs/experiments.md).
SHARE_OF_PACE = 0.5
OF_PRETRAINING = {
    "batch_tokens": "batch_size says how many examples a step has",
    "row_length": "max_length says how many tokens of an example are read",
    "batch_ramp_share": "all steps have batch_size examples",
    "length_ramp_share": "examples are as long as max_length lets them be throughout",
}
RATE, WIDTH = 5e-5, 768  # AdamW's for BERT-base; narrower models take larger steps


@dataclass(frozen=True, kw_only=True)
class Finetuning(Config):
    """Settings of a fine-tuning run. ``training.steps`` follows from ``epochs`` where it is 0.

    Which optimizer, and how fast, depends on the model: ``suited_to`` it.
    """

    task: str = "classification"
    epochs: float = 3.0
    batch_size: int = 32  # examples of one step
    max_length: int | None = None  # tokens of an example that are read; None: the task's own
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=0, learning_rate=RATE, schedule="linear", warmup_share=0.1, micro_batch_tokens=8192
        )
    )
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="adamw", weight_decay=0.01, embedding_scale=1.0)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epochs <= 10_000:
            raise UserError(f"epochs must be above 0 and at most 10,000, not {self.epochs}")
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.max_length is not None and self.max_length < 4:
            raise UserError(f"max_length must be at least 4, not {self.max_length}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be between 0 and 2**32 - 1, not {self.seed}")

    def check_used(self) -> None:
        """Refuse settings that only pretraining looks at.

        Raises:
            UserError: one of them is set.
        """
        usual = TrainingConfig()
        for name, instead in OF_PRETRAINING.items():
            if getattr(self.training, name) != getattr(usual, name):
                raise UserError(f"training.{name} is for pretraining alone; when fine-tuning, {instead}")

    def for_examples(self) -> TrainingConfig:
        """Return the settings of the trainer: examples make rows of many shapes, so layers are compiled only if told to."""
        return replace(self.training, compile="on" if self.training.compile == "on" else "off")

    def suited_to(self, model: Model) -> Self:
        """Return the settings with the optimizer and the learning rate for a model.

        One whose pace of pretraining is known keeps to that at half the rate; any other is moved by AdamW, at a rate by its
        width.
        """
        pace = model.pace
        if pace is None:
            rate, optimizer = RATE * WIDTH / model.config.hidden_size, self.optimizer
        else:
            rate = SHARE_OF_PACE * pace.learning_rate
            optimizer = replace(self.optimizer, name=pace.optimizer, embedding_scale=pace.embedding_scale)
        return replace(self, training=replace(self.training, learning_rate=rate), optimizer=optimizer)


def finetune_model(
    task: Task,
    loaded: Loaded,
    train: Sequence[Example],
    *,
    settings: Finetuning,
    validation: Sequence[Example] = (),
    run: Run | None = None,
    resume: bool = False,
) -> Trained:
    """Train a loaded model, in place, on the examples of a task that is fitted to them.

    Args:
        task: fitted to the examples.
        loaded: a model with the heads that the task's objective reads, and its tokenizer.
        train: what it learns from.
        settings: how.
        validation: what the best checkpoint is chosen by, after every epoch unless ``training.evaluate_every`` says
            otherwise, and at the end; without it the last one is kept.
        run: where to save, after every epoch unless ``training.save_every`` says otherwise, and at the end.
        resume: go on with an interrupted run.
    Raises:
        UserError: a setting is one that only pretraining looks at.
    """
    settings.check_used()
    rows = render_all(task, loaded, train)
    micro = None if task.PACKS_ALL else settings.training.micro_batch_tokens
    batches = ExampleBatches(rows, batch_size=settings.batch_size, seed=settings.seed, micro_batch_tokens=micro)
    steps = settings.training.steps or max(1, round(settings.epochs * batches.steps_per_epoch))
    training = replace(
        settings.for_examples(),
        steps=steps,
        evaluate_every=settings.training.evaluate_every or batches.steps_per_epoch,
        save_every=settings.training.save_every or batches.steps_per_epoch,
    )

    def evaluate(model: Model) -> Mapping[str, float]:
        predictions = task.predict(replace(loaded, model=model), validation)
        return task.measure(predictions, validation)

    trainer = Trainer(
        training,
        settings.optimizer,
        seed=settings.seed,
        run=run,
        evaluate=evaluate if validation else None,
        monitor=(task.MONITOR, "max"),
        description=f"Fine-tuning {settings.task.replace('_', ' ')}",
    )
    return trainer.fit(loaded.model, batches, task.objective(), resume=resume)


def render_all(task: Task, loaded: Loaded, examples: Sequence[Example]) -> list[Row]:
    """Return all examples as rows, and say how much of them is cut off."""
    tokenizer, config = tokenizer_of(loaded), loaded.model.config
    rows = [task.render(example, tokenizer, config) for example in progress.track(examples, "Encoding examples")]
    if cut := sum(row.omitted > 0 for row in rows):
        omitted, read = sum(row.omitted for row in rows), sum(map(len, rows))
        progress.note(
            f"Cut off: {omitted:,} tokens of {cut:,} of {len(rows):,} examples, which are too long; {read:,} tokens are read"
        )
    return rows


def with_length(task: Any, settings: Finetuning) -> Any:
    """Return the task with the example length of the settings, if they name one."""
    if settings.max_length is None:
        return task
    if not hasattr(task, "max_length"):
        raise UserError(f"the task {settings.task} has no max_length")
    return replace(task, max_length=settings.max_length)
