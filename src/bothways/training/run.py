"""What a training is given beside model and data, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bothways.batch import Batch
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.states import GoingOn

Evaluator = Callable[[Model], Mapping[str, float]]
FlopCounter = Callable[[list[Batch]], float]  # the floating point operations of a step


class Finding(Protocol):
    """What a doctor says: the kind of trouble, and its cause and remedy in a sentence or two."""

    @property
    def name(self) -> str:
        """Return which kind of trouble it is; each is told once in a run."""

    @property
    def text(self) -> str:
        """Return the words for a person."""


# Is given the curve and the evaluations so far, and at which step and after how many tokens the run began to read the text
# that it reads; returns what is wrong by now.
Doctor = Callable[
    [Sequence[Mapping[str, float]], Sequence[Mapping[str, float]], Mapping[str, int]],
    Sequence[Finding],
]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a training run lives, and what its checkpoints carry beside the weights.

    Attributes:
        folder: the RUN folder.
        tokenizer: saved with every checkpoint.
        labels: names of the classes, saved with every checkpoint.
        fingerprint: plain values that must be the same when the run is resumed (corpus, settings, seed).
        accept: is given the state of the checkpoint that a run goes on from, its fingerprint among it, and refuses it or
            returns how it goes on. None: any difference is refused.
        saved: is called with the folder after each save, to draw what there is by then.
        wandb_project: of Weights & Biases, to send the records to as well; None: they stay in the folder.
    """

    folder: Path
    tokenizer: Tokenizer | None = None
    labels: tuple[str, ...] | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    accept: Callable[[Mapping[str, Any]], GoingOn] | None = None
    saved: Callable[[Path], object] | None = None
    wandb_project: str | None = None


@dataclass(frozen=True)
class Assignment:
    """All that a training is told.

    Attributes:
        training, optimizer: settings.
        seed: of dropout. Torch's own generators are as they were when training ends.
        run: where to save; None: nowhere.
        evaluate: model to named figures; called every ``evaluate_every`` steps and at the end.
        monitor: which figure, and whether its ``"min"`` or ``"max"``, makes a checkpoint the best.
        flops: counts the floating point operations of a step.
        doctor: looks at the curve and the evaluations whenever there is something new, and warns.
        description: what the progress bar says.
    """

    training: TrainingConfig
    optimizer: OptimizerConfig
    _: KW_ONLY
    seed: int = 0
    run: Run | None = None
    evaluate: Evaluator | None = None
    monitor: tuple[str, str] = ("loss", "min")
    flops: FlopCounter | None = None
    doctor: Doctor | None = None
    description: str = "Training"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        steps: taken in all, those before a resume included.
        tokens: real tokens seen, those of steps that were gone back on included.
        seconds: of training, evaluation and saving left out.
        flops: floating point operations of all steps; 0 where nobody counts them.
        evaluations: each evaluation's figures, with its ``step``.
        best: the one by which the best model was chosen, though training went back behind it; the last one where none was;
            empty where nothing was evaluated.
        curve: step, tokens, seconds, losses, norm of the gradients before clipping and learning rate, now and then.
        warnings: what a doctor found: ``step``, ``name`` and ``text``, each name once.
        skipped: non-finite steps that were left out.
        rewinds: how often training went back to a checkpoint because a step was not finite.
    """

    steps: int
    tokens: int
    seconds: float
    flops: float
    evaluations: list[dict[str, float]]
    best: dict[str, float]
    curve: list[dict[str, float]]
    warnings: list[dict[str, Any]]
    skipped: int
    rewinds: int
