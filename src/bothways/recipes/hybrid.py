"""Our hybrids: one set of weights that is a GPT and a BERT, after GPT-BERT (Charpentier & Samuel 2024).

They are saved as Hugging Face's Llama, with the settings of EuroBERT beside it.
"""

from dataclasses import replace
from functools import partial

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.recipes.gpt import SIZES, gpt


def hybrid(size: str) -> Experiment:
    """Return the experiment of a size: the GPT of that size, with what differs."""
    causal = gpt(size)
    return replace(
        causal,
        model=replace(causal.model, hybrid=True),
        objective=ObjectiveConfig(
            name="hybrid",
            mask_share=0.4,
            final_mask_share=0.15,
            longest_span=3,
            pairs="none",
            masked_share=0.25,  # what either side loses beside a model of its own is then alike (docs/experiments.md)
            sequence_length=causal.training.row_length,
        ),
    )


RECIPES = {f"hybrid-{size}": partial(hybrid, size) for size in SIZES}
