"""How much a training step has to compute, counted from the shapes of its matrix products.

What is left out (norms, activations, softmax, the optimizer) is what a share of the machine's peak should be charged for, not
credited with.
"""

from bothways.model.config import TransformerConfig


def trunk_matrix_weights(config: TransformerConfig) -> int:
    """Return the weights of the trunk that every token is multiplied with: no embeddings, norms or biases."""
    queries = config.num_attention_heads * config.size_of_head
    keys = config.key_value_heads * config.size_of_head
    attention = 2 * config.hidden_size * (queries + keys)
    feed_forward = (3 if config.gated else 2) * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (attention + feed_forward)


def training_flops(config: TransformerConfig, *, tokens: int, predicted: int, context: int) -> float:
    """Return the floating point operations of forward and backward passes, two for each multiplication and addition.

    Source: Chowdhery et al. 2022, appendix B, with the vocabulary counted for the predicted tokens alone.

    Args:
        config: of the model.
        tokens: read by the trunk.
        predicted: positions that the language model head reads.
        context: tokens of a row: each attends to all of it, as if nothing were masked.
    """
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * config.size_of_head * context
    transform = config.hidden_size**2 if config.head_transform else 0
    head = config.hidden_size * config.vocab_size + transform
    return 6.0 * (tokens * (trunk_matrix_weights(config) + attention) + predicted * head)
