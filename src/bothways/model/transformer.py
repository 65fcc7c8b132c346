"""The Transformer, whole: this file is every operation between token ids and hidden states, for GPT and BERT alike.

References: Vaswani et al. 2017 (attention); Radford et al. 2019 (GPT-2: norm first, scaled residual initialisation); Devlin
et al. 2018 (BERT: norm last, token types); Su et al. 2021 (rotary positions); Zhang & Sennrich 2019 (RMS norm); Shazeer 2020
(gated feed-forward); So et al. 2021 (squared ReLU); Warner et al. 2024 (ModernBERT: layers that see what is near).

Shapes: B rows, T positions, C = hidden_size, H heads of size D.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import Batch
from bothways.model.attention import Mask, Window, attend, visible
from bothways.model.cache import Cache
from bothways.model.config import TransformerConfig
from bothways.model.kernels import dtype_of_products

Rotation = tuple[Tensor, Tensor]


class Transformer(nn.Module):
    """Token ids in, hidden states out. Causal or bidirectional is not its business: a batch's ``reach`` says it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.position == "learned":
            positions = config.position_offset + config.max_position_embeddings
            self.embed_positions = nn.Embedding(positions, config.hidden_size)
        if config.type_vocab_size:
            self.embed_types = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norms_embeddings = config.norm_position == "post" or config.norm_embeddings
        if self.norms_embeddings:
            self.embed_norm = make_norm(config)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        if config.norm_position == "pre":
            self.norm = make_norm(config)

    def forward(self, batch: Batch, cache: Cache | None = None) -> Tensor:
        """Return hidden states [B, T, C].

        Args:
            batch: its targets are not looked at.
            cache: holds earlier tokens of the same rows; ``reach`` then counts columns of the cache.
        """
        key_sequence_ids, key_position_ids = batch.sequence_ids, batch.position_ids
        if cache is not None:
            key_sequence_ids, key_position_ids = cache.extend(batch.sequence_ids, batch.position_ids)
        window = Window(self.config.local_window, batch.position_ids, key_position_ids)
        hidden_states = self.embed(batch)
        shared: dict[bool, tuple[Mask, Rotation | None]] = {}  # by all local layers, and by all others
        kinds = [self.config.is_local(number) for number in range(len(self.layers))]
        for local in set(kinds):
            mask = visible(
                batch.sequence_ids,
                batch.reach,
                key_sequence_ids,
                like=hidden_states,
                head_size=self.config.size_of_head,
                dropout=self.config.attention_dropout if self.training else 0.0,
                window=window if local else None,
            )
            theta = self.config.local_rope_theta if local else self.config.rope_theta
            rotates = self.config.position == "rotary"
            rotation = (
                rotate_by(batch.position_ids, self.config.size_of_head, theta, hidden_states) if rotates else None
            )
            shared[local] = mask, rotation
        for layer, local in zip(self.layers, kinds, strict=True):
            hidden_states = layer(hidden_states, *shared[local], cache)
        return self.norm(hidden_states) if self.config.norm_position == "pre" else hidden_states

    def embed(self, batch: Batch) -> Tensor:
        """Return what enters the first layer, [B, T, C]."""
        hidden_states = self.embed_tokens(batch.input_ids)
        if self.config.position == "learned":
            hidden_states = hidden_states + self.embed_positions(batch.position_ids + self.config.position_offset)
        if self.config.type_vocab_size:
            types = torch.zeros_like(batch.input_ids) if batch.token_type_ids is None else batch.token_type_ids
            hidden_states = hidden_states + self.embed_types(types)
        if self.norms_embeddings:
            hidden_states = self.embed_norm(hidden_states)
        return functional.dropout(hidden_states, self.config.hidden_dropout, self.training)


class Block(nn.Module):
    """Attention, then feed-forward, each added to what came in."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        self.norm_first = config.norm_position == "pre"
        self.dropout = nn.Dropout(config.hidden_dropout)
        is_normed = self.norm_first and config.norm_embeddings and index == 0
        self.attention_norm = nn.Identity() if is_normed else make_norm(config)
        self.attention = SelfAttention(config, index)
        self.mlp_norm = make_norm(config)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None, cache: Cache | None = None) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, rotation, cache))
            return x + self.dropout(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, rotation, cache)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.size_of_head = config.size_of_head
        self.dropout = config.attention_dropout
        queries, keys = config.num_attention_heads * self.size_of_head, config.key_value_heads * self.size_of_head
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.bias)
        self.q_norm = RMSNorm(self.size_of_head, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.size_of_head, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None, cache: Cache | None) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        x = x.to(dtype_of_products(x))  # once, and not in each of the three products
        query = self.q_norm(self.split_heads(self.q_proj(x)))
        key = self.k_norm(self.split_heads(self.k_proj(x)))
        value = self.split_heads(self.v_proj(x))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.update(self.index, key, value)
        mixed = attend(query, key, value, mask, self.dropout if self.training else 0.0)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, T, H·D] to [B, H, T, D]."""
        return x.view(*x.shape[:-1], -1, self.size_of_head).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, or three with a gate."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        if config.gated:
            self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        return self.down_proj(self.activate(x))

    def activate(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, intermediate_size]."""
        x = x.to(dtype_of_products(x))
        up = self.up_proj(x)
        match self.activation:
            case "swiglu":
                return functional.silu(self.gate_proj(x)) * up
            case "geglu":
                return functional.gelu(self.gate_proj(x)) * up
            case "gelu":
                return functional.gelu(up)
            case "gelu_tanh":
                return functional.gelu(up, approximate="tanh")
            case "relu2":
                return functional.relu(up).square()
        raise AssertionError(self.activation)


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight, over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """[…, size] to […, size], in the dtype of x."""
        return _NormalizeByRMS.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]


class _NormalizeByRMS(torch.autograd.Function):
    """RMS norm with its gradient written out: half as many passes over memory as autograd takes.

    With n = x / r and r = √(mean(x²) + ε): dL/dx = (g·w − n · mean(g·w·n)) / r and dL/dw = Σ g·n.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square()
        inverse = torch.rsqrt(square / x.shape[-1] + eps).to(x.dtype)
        normal = x * inverse
        context.save_for_backward(normal, inverse, weight)
        return normal * weight.to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normal, inverse, weight = context.saved_tensors
        wide = torch.promote_types(normal.dtype, torch.float32)
        product = gradient * normal
        mean = (product @ weight.to(product.dtype)).unsqueeze(-1) / normal.shape[-1]
        for_weight = product.flatten(0, -2).sum(0, dtype=wide)
        return (
            torch.addcmul(gradient * weight.to(gradient.dtype), normal, mean, value=-1).mul_(inverse),
            for_weight,
            None,
        )


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the norm that the settings name, over hidden states."""
    if config.norm == "rms":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)


def rotate_by(position_ids: Tensor, size_of_head: int, theta: float, like: Tensor) -> Rotation:
    """Return the cosines and sines [B, 1, T, D/2] of the angles that positions [B, T] turn by."""
    exponent = torch.arange(0, size_of_head, 2, dtype=torch.float64) / size_of_head
    frequency = (1.0 / theta**exponent).to(torch.promote_types(like.dtype, torch.float32))
    angle = position_ids[:, None, :, None] * frequency.to(like.device)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of [B, H, T, D] by its angle."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@torch.no_grad()
def initialize(module: nn.Module, config: TransformerConfig) -> None:
    """Set every weight of a trunk or a head.

    | weight | value |
    |---|---|
    | embeddings, linear layers | normal(0, initializer_range) |
    | ``o_proj``, ``down_proj`` where the norm comes first | the same / √(2 · layers), so that the residual sum keeps its size |
    | norms | 1 |
    | biases | 0 |
    """
    shrink = 1 / math.sqrt(2 * config.num_hidden_layers) if config.norm_position == "pre" else 1.0
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            parameter.normal_(0.0, config.initializer_range * (shrink if residual else 1.0))
