"""Our BERTs: the trunk of our GPTs looking both ways, trained on masked tokens and next sentences.

They are saved as Hugging Face's EuroBERT; the next sentence head is ours.
"""

from dataclasses import replace
from functools import partial

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.recipes.gpt import SIZES, gpt


def bert(size: str) -> Experiment:
    """Return the experiment of a size: the GPT of that size, with what differs."""
    causal = gpt(size)
    return replace(
        causal,
        model=replace(causal.model, attention="bidirectional", pooling="mean", pooler="gelu"),
        objective=ObjectiveConfig(
            name="masked_lm",
            mask_share=0.4,
            final_mask_share=0.15,
            pairs="next_sentence",
            pair_weight=0.3,
            sequence_length=128,
        ),
        training=replace(causal.training, row_length=128, length_ramp_share=0.0),
        tokenizer="wordpiece",
    )


RECIPES = {f"bert-{size}": partial(bert, size) for size in SIZES}
