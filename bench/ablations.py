"""What each part of our recipes is worth: the same model trained for the same time with it and without it.

Time is equal, not the number of tokens: what a part costs is charged to it. Every arm is a process of its own and a full run,
its learning rate decayed to the end, on a quiet machine; arms are made in turn, seed by seed. Judged on held-out documents:
bits per byte of next tokens, and the loss of masked tokens, always 15 % of them and one by one, however an arm was trained.

Usage: ``ablations.py --data DATA [--minutes 2] [--seeds 0 1 2] [--size mini] [--only PART…] [--out results.json]``, with DATA
of byte-level BPE, which all arms share. Arms that are in the results already are not made again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# Part of a recipe: family, and the settings of each arm, the recipe's own first.
PARTS = {
    "Muon": (
        "gpt",
        {
            "Muon": [],
            "AdamW": ["optimizer.name=adamw"],
            "AdamW, 2e-3": ["optimizer.name=adamw", "training.learning_rate=2e-3"],
        },
    ),
    "embeddings' rate": (
        "gpt",
        {"x 16": [], "x 4": ["optimizer.embedding_scale=4"], "x 1": ["optimizer.embedding_scale=1"]},
    ),
    "schedule": (
        "gpt",
        {"stable, then down": [], "cosine": ["training.schedule=cosine"], "linear": ["training.schedule=linear"]},
    ),
    "norms": ("gpt", {"RMS": [], "layer": ["model.norm=layer"]}),
    "feed-forward": ("gpt", {"SwiGLU": [], "GELU": ["model.activation=gelu", "model.intermediate_size=768"]}),
    "positions": ("gpt", {"rotary": [], "learned": ["model.position=learned"]}),
    "packing": ("bert", {"packed": ["objective.short_share=1"], "padded": ["objective.short_share=1", "packed=no"]}),
    "pairs": (
        "bert",
        {"next sentence": [], "sentence order": ["objective.pairs=sentence_order"], "none": ["objective.pairs=none"]},
    ),
    "masks": (
        "bert",
        {
            "40 to 15 %": ["objective.pairs=none"],
            "15 %": ["objective.pairs=none", "objective.mask_share=0.15"],
            "40 to 15 %, spans": ["objective.pairs=none", "objective.longest_span=3"],
        },
    ),
    "hybrid": (
        "hybrid",
        {
            "a quarter masked": [],
            "half masked": ["objective.masked_share=0.5"],
            "an eighth masked": ["objective.masked_share=0.125"],
            "seven eighths masked": ["objective.masked_share=0.875", "objective.prefix_share=0.025"],
            "without prefixes": ["objective.prefix_share=0"],
            "predicted from the position before": ["objective.shifted=true"],
            "GPT": ["family=gpt"],
            "BERT": ["family=bert", "objective.pairs=none"],
        },
    ),
}
VALIDATION_TOKENS = 100_000


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training."""

    part: str
    name: str
    family: str
    settings: tuple[str, ...]
    size: str
    minutes: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.part}/{self.name}/{self.size}/{self.minutes:g} min/seed {self.seed}"


def arms(only: Sequence[str], size: str, minutes: float, seeds: Sequence[int]) -> Iterator[Arm]:
    for seed in seeds:
        for part, (family, variants) in PARTS.items():
            if only and part not in only:
                continue
            for name, settings in variants.items():
                named = [each.partition("=")[2] for each in settings if each.startswith("family=")]
                left = tuple(each for each in settings if not each.startswith("family="))
                kind = named[0] if named else family
                yield Arm(part=part, name=name, family=kind, settings=left, size=size, minutes=minutes, seed=seed)


class Padded:
    """An objective whose sequences get a row each, as where nothing is packed."""

    def __init__(self, objective):
        self._objective = objective

    def __getattr__(self, name):
        return getattr(self._objective, name)

    def lay_out(self, corpus, documents, length, rng):
        rows = self._objective.lay_out(corpus, documents, length, rng)
        return [[sequence] for row in rows for sequence in row]


def train(arm: Arm, data: Path) -> dict[str, float]:
    """Train an arm in this process, and return its figures."""
    import torch

    from bothways.advise.plan import measure_step
    from bothways.experiment import make_batches, make_objective
    from bothways.model.heads import Model
    from bothways.recipes.recipe import recipe
    from bothways.text.tokenizing.tokenizer import Tokenizer
    from bothways.training.trainer import Trainer
    from bothways.verbs.mixture import Mixture

    mixture = Mixture(data)
    tokenizer = Tokenizer.load(mixture.folder)
    padded = "packed=no" in arm.settings
    settings = [each for each in arm.settings if each != "packed=no"]
    experiment = replace(recipe(f"{arm.family}-{arm.size}"), seed=arm.seed).fitted_to(tokenizer).override(settings)
    objective = make_objective(experiment, tokenizer)
    objective = Padded(objective) if padded else objective
    seconds = measure_step(experiment, objective, mixture.train)
    steps = max(1, int(arm.minutes * 60 / seconds))
    experiment = replace(experiment, training=replace(experiment.training, steps=steps))
    torch.manual_seed(arm.seed)
    model = Model(experiment.model, objective.heads)
    start = time.perf_counter()
    trainer = Trainer(experiment.training, experiment.optimizer, seed=arm.seed)
    trained = trainer.fit(model, make_batches(experiment, objective, mixture.train), objective)
    taken = {"seconds": time.perf_counter() - start, "steps": steps, "tokens": trained.tokens}
    return {**taken, "parameters": model.num_parameters(), **measure(model, experiment, tokenizer, mixture)}


def measure(model, experiment, tokenizer, mixture) -> dict[str, float]:
    """Return what a model can: next tokens, masked tokens, or both."""
    from bothways.experiment import ObjectiveConfig, make_evaluator, make_objective

    figures = {}
    for way, name in (("causal", "causal_lm"), ("bidirectional", "masked_lm")):
        if way != experiment.model.attention and not experiment.model.hybrid:
            continue
        config = replace(experiment.model, attention=way, hybrid=False)
        shifted = experiment.objective.shifted
        objective = ObjectiveConfig(name=name, pairs="none", sequence_length=128, shifted=shifted)
        judged = replace(experiment, model=config, objective=objective)
        evaluate = make_evaluator(
            judged, make_objective(judged, tokenizer), mixture.validation, tokens=VALIDATION_TOKENS
        )
        found = evaluate(model)
        kept = {"causal": ("bits_per_byte",), "bidirectional": ("loss", "accuracy")}[way]
        figures |= {f"{name} {figure}": found[figure] for figure in kept}
    return figures


def table(results: dict[str, dict], size: str, minutes: float) -> Iterator[str]:
    """Yield the lines of a table: medians over the seeds, and the range."""
    columns = ("tokens", "causal_lm bits_per_byte", "masked_lm loss", "masked_lm accuracy")
    yield f"| part | arm ({size}, {minutes:g} minutes) | seeds | {' | '.join(columns)} |"
    yield "|---" * (3 + len(columns)) + "|"
    for part, (_, variants) in PARTS.items():
        for name in variants:
            start = f"{part}/{name}/{size}/{minutes:g} min/"
            found = [figures for key, figures in results.items() if key.startswith(start)]
            if found:
                cells = [spread([figures[column] for figures in found if column in figures]) for column in columns]
                yield f"| {part} | {name} | {len(found)} | {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    shown = f"{statistics.median(values):,.4g}" if max(values) < 1000 else f"{statistics.median(values):,.0f}"
    return shown if len(values) == 1 else f"{shown} ({min(values):,.4g} to {max(values):,.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="what bothways prepare made, with byte-level BPE")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training for each arm (%(default)g)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run of each arm for each (0)"
    )
    parser.add_argument("--size", default="mini", help="of the models, as in gpt-SIZE (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*PARTS], metavar="PART", help=f"some of the parts: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ablations.json"),
        help="where results are kept, and gone on from (%(default)s)",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        print("ablations.py needs prepared text: --data DATA")
        return
    wanted = list(arms(options.only, options.size, options.minutes, options.seeds))
    if options.one:
        [arm] = (arm for arm in wanted if arm.key == options.one)
        print(json.dumps(train(arm, options.data)))
        return
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    for number, arm in enumerate(wanted, start=1):
        if arm.key in results:
            continue
        print(f"{number} of {len(wanted)}: {arm.key}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, *sys.argv, "--one", arm.key], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        results[arm.key] = json.loads(done.stdout.splitlines()[-1])
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(table(results, options.size, options.minutes)))


if __name__ == "__main__":
    main()
