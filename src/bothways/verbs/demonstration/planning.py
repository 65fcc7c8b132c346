"""How the minutes are shared out: measured once, written down, and from then on the steps are fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bothways import progress
from bothways.advise.plan import TRIAL_SECONDS, measure_step
from bothways.config import Config
from bothways.errors import UserError
from bothways.experiment import Experiment, make_objective
from bothways.recipes.recipe import recipe
from bothways.text.shards import Shards
from bothways.text.tokenizing.tokenizer import Tokenizer

REQUEST = "request.json"  # in a demonstration's folder: what was asked for

# Shares of all the time; what is left is for reading, tokenizing and measuring.
PRETRAINING = {"gpt": 0.13, "bert": 0.19}
ARM = {"classification": 0.06, "retrieval": 0.03, "summarization": 0.05}  # of each model that is fine-tuned
SLOWER = 0.75  # the speed of fine-tuning beside that of pretraining: its batches are smaller
FEWEST_TOKENS = 400_000  # that a larger size must be able to see in its share
SIZES = ("small", "mini", "tiny")
LARGEST = {"gpt": "mini", "bert": "mini"}


@dataclass(frozen=True, kw_only=True)
class Request(Config):
    """What was asked for. A folder goes on with the same alone."""

    text: tuple[str, ...]
    language: Literal["en", "zh"]
    minutes: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 10_000:
            raise UserError(f"--minutes must be above 0 and at most 10,000, not {self.minutes}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed must be between 0 and 2**32 - 1, not {self.seed}")

    def check_same(self, folder: Path) -> None:
        """Refuse to go on with a demonstration that was begun with other arguments.

        Raises:
            UserError: it was; each difference is named.
        """
        if not (folder / REQUEST).exists():
            return
        before, now = type(self).load(folder / REQUEST).to_dict(), self.to_dict()
        different = [
            f"--{name} {_said(before[name])}, not {_said(now[name])}" for name in now if before[name] != now[name]
        ]
        if different:
            raise UserError(
                f"{str(folder)!r} holds a demonstration with {' and '.join(different)}; name another --out or remove it"
            )

    def words(self, *, minutes: float) -> list[str]:
        """Return the words of the command line that asks for the same with other minutes."""
        text = ["--text", *self.text] if self.text else []
        language = ["--language", self.language] if self.language != "en" else []
        return [*text, *language, "--minutes", f"{minutes:g}"]


def _said(value: Any) -> str:
    return (" ".join(value) or "(none)") if isinstance(value, list) else str(value)


@dataclass(frozen=True, kw_only=True)
class DemoPlan(Config):
    """What a budget became on this machine."""

    minutes: float
    seed: int
    gpt_recipe: str
    gpt_steps: int
    gpt_tokens_per_second: float
    bert_recipe: str
    bert_steps: int
    bert_tokens_per_second: float

    def experiment(self, family: str) -> Experiment:
        """Return the experiment of ``"gpt"`` or ``"bert"``, its steps set."""
        chosen = recipe(getattr(self, f"{family}_recipe"))
        training = replace(chosen.training, steps=getattr(self, f"{family}_steps"))
        return replace(chosen, training=training, seed=self.seed)

    def arm_steps(self, task: str, family: str, tokens_per_step: float, steps_per_epoch: int) -> int:
        """Return the steps of a fine-tuning that fits its share, but not more than ten epochs."""
        seconds = ARM[task] * self.minutes * 60
        steps = int(seconds * SLOWER * getattr(self, f"{family}_tokens_per_second") / tokens_per_step)
        return max(2, min(steps, 10 * steps_per_epoch))


def vocabulary_for(num_bytes: int) -> int:
    """Return a vocabulary that a corpus of this size can teach: at most 8,192 tokens."""
    size = 512
    while size < 8192 and num_bytes > 400 * size:
        size *= 2
    return size


def choose_recipe(family: str, data: Shards, seconds: float, seed: int) -> tuple[str, int, float]:
    """Return the largest recipe that sees enough text in its time, the steps it takes, and tokens per second."""
    tokenizer = Tokenizer.load(data.folder)
    for size in SIZES[SIZES.index(LARGEST[family]) :]:
        name = f"{family}-{size}"
        experiment = replace(recipe(name), seed=seed).fitted_to(tokenizer)
        objective, trial = make_objective(experiment, tokenizer), min(TRIAL_SECONDS, seconds / 10)
        per_step = measure_step(experiment, objective, data.corpus("train"), trial_seconds=trial)
        speed = experiment.training.batch_tokens / per_step
        steps = int(seconds / per_step)
        if steps * experiment.training.batch_tokens >= FEWEST_TOKENS or size == SIZES[-1]:
            progress.note(f"{name}: {steps} steps at {speed:,.0f} tokens/s")
            return name, max(10, steps), round(speed, 1)
    raise AssertionError("the smallest size is always taken")


def make_plan(data: Mapping[str, Shards], *, minutes: float, seed: int) -> DemoPlan:
    """Measure both families and return the plan."""
    seconds = {family: share * minutes * 60 for family, share in PRETRAINING.items()}
    gpt, gpt_steps, gpt_speed = choose_recipe("gpt", data["gpt"], seconds["gpt"], seed)
    bert, bert_steps, bert_speed = choose_recipe("bert", data["bert"], seconds["bert"], seed)
    return DemoPlan(
        minutes=minutes,
        seed=seed,
        gpt_recipe=gpt,
        gpt_steps=gpt_steps,
        gpt_tokens_per_second=gpt_speed,
        bert_recipe=bert,
        bert_steps=bert_steps,
        bert_tokens_per_second=bert_speed,
    )
