"""The scaling law of our recipes: runs of several sizes and lengths, and the constants that fit their losses.

Each run is ``bothways.pretrain`` with the batch that ``--minutes`` with a family would choose. What is fitted is the loss on
held-out documents, by least squares on its logarithm with Huber's loss, as in Hoffmann et al. 2022. Results are added to the
file as they come, and runs that it has already are not made again. Give minutes on a quiet machine; ``--tokens`` gives the same
losses on any.

    python bench/scaling.py --data DATA --family gpt --sizes tiny,mini,small --minutes 0.5,1,2,4 --out results.json
    python bench/scaling.py --out results.json --family gpt          # fits what is there
"""

import argparse
import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import bothways
from bothways.advise.law import Law, batch_for
from bothways.checkpoints.checkpoint import load
from bothways.experiment import make_evaluator, make_objective
from bothways.recipes.recipe import recipe
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.mixture import Mixture

VALIDATION_TOKENS = 100_000
FEWEST_RUNS = 8  # that settle five constants; of fewer, only the floor and the height of the curve are fitted
HUBER = 1e-3  # residuals of the logarithm beyond this count linearly
# A weak pull toward the constants of Hoffmann et al. 2022, so that a few runs do not settle them by their noise. Their text
# had about 4.2 bytes a token.
USUAL_POWERS, USUAL_FLOOR, PULL = (0.34, 0.28), 1.69 / 4.2, 0.02
USUAL_FACTORS = (406.4, 410.7)
GUESSED_SPEED = 2e11  # FLOP/s, for the batch of a run that is given minutes


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run, and what came of it."""

    family: str
    size: str
    length: str
    parameters: int
    tokens: int
    unique_tokens: int
    bytes_per_token: float
    batch_tokens: int
    steps: int
    seconds: float
    loss: float
    bits_per_byte: float | None


def train(family: str, size: str, length: str, data: Path) -> Finished:
    """Train one model and measure it on held-out documents.

    Args:
        length: as ``2m`` (minutes) or ``500000t`` (tokens).
    """
    name, amount = f"{family}-{size}", float(length[:-1])
    chosen = recipe(name)
    minutes = amount if length.endswith("m") else None
    if minutes is None:
        tokens = amount
    else:
        width, layers = chosen.model.hidden_size, chosen.model.num_hidden_layers
        tokens = minutes * 60 * GUESSED_SPEED / (6 * (12 * layers * width**2 + 8192 * width))
    batch = batch_for(tokens, chosen.training.row_length)
    settings = [f"training.batch_tokens={batch}", "training.save_every=1000000", "training.evaluate_every=1000000"]
    if minutes is None:
        settings.append(f"training.steps={max(1, round(tokens / batch))}")
    with tempfile.TemporaryDirectory() as folder:
        done = bothways.pretrain(name, data=data, out=Path(folder) / "run", minutes=minutes, settings=settings)
        mixture, tokenizer = Mixture(data), Tokenizer.load(data)
        objective = make_objective(done.experiment, tokenizer)
        model = load(Path(folder) / "run" / "last", heads=objective.heads).model
        evaluate = make_evaluator(done.experiment, objective, mixture.validation, tokens=VALIDATION_TOKENS)
        figures = evaluate(model)
    corpus = mixture.train[0][0]
    return Finished(
        family=family,
        size=size,
        length=length,
        parameters=done.plan.parameters,
        tokens=done.plan.tokens,
        unique_tokens=corpus.num_tokens,
        bytes_per_token=round(corpus.num_bytes / corpus.num_tokens, 4),
        batch_tokens=batch,
        steps=done.plan.steps,
        seconds=round(done.trained.seconds, 2),
        loss=round(figures["loss"], 5),
        bits_per_byte=round(figures["bits_per_byte"], 5) if "bits_per_byte" in figures else None,
    )


def fit(runs: list[Finished], source: str) -> Law:
    """Return the law that fits the losses of runs best; the source says so if only its floor and height are fitted."""
    sizes, losses = (np.array([getattr(run, name) for run in runs], dtype=float) for name in ("parameters", "loss"))
    constants = dict.fromkeys(("floor", "size_factor", "size_power", "data_factor", "data_power"), 0.0)
    law = Law(**constants, bytes_per_token=runs[0].bytes_per_token, source=source)
    read = np.array([law.effective_tokens([(run.tokens, run.unique_tokens)]) for run in runs])
    return fit_height(law, sizes, read, losses) if len(runs) < FEWEST_RUNS else fit_all(law, sizes, read, losses)


def fit_height(law: Law, sizes: np.ndarray, read: np.ndarray, losses: np.ndarray) -> Law:
    """Return a law with the exponents, and the ratio of the two factors, of Hoffmann et al. 2022."""
    (of_size, of_data), (size_power, data_power) = USUAL_FACTORS, USUAL_POWERS
    usual = of_size / sizes**size_power + of_data / read**data_power
    height, floor = np.polyfit(usual, losses, 1)
    return replace(
        law,
        floor=round(float(floor), 4),
        size_factor=float(f"{height * of_size:.5g}"),
        size_power=size_power,
        data_factor=float(f"{height * of_data:.5g}"),
        data_power=data_power,
        source=f"{law.source}; exponents and the ratio of the factors from Hoffmann et al. 2022",
    )


def fit_all(law: Law, sizes: np.ndarray, read: np.ndarray, losses: np.ndarray) -> Law:
    """Return a law with all five constants fitted."""

    def residuals(values: np.ndarray) -> np.ndarray:
        log_floor, log_size, log_data, size_power, data_power = values
        terms = [
            np.full(len(losses), log_floor),
            log_size - size_power * np.log(sizes / 1e6),
            log_data - data_power * np.log(read / 1e6),
        ]
        usual_floor = math.log(USUAL_FLOOR * law.bytes_per_token)
        pull = PULL * (np.array([size_power, data_power, log_floor]) - (*USUAL_POWERS, usual_floor))
        return np.concatenate([np.logaddexp.reduce(terms, axis=0) - np.log(losses), pull])

    low, high = [-5, -5, -5, 0.1, 0.1], [2, 3, 3, 1, 1]
    starts = [[floor, size, data, *USUAL_POWERS] for floor in (-1, 0, 1) for size in (-1, 0, 1) for data in (-1, 0, 1)]
    found = [least_squares(residuals, start, bounds=(low, high), loss="huber", f_scale=HUBER) for start in starts]
    best = min(found, key=lambda each: each.cost).x
    size_power, data_power = float(best[3]), float(best[4])
    return replace(
        law,
        floor=round(math.exp(best[0]), 4),
        size_factor=float(f"{math.exp(best[1]) * 1e6**size_power:.5g}"),
        size_power=round(size_power, 4),
        data_factor=float(f"{math.exp(best[2]) * 1e6**data_power:.5g}"),
        data_power=round(data_power, 4),
    )


def show(runs: list[Finished], law: Law) -> None:
    """Print the constants, and each run beside what they say of it."""
    print(law)
    print(f"{'run':18}{'parameters':>12}{'tokens':>13}{'batch':>8}{'seconds':>9}{'loss':>8}{'fitted':>8}{'off':>8}")
    off = []
    for run in runs:
        fitted = law.loss(run.parameters, law.effective_tokens([(run.tokens, run.unique_tokens)]))
        off.append(fitted / run.loss - 1)
        print(
            f"{f'{run.family}-{run.size} {run.length}':18}{run.parameters:12,}{run.tokens:13,}{run.batch_tokens:8,}"
            f"{run.seconds:9.0f}{run.loss:8.3f}{fitted:8.3f}{off[-1]:+8.2%}"
        )
    print(f"off by {float(np.mean(np.abs(off))):.2%} on average, {float(np.max(np.abs(off))):.2%} at most")


def words(text: str) -> list[str]:
    """Return the parts between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Make the runs that are asked for and are not there yet, then fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="what bothways prepare made; without it nothing is trained")
    parser.add_argument("--family", default="gpt")
    parser.add_argument("--sizes", type=words, default=["tiny", "mini", "small"])
    parser.add_argument("--minutes", type=words, default=[], help="of each run")
    parser.add_argument("--tokens", type=words, default=[], help="of each run, in place of minutes")
    parser.add_argument("--budget-minutes", type=float, default=math.inf, help="begin no further run after this time")
    parser.add_argument(
        "--source", default="a fit of bench/scaling.py", help="what the constants shall say of their origin"
    )
    parser.add_argument(
        "--at-least", type=int, default=0, metavar="TOKENS", help="runs of fewer are left out of the fit"
    )
    parser.add_argument("--out", type=Path, required=True, help="results; added to")
    options = parser.parse_args()
    lengths = [f"{length}m" for length in options.minutes] + [f"{length}t" for length in options.tokens]
    runs = [Finished(**each) for each in json.loads(options.out.read_text())] if options.out.exists() else []
    had = {(run.family, run.size, run.length) for run in runs}
    start = time.monotonic()
    for length in lengths if options.data else []:
        for size in options.sizes:
            if (options.family, size, length) in had or time.monotonic() - start > options.budget_minutes * 60:
                continue
            runs.append(train(options.family, size, length, options.data))
            options.out.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
            print(json.dumps(asdict(runs[-1])), flush=True)
    ours = [run for run in runs if run.family == options.family and run.tokens >= options.at_least]
    if len(ours) >= 3:
        show(ours, fit(ours, options.source))


if __name__ == "__main__":
    main()
