"""Our GPTs: a causal trunk with rotary positions, RMS norms and SwiGLU, trained by Muon.

They are saved as Hugging Face's Llama, and open in whatever opens a Llama.
"""

from functools import partial

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.model.config import TransformerConfig
from bothways.training.config import TrainingConfig

# size: hidden_size, layers, heads, intermediate_size (parameters with 8,192 tokens)
SIZES = {
    "tiny": (96, 4, 3, 256),  # 1.2 M
    "mini": (256, 4, 4, 704),  # 5.3 M
    "small": (384, 6, 6, 1024),  # 13.8 M
    "medium": (640, 8, 10, 1728),  # 44.9 M
    "base": (768, 12, 12, 2048),  # 91.2 M
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
            pooling="last",
        ),
        objective=ObjectiveConfig(name="causal_lm"),
        training=TrainingConfig(row_length=256),
        tokenizer="bpe",
    )


RECIPES = {f"gpt-{size}": partial(gpt, size) for size in SIZES}
