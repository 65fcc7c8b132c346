"""A model object of the ``transformers`` library behind the trunk's interface: any architecture, at its own speed.

Such a model knows no packing: sequences that lie side by side in a row are padded and given to it one below the other, and
what it says is put back where the tokens were. Its own head, where it has one, is kept: hidden states are then what that
head says of each token, and our head only picks them.

Shapes: B rows, T positions, n sequences, L tokens of the longest, K hidden size, or numbers that their head says.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from bothways.batch import PADDING, Batch
from bothways.errors import UserError
from bothways.model.cache import Cache
from bothways.model.config import TransformerConfig
from bothways.model.heads import CLASSES, Model
from bothways.progress import note

NO_LIMIT = 2**20  # tokens, of a model that names none, as state space models do
_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")


def wrap(module: Any, *, head: str | None, outputs: int = 0) -> "ForeignModel":
    """Return a model of ``transformers`` as one of ours.

    Args:
        module: an encoder or a decoder, with its head or without one.
        head: that shall be read; None: hidden states alone.
        outputs: of a new head.
    Raises:
        UserError: it is no such model, or it has not the head and a new one would say nothing.
    """
    if not (isinstance(module, nn.Module) and hasattr(module, "get_input_embeddings") and hasattr(module, "config")):
        raise UserError(f"only a model object of transformers can be taken over, not {type(module).__name__}")
    if getattr(module.config, "is_encoder_decoder", False):
        raise UserError(
            "a model with an encoder and a decoder cannot be taken over; give an encoder or a decoder alone"
        )
    name = type(module).__name__
    own = next((kind for end, kind in CLASSES.items() if name.endswith(end)), None)
    if head == "language_model" and own != head:
        raise UserError(f"{name} has no language model head; give an object of its ForMaskedLM or ForCausalLM class")
    model = ForeignModel(module, own if own == head else None)
    if head is not None and own != head:
        model.add_head(head, outputs)
    note(f"{name} runs as transformers runs it: texts are padded, and nothing of it is packed or faster than it was")
    return model


class ForeignTrunk(nn.Module):
    """Token ids in, hidden states out, by a model of ``transformers``."""

    def __init__(self, module: nn.Module, field: str) -> None:
        """Take it over.

        Args:
            module: the model.
            field: of its outputs, that stands for hidden states.
        """
        super().__init__()
        self.module = module
        self.field = field
        self.layers = nn.ModuleList()  # none that could be compiled or counted alone

    @property
    def embed_tokens(self) -> nn.Embedding:
        """The embeddings of tokens."""
        return cast("nn.Embedding", self.module.get_input_embeddings())  # type: ignore[operator]

    def forward(self, batch: Batch, cache: Cache | None = None) -> Tensor:
        """Return [B, T, K]."""
        if isinstance(cache, TokenCache):
            batch = cache.whole(batch)
        elif cache is not None:
            raise AssertionError("a model of transformers has a cache of its own kind")
        said = self._ask(batch)
        return said if cache is None else said[:, -cache.new :]

    def _ask(self, batch: Batch) -> Tensor:
        real = (batch.sequence_ids != PADDING).flatten()
        rows = torch.arange(len(batch.sequence_ids), device=real.device)[:, None].expand_as(batch.sequence_ids)
        number = rows * (batch.sequence_ids.max() + 1) + batch.sequence_ids  # another one for each sequence
        _, sequence, counts = torch.unique(number.flatten()[real], return_inverse=True, return_counts=True)
        first = counts.cumsum(0) - counts
        order = sequence.argsort(stable=True)
        place = torch.empty_like(sequence)
        place[order] = torch.arange(len(sequence), device=real.device) - first[sequence[order]]
        shape = (len(counts), int(counts.max()))
        given = {
            "input_ids": batch.input_ids.new_full(shape, self._padding()),
            "attention_mask": batch.input_ids.new_zeros(shape),
        }
        given["input_ids"][sequence, place] = batch.input_ids.flatten()[real]
        given["attention_mask"][sequence, place] = 1
        if batch.token_type_ids is not None:
            given["token_type_ids"] = batch.input_ids.new_zeros(shape)
            given["token_type_ids"][sequence, place] = batch.token_type_ids.flatten()[real]
        said = self._say(given)
        of_tokens = said[sequence, place] if said.dim() == 3 else said[sequence]
        laid_out = of_tokens.new_zeros(len(real), of_tokens.shape[-1]).index_put(
            (real.nonzero().squeeze(1),), of_tokens
        )
        return laid_out.view(*batch.input_ids.shape, -1)

    def _say(self, given: dict[str, Tensor]) -> Tensor:
        """Return what the model says: [n, L, K], or [n, K] of whole sequences."""
        outputs = self.module(**given)
        if self.field == "span":
            return torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
        said: Tensor = outputs[self.field] if self.field in outputs else outputs[0]
        return said

    def _padding(self) -> int:
        padding = getattr(self.module.config, "pad_token_id", None)
        return padding if isinstance(padding, int) and padding >= 0 else 0


class Said(nn.Module):
    """Picks what a head of theirs has said already.

    Attributes:
        outputs: numbers that it says of a sequence or token; 0: one for each token of the vocabulary.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, hidden_states: Tensor, batch: Batch, index: Tensor) -> Tensor:  # noqa: ARG002
        """[N, K] to [n, K]."""
        return hidden_states[index]


class ForeignModel(Model):
    """A model of ``transformers`` with its own head, or with ours in its place."""

    def __init__(self, module: Any, own: str | None) -> None:
        """Take it over.

        Args:
            module: the model.
            own: the head of its own that is kept, under our name; None: its trunk alone.
        """
        nn.Module.__init__(self)
        self.shifted = False
        self.pace = None
        self.foreign = module
        kept = module if own else module.base_model
        self.transformer: Any = ForeignTrunk(
            kept, ("span" if own == "span" else "logits") if own else "last_hidden_state"
        )
        self.config = _config(module)
        self.heads = nn.ModuleDict()
        if own:
            classes = own in ("classification", "token_classification")
            self.heads[own] = Said(module.config.num_labels if classes else 2 if own == "span" else 0)

    def add_head(self, name: str, outputs: int = 0) -> None:
        """Add a head of ours in the place of theirs, unless theirs has as many outputs."""
        if name in self.heads and isinstance(theirs := self.heads[name], Said) and theirs.outputs == outputs:
            return
        self.heads = nn.ModuleDict()
        self.transformer = ForeignTrunk(self.foreign.base_model, "last_hidden_state")
        super().add_head(name, outputs)

    @property
    def has_own_head(self) -> bool:
        """Whether all that it says is said by ``transformers`` alone."""
        return all(isinstance(head, Said) for head in self.heads.values())

    def new_cache(self, batch_size: int, capacity: int, dtype: torch.dtype) -> "TokenCache":  # noqa: ARG002
        """Return a cache that remembers tokens: the model reads them anew at every step."""
        return TokenCache(batch_size, capacity, device=self.device)


class TokenCache(Cache):
    """Tokens already read."""

    def __init__(self, batch_size: int, capacity: int, *, device: torch.device) -> None:
        self._sequence_ids = torch.full((batch_size, capacity), PADDING, device=device)
        self._position_ids = torch.zeros_like(self._sequence_ids)
        self._input_ids = torch.zeros_like(self._sequence_ids)
        self._start = 0
        self.length = 0

    @property
    def new(self) -> int:
        """How many columns came last."""
        return self.length - self._start

    def whole(self, batch: Batch) -> Batch:
        """Return the rows from their beginning, with the new tokens of a batch."""
        sequence_ids, _ = self.extend(batch.sequence_ids, batch.position_ids)
        self._input_ids[:, self._start : self.length] = batch.input_ids
        places = torch.arange(self.length, device=sequence_ids.device).expand_as(sequence_ids)
        ids = self._input_ids[:, : self.length]
        return Batch(input_ids=ids, position_ids=places, sequence_ids=sequence_ids, reach=places)

    def keep(self, rows: Tensor) -> None:
        """Keep rows."""
        self._sequence_ids, self._position_ids = self._sequence_ids[rows], self._position_ids[rows]
        self._input_ids = self._input_ids[rows]


@torch.no_grad()
def _config(module: Any) -> TransformerConfig:
    """Return what of our settings other parts ask for."""
    theirs = module.config.get_text_config() if hasattr(module.config, "get_text_config") else module.config
    width = next(getattr(theirs, name) for name in _WIDTHS if hasattr(theirs, name))
    limits = [getattr(theirs, name, None) for name in _LIMITS]
    offset = next((table.padding_idx + 1 for table in _positions(module) if table.padding_idx is not None), 0)
    causal = _is_causal(module.base_model)
    return TransformerConfig(
        vocab_size=module.get_input_embeddings().num_embeddings,
        hidden_size=width,
        num_hidden_layers=getattr(theirs, "num_hidden_layers", None) or 1,
        num_attention_heads=1,
        max_position_embeddings=min((limit for limit in limits if limit and limit > 0), default=NO_LIMIT) - offset,
        attention="causal" if causal else "bidirectional",
        type_vocab_size=getattr(theirs, "type_vocab_size", 0) or 0,
        pooling="last" if causal else "mean",
        tie_word_embeddings=False,
        initializer_range=getattr(theirs, "initializer_range", 0.02),
    )


def _positions(module: nn.Module) -> list[nn.Embedding]:
    """Return the tables of learned positions; RoBERTa's leave out the first ones."""
    named = [part for name, part in module.named_modules() if name.endswith("position_embeddings")]
    return [part for part in named if isinstance(part, nn.Embedding)]


def _is_causal(module: nn.Module) -> bool:
    """Return whether a token is blind to what follows it: two texts are tried that differ at their end."""
    device = next(module.parameters()).device
    tokens = torch.tensor([[7, 8, 9, 10], [7, 8, 9, 11]], device=device)
    was_training = module.training
    states = module.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state.float()
    module.train(was_training)
    return torch.allclose(states[0, :3], states[1, :3], atol=1e-4)
