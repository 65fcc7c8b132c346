"""What reads the hidden states, and the model: one trunk with the heads that an objective asks for.

A head reads only the positions that ``batch.targets[head].index`` names: the masked tokens, the last token, a passage.

Shapes: N = B·T flattened positions, C = hidden_size, n indexed positions.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import Batch
from bothways.errors import unknown
from bothways.model.cache import Cache
from bothways.model.config import TransformerConfig
from bothways.model.kernels import cross_entropy_in_chunks, filled_up
from bothways.model.pace import Pace
from bothways.model.transformer import Transformer, initialize, make_norm

POOLERS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "gelu": functional.gelu, "relu": functional.relu}


def make_transform(config: TransformerConfig) -> nn.Sequential:
    """Return what BERT does to hidden states before it scores tokens: dense, GELU, norm."""
    dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
    return nn.Sequential(dense, nn.GELU(), make_norm(config))


class LanguageModelHead(nn.Module):
    """Scores of every token of the vocabulary at each indexed position: GPT's head, and BERT's with its transform."""

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()
        self.transform: nn.Module = nn.Identity()
        if config.head_transform:
            self.transform = make_transform(config)
        self.decoder = nn.Linear(config.hidden_size, outputs or config.vocab_size, bias=config.head_transform)

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """[N, C] to logits [n, vocab_size]."""
        return self.decoder(self.transform(hidden_states[index]))

    def cross_entropy(self, hidden_states: Tensor, index: Tensor, value: Tensor) -> Tensor:
        """Return the cross-entropy summed over the indexed positions of [N, C], without storing all their logits."""
        transformed = self.transform(hidden_states[filled_up(index)])
        return cross_entropy_in_chunks(transformed, self.decoder.weight, self.decoder.bias, value)


class ClassificationHead(nn.Module):
    """Scores of classes for whole sequences: topics, sentiments, and whether one sentence follows another."""

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.pooler = config.pooler
        self.dropout = config.hidden_dropout
        if config.pooler == "transform":
            self.transform = make_transform(config)
        elif config.pooler != "none":
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, outputs or 2, bias=config.pooler != "none")

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """[N, C] to logits [n, outputs]; each index names the sequence it lies in."""
        return self.score(pool(hidden_states, batch, index, self.pooling))

    def score(self, pooled: Tensor) -> Tensor:
        """[n, C] to logits [n, outputs]."""
        if self.pooler == "transform":
            pooled = self.transform(pooled)
        elif self.pooler != "none":
            pooled = POOLERS[self.pooler](self.dense(pooled))
        return self.output(functional.dropout(pooled, self.dropout, self.training))


class ComparisonHead(nn.Module):
    """Whether one text follows another, for a trunk that cannot tell the two apart: the means of both, compared.

    Attention alone would have to find out which text a token is of, and whether the other one has anything like it: what
    a model learns late, if it learns it at all (docs/experiments.md). u and v being the means, this reads u, v, |u - v|
    and u * v.

    Source: Conneau et al. 2017, figure 1.
    """

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(4 * config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, outputs or 2)

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """[N, C] to logits [n, outputs]; each index names the sequence it lies in. A text that is missing is zero."""
        types = torch.zeros_like(batch.input_ids) if batch.token_type_ids is None else batch.token_type_ids
        first = 2 * _sequences(batch)
        texts = torch.cat([first[index], first[index] + 1])
        one, other = _means(hidden_states, first + types.flatten(), texts, 2 * _room(batch)).chunk(2)
        compared = torch.cat([one, other, (one - other).abs(), one * other], dim=-1)
        return self.output(functional.gelu(self.dense(compared)))


def next_sentence_head(config: TransformerConfig, outputs: int) -> nn.Module:
    """Return BERT's head for pairs where the trunk has segments, else one that compares."""
    return ClassificationHead(config, outputs) if config.type_vocab_size else ComparisonHead(config, outputs)


class TokenHead(nn.Module):
    """Scores of each indexed token alone: of its classes, or of being the first and the last one of an answer."""

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()
        self.transform: nn.Module = make_transform(config) if config.pooler == "transform" else nn.Identity()
        self.output = nn.Linear(config.hidden_size, outputs or 2)

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """[N, C] to logits [n, outputs]."""
        return self.output(self.transform(hidden_states[index]))


class EmbeddingHead(nn.Module):
    """A unit vector for each whole sequence: the mean of its hidden states. Has no weights."""

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """[N, C] to unit vectors [n, C] in float32 or better."""
        wide = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
        return functional.normalize(pool(wide, batch, index, "mean"), dim=-1)


HEADS: dict[str, Callable[[TransformerConfig, int], nn.Module]] = {
    "language_model": LanguageModelHead,
    "next_sentence": next_sentence_head,
    "classification": ClassificationHead,
    "token_classification": TokenHead,
    "span": TokenHead,
    "embedding": EmbeddingHead,
}

# The end of a Hugging Face class's name, to the head that it adds: several of them may keep theirs under one name.
CLASSES = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "span",
    "ForMaskedLM": "language_model",
    "ForCausalLM": "language_model",
    "LMHeadModel": "language_model",
}


def pool(hidden_states: Tensor, batch: Batch, index: Tensor, pooling: str) -> Tensor:
    """Return one vector per index for the sequence that the index lies in.

    Args:
        hidden_states: [N, C].
        index: [n]; for ``first`` and ``last`` the very position that is read, for ``mean`` any position of the sequence.
        pooling: ``"first"``, ``"last"`` or ``"mean"``.
    Returns:
        [n, C].
    """
    if pooling != "mean":
        return hidden_states[index]
    sequences = _sequences(batch)
    return _means(hidden_states, sequences, sequences[index], _room(batch))


def _sequences(batch: Batch) -> Tensor:
    """Return [N] a number for each sequence of a batch, that of all its positions; what is padding in a row has one, too."""
    rows, length = batch.sequence_ids.shape
    row_of = torch.arange(rows, device=batch.sequence_ids.device).repeat_interleave(length)
    return row_of * (length + 1) + batch.sequence_ids.flatten() + 1


def _room(batch: Batch) -> int:
    """Return what all numbers of ``_sequences`` are below."""
    rows, length = batch.sequence_ids.shape
    return rows * (length + 1)


def _means(hidden_states: Tensor, groups: Tensor, wanted: Tensor, most: int) -> Tensor:
    """Return the mean of the [N, C] hidden states of each wanted group, [n, C], summed in float32 or better; of none: zero.

    Args:
        hidden_states: [N, C].
        groups: [N] the number of each one's group.
        wanted: [n] numbers of groups.
        most: what all numbers are below.
    """
    wide = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
    total = wide.new_zeros(most, wide.shape[1]).index_add(0, groups, wide)
    count = torch.bincount(groups, minlength=most).clamp_min(1)
    return (total[wanted] / count[wanted].unsqueeze(1)).to(hidden_states.dtype)


class Model(nn.Module):
    """A trunk and its heads.

    Attributes:
        shifted: reading both ways, it says a hidden token at the position before it (objective ``MaskedLM.shifted``).
        pace: how fast it was pretrained; None: not known.
    """

    def __init__(self, config: TransformerConfig, heads: Mapping[str, int]) -> None:
        """Build with fresh weights, drawn from torch's global generator.

        Args:
            config: of the trunk.
            heads: name to number of outputs (0: the head's own default).
        """
        super().__init__()
        self.config = config
        self.shifted = False
        self.pace: Pace | None = None
        self.transformer = Transformer(config)
        initialize(self.transformer, config)
        self.heads = nn.ModuleDict()
        for name, outputs in heads.items():
            self.add_head(name, outputs)

    def add_head(self, name: str, outputs: int = 0) -> None:
        """Add a head with fresh weights, or replace the one of that name.

        Raises:
            UserError: there is no kind of head of that name.
        """
        if name not in HEADS:
            raise unknown("head", name, HEADS)
        head = HEADS[name](self.config, outputs)
        initialize(head, self.config)
        embeddings = self.transformer.embed_tokens.weight
        if isinstance(head, LanguageModelHead) and self.config.tie_word_embeddings:
            assert outputs in (0, self.config.vocab_size), "a tied decoder has an output for each token"
            head.decoder.weight = embeddings
        self.heads[name] = head.to(embeddings.device, embeddings.dtype).train(self.training)

    def forward(self, batch: Batch, cache: Cache | None = None) -> Tensor:
        """Return hidden states [B, T, C]."""
        return self.transformer(batch, cache)

    def read(self, head: str, hidden_states: Tensor, batch: Batch, index: Tensor | None = None) -> Tensor:
        """Return what a head says of [B, T, C] hidden states at ``index`` (by default: at the batch's targets).

        It is in float32 or better, so that a softmax over many classes stays exact.
        """
        index = batch.targets[head].index if index is None else index
        said: Tensor = self.heads[head](hidden_states.flatten(0, 1), batch, index)
        return said.to(torch.promote_types(said.dtype, torch.float32))

    def cross_entropy(self, head: str, hidden_states: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy summed over a head's targets, in nats, from [B, T, C] hidden states.

        Logits of a vocabulary are never stored all together where there are more than ``logits_at_once``.
        """
        target, reader = batch.targets[head], self.heads[head]
        if isinstance(reader, LanguageModelHead):
            return reader.cross_entropy(hidden_states.flatten(0, 1), target.index, target.value)
        return functional.cross_entropy(self.read(head, hidden_states, batch), target.value, reduction="sum")

    def new_cache(self, batch_size: int, capacity: int, dtype: torch.dtype) -> Cache:
        """Return an empty cache for so many rows of so many tokens."""
        return Cache(self.config, batch_size, capacity, device=self.device, dtype=dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.embed_tokens.weight.device

    def num_parameters(self) -> int:
        """Weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
