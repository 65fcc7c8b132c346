"""What makes one Transformer differ from another."""

from dataclasses import dataclass, replace
from typing import Literal

from bothways.batch import Attention
from bothways.config import Config
from bothways.errors import UserError

_WAYS = {"causal": "from left to right (as a GPT)", "bidirectional": "both ways (as a BERT)"}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """Settings of the trunk and of how heads read it; names are BERT's and Hugging Face's.

    The defaults are our modern trunk: rotary positions, RMS norm before each sublayer, SwiGLU, no biases. It has the weight
    names and shapes of Hugging Face's Llama (causal) and EuroBERT (bidirectional).
    """

    vocab_size: int
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None  # fewer than the heads: grouped queries; None: as many
    head_size: int | None = None  # None: hidden_size / num_attention_heads
    intermediate_size: int = 704
    max_position_embeddings: int = 512

    attention: Attention = "causal"  # the one value in which GPT and BERT differ
    hybrid: bool = False  # trained both ways: the same weights serve with either attention
    position: Literal["rotary", "learned"] = "rotary"
    rope_theta: float = 10_000.0
    position_offset: int = 0  # rows of the table of learned positions before the first one (RoBERTa: 2)
    local_window: int = 0  # positions that a token of a local layer sees to each side; 0: no layer is local
    global_every: int = 1  # layers 0, n, 2n, … are not local, whatever the window
    local_rope_theta: float = 10_000.0  # rope_theta of the local layers
    norm: Literal["rms", "layer"] = "rms"
    norm_position: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = True  # of layer norms; RMS norms have none
    norm_embeddings: bool = (
        False  # ModernBERT's norm after the embeddings, in place of the first layer's; post has it always
    )
    activation: Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    bias: bool = False  # in attention and feed-forward
    qk_norm: bool = False
    type_vocab_size: int = 0  # BERT's segments: 2
    tie_word_embeddings: bool = True

    head_transform: bool = False  # BERT's dense + activation + norm before the decoder, and the decoder's bias
    head_bias: bool = True  # of that dense layer
    pooling: Literal["first", "last", "mean"] = "last"  # which hidden states stand for a whole sequence
    # Dense layer with this activation before a sequence's classes; "transform": what stands before the decoder.
    pooler: Literal["tanh", "gelu", "relu", "transform", "none"] = "none"

    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        positive = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        for name in (*positive, "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} must be at least 1, not {getattr(self, name)}")
        if self.head_size is not None and self.head_size < 1:
            raise UserError(f"model.head_size must be at least 1, not {self.head_size}")
        for name in ("type_vocab_size", "initializer_range", "norm_eps", "position_offset", "local_window"):
            if getattr(self, name) < 0:
                raise UserError(f"model.{name} must not be negative, and is {getattr(self, name)}")
        for name in ("rope_theta", "local_rope_theta", "global_every"):
            if getattr(self, name) <= 0:
                raise UserError(f"model.{name} must be above 0, not {getattr(self, name)}")
        if self.pooler == "transform" and not self.head_transform:
            raise UserError("model.pooler=transform needs model.head_transform=true")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"model.{name} must be in [0, 1), not {getattr(self, name)}")
        if self.head_size is None and self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"model.hidden_size ({self.hidden_size}) must be a multiple of model.num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.position == "rotary" and self.size_of_head % 2:
            raise UserError(f"rotary positions need an even head size, not {self.size_of_head}")
        if self.key_value_heads < 1 or self.num_attention_heads % self.key_value_heads:
            raise UserError(
                f"model.num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"model.num_key_value_heads ({self.num_key_value_heads})"
            )

    def read_as(self, attention: Attention) -> "TransformerConfig":
        """Return the settings of the same weights reading in a direction; only a hybrid's can change.

        Raises:
            UserError: the model was trained to read in the other direction alone.
        """
        if attention == self.attention:
            return self
        if not self.hybrid:
            raise UserError(f"this model reads {_WAYS[self.attention]} only, and cannot be used {_WAYS[attention]}")
        both = {"causal": ("last", "none"), "bidirectional": ("mean", "gelu")}
        pooling, pooler = both[attention]
        return replace(self, attention=attention, hybrid=False, pooling=pooling, pooler=pooler)  # type: ignore[arg-type]

    def is_local(self, layer: int) -> bool:
        """Whether the tokens of a layer see those near them alone."""
        return self.local_window > 0 and layer % self.global_every != 0

    @property
    def size_of_head(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads if self.head_size is None else self.head_size

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate beside its up projection."""
        return self.activation in ("swiglu", "geglu")
