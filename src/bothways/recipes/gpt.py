"""Our GPTs: a causal trunk with rotary positions, RMS norms and SwiGLU, trained by Muon.

They are saved as Hugging Face's Llama, and open in whatever opens a Llama.
"""

from functools import partial

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.model.config import TransformerConfig
from bothways.training.config import OptimizerConfig, TrainingConfig

# size: hidden_size, layers, heads, intermediate_size (parameters with 8,192 tokens)
SIZES = {
    "tiny": (64, 4, 2, 176),  # 1.2 M
    "mini": (192, 5, 3, 512),  # 5.4 M
    "small": (384, 5, 6, 1024),  # 15.1 M
    "medium": (576, 8, 9, 1536),  # 41.3 M
    "base": (768, 12, 12, 2048),  # 97.5 M
}


def gpt(size: str) -> Experiment:
    """Return the experiment of a size."""
    hidden_size, layers, heads, intermediate_size = SIZES[size]
    return Experiment(
        model=TransformerConfig(
            vocab_size=8192,
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate_size,
            max_position_embeddings=512,
            attention="causal",
            tie_word_embeddings=False,
            pooling="last",
        ),
        objective=ObjectiveConfig(name="causal_lm"),
        training=TrainingConfig(row_length=256, length_ramp_share=0.6, learning_rate=6e-3),
        optimizer=OptimizerConfig(embedding_scale=16.0),
        tokenizer="bpe",
    )


RECIPES = {f"gpt-{size}": partial(gpt, size) for size in SIZES}
