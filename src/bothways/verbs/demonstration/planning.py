"""How the minutes are shared out: measured once, written down, and from then on the steps are fixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bothways import progress
from bothways.advise.plan import measure_step
from bothways.config import Config
from bothways.errors import UserError
from bothways.experiment import Experiment, make_objective
from bothways.recipes.recipe import recipe
from bothways.text.shards import Shards
from bothways.text.tokenizer import Tokenizer

# Shares of all the time; what is left is for reading, tokenizing and measuring.
PRETRAINING = {"gpt": 0.14, "bert": 0.19}
ARM = {"classification": 0.06, "retrieval": 0.03, "summarization": 0.055}  # of each model that is fine-tuned
SLOWER = 0.75  # the speed of fine-tuning beside that of pretraining: its batches are smaller
FEWEST_TOKENS = 400_000  # that a larger size must be able to see in its share
SIZES = ("small", "mini", "tiny")
LARGEST = {"gpt": "mini", "bert": "mini"}


@dataclass(frozen=True, kw_only=True)
class DemoPlan(Config):
    """What a budget became on this machine."""

    source: str
    language: str
    minutes: float
    seed: int
    vocab_size: int
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
        per_step = measure_step(experiment, make_objective(experiment, tokenizer), data.corpus("train"))
        speed = experiment.training.batch_tokens / per_step
        steps = int(seconds / per_step)
        if steps * experiment.training.batch_tokens >= FEWEST_TOKENS or size == SIZES[-1]:
            progress.note(f"{name}: {steps} steps at {speed:,.0f} tokens/s")
            return name, max(10, steps), round(speed, 1)
    raise AssertionError("the smallest size is always taken")


def make_plan(
    data: Mapping[str, Shards], *, source: str, language: str, minutes: float, seed: int, vocab_size: int
) -> DemoPlan:
    """Measure both families and return the plan."""
    seconds = {family: share * minutes * 60 for family, share in PRETRAINING.items()}
    gpt, gpt_steps, gpt_speed = choose_recipe("gpt", data["gpt"], seconds["gpt"], seed)
    bert, bert_steps, bert_speed = choose_recipe("bert", data["bert"], seconds["bert"], seed)
    return DemoPlan(
        source=source,
        language=language,
        minutes=minutes,
        seed=seed,
        vocab_size=vocab_size,
        gpt_recipe=gpt,
        gpt_steps=gpt_steps,
        gpt_tokens_per_second=gpt_speed,
        bert_recipe=bert,
        bert_steps=bert_steps,
        bert_tokens_per_second=bert_speed,
    )


def check_same(plan: DemoPlan, *, source: str, language: str, minutes: float, seed: int, where: str) -> None:
    """Refuse to go on with a demonstration that was begun with other arguments.

    Raises:
        UserError: it was; each difference is named.
    """
    wanted = {"source": source, "language": language, "minutes": minutes, "seed": seed}
    different = [
        f"{name} {getattr(plan, name)}, not {value}" for name, value in wanted.items() if getattr(plan, name) != value
    ]
    if different:
        raise UserError(f"{where!r} holds a demonstration with {', '.join(different)}; name another --out or remove it")


def mean_length(lengths: Sequence[int]) -> float:
    """Return the mean of some lengths."""
    return sum(lengths) / max(1, len(lengths))
