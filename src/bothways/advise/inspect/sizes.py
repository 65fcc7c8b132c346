"""Which of our recipes a text is enough for.

About 20 tokens a parameter are what a model of a given cost is best trained on (Hoffmann et al. 2022), and up to four
passes over the same text are nearly as good as new text (Muennighoff et al. 2023). So a text suits a model if four
passes give it 20 tokens a parameter.
"""

from dataclasses import replace
from typing import Any

import torch

from bothways.advise.inspect.findings import Finding, counted, warning
from bothways.experiment import Experiment
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.recipes.recipe import recipe, recipe_names

TOKENS_PER_PARAMETER = 20
PASSES = 4
USES_PER_TOKEN = 100  # how often a token of the vocabulary should occur, on average, to be learnt
LEAST_VOCABULARY = 512
LEAST_TOKENS = 10_000  # below that nothing can be learnt and held out


def recipe_fits(tokens: int, *, vocab_size: int | None = None, kind: str | None = None) -> list[dict[str, Any]]:
    """Return for each recipe its parameters and how many passes over a text of so many tokens it calls for.

    Args:
        tokens: of the training text.
        vocab_size: of its tokenizer; None: the recipe's own.
        kind: of its tokenizer; None: any.
    """
    fits = []
    for name in recipe_names():
        experiment = recipe(name)
        if kind is not None and experiment.tokenizer != kind:
            continue
        parameters = count_parameters(experiment, vocab_size)
        passes = TOKENS_PER_PARAMETER * parameters / max(1, tokens)
        verdict = "fits" if passes <= PASSES else "too large"
        fits.append(
            {
                "recipe": name,
                "parameters": parameters,
                "tokens_per_parameter": float(f"{tokens / parameters:.3g}"),
                "passes": float(f"{passes:.3g}"),
                "verdict": verdict,
            }
        )
    return sorted(fits, key=lambda fit: (fit["parameters"], fit["recipe"]))


def count_parameters(experiment: Experiment, vocab_size: int | None) -> int:
    """Return the parameters of a recipe's model; only shapes are made, no weights."""
    config = experiment.model if vocab_size is None else replace(experiment.model, vocab_size=vocab_size)
    if experiment.objective.name == "causal_lm":
        heads = CausalLM(bos_id=0, eos_id=0).heads
    else:
        pairs = experiment.objective.pairs
        heads = MaskedLM(cls_id=0, sep_id=0, mask_id=0, vocab_size=config.vocab_size, pairs=pairs).heads
    with torch.device("meta"):
        return Model(config, heads).num_parameters()


def size_findings(fits: list[dict[str, Any]], tokens: int, *, estimated: bool) -> list[Finding]:
    """Return what there is to say about a text's size.

    Args:
        fits: what ``recipe_fits`` gave.
        tokens: of the text.
        estimated: whether that is a guess from its words.
    """
    about = "about " if estimated else ""
    if tokens < LEAST_TOKENS:
        remedy = f"give at least {LEAST_TOKENS:,} tokens (some 40 kB of English), or start from a pretrained model"
        return [
            Finding(level="error", topic="size", fact=f"the text has {about}{counted(tokens, 'token')}", remedy=remedy)
        ]
    if not fits or any(fit["verdict"] == "fits" for fit in fits):
        return []
    smallest = fits[0]
    fact = (
        f"the text has {about}{counted(tokens, 'token')}, {smallest['tokens_per_parameter']:.2g} for each of the "
        f"{smallest['parameters']:,} parameters of {smallest['recipe']}, the smallest recipe, which needs "
        f"{smallest['passes']:,.0f} passes over the text to see {TOKENS_PER_PARAMETER} a parameter (more than "
        f"{PASSES} passes learn it by heart)"
    )
    wanted = TOKENS_PER_PARAMETER * smallest["parameters"] // PASSES
    return [warning("size", fact, f"gather {counted(wanted, 'token')} or more, or pretrain --from another model")]


def vocabulary_finding(tokens: int, vocab_size: int, *, made: bool) -> list[Finding]:
    """Return a warning where a vocabulary is too large for a text.

    Args:
        tokens: of the text.
        vocab_size: of its tokenizer.
        made: whether it is trained already, or would be by default.
    """
    uses = tokens / vocab_size
    if uses >= USES_PER_TOKEN:
        return []
    better = suitable_vocabulary(tokens)
    if better >= vocab_size:
        return []
    fact = (
        f"{'the' if made else 'the default'} vocabulary of {vocab_size:,} tokens is large for a text of "
        f"{'' if made else 'about '}{counted(tokens, 'token')}: each occurs {uses:.2g} times on average"
    )
    return [warning("vocabulary", fact, f"prepare with --vocab-size {better}")]


def suitable_vocabulary(tokens: int) -> int:
    """Return the largest power of two that leaves each token of the vocabulary a hundred uses; at least 512."""
    return max(LEAST_VOCABULARY, 1 << max(0, (tokens // USES_PER_TOKEN).bit_length() - 1))
