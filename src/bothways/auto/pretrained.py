"""What all Auto classes share: loading, saving, publishing, and being called.

Shapes: n texts, T tokens of the longest, C = hidden_size, k numbers that a head says.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bothways.auto.tokenizer import AutoTokenizer
from bothways.batch import PADDING, Attention, Batch
from bothways.checkpoints.checkpoint import Loaded, load, save_checkpoint
from bothways.checkpoints.folders import write_folder
from bothways.checkpoints.publishing import push
from bothways.errors import UserError
from bothways.model.foreign import ForeignModel, wrap
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import default_device
from bothways.training.trainer import Trained


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a model says when it is called.

    Attributes:
        last_hidden_state: [n, T, C].
        logits: what the head says: [n, k] of whole texts, [n, T, k] of tokens; None where there is no head.
    """

    last_hidden_state: Tensor
    logits: Tensor | None = None


class Pretrained:
    """A model with its tokenizer.

    Attributes:
        HEAD: what reads the hidden states; None: nothing does.
        ATTENTION: which way a hybrid is read.
        ONLY: whether models that read the other way are refused.
        model: trunk and head.
        tokenizer: for raw texts; None if the checkpoint has none.
        trained: what came of the last ``fit``: steps, seconds, each epoch's validation; None before.
    """

    HEAD: ClassVar[str | None] = None
    ATTENTION: ClassVar[Attention] = "bidirectional"
    ONLY: ClassVar[bool] = False

    def __init__(self, model: Model, *, tokenizer: AutoTokenizer | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.trained: Trained | None = None

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, revision: str | None = None) -> Self:
        """Load a model onto the best device there is.

        Args:
            name_or_folder: a run, a folder, or the name of a model on the Hugging Face Hub, which is downloaded unless
                it is cached.
            revision: branch, tag or commit; on the Hub only.
        Raises:
            UserError: there is no such model, or it lacks the head.
        """
        loaded, tokenizer = cls._load(name_or_folder, revision=revision)
        if loaded.new_heads:
            raise UserError(
                f"{str(name_or_folder)!r} holds no {' and no '.join(loaded.new_heads).replace('_', ' ')} head, which "
                f"{cls.__name__} cannot do without"
            )
        return cls(loaded.model, tokenizer=tokenizer)

    @classmethod
    def _load(
        cls, name_or_folder: str | Path, *, revision: str | None, outputs: int = 0
    ) -> tuple[Loaded, AutoTokenizer | None]:
        """Load a model with the class's head, which may be new, and its tokenizer."""
        heads = {} if cls.HEAD is None else {cls.HEAD: outputs}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loaded = load(name_or_folder, revision=revision, heads=heads, attention=cls.ATTENTION)
        cls._check_way(loaded.model, repr(str(name_or_folder)))
        loaded.model.eval().to(default_device())
        if loaded.tokenizer is None:
            return loaded, None
        return loaded, AutoTokenizer.of_model(loaded.tokenizer, loaded.folder, config=loaded.config)

    @classmethod
    def _check_way(cls, model: Model, name: str) -> None:
        if cls.ONLY and model.config.attention != cls.ATTENTION:
            way = "both ways, as a BERT" if cls.ATTENTION == "causal" else "from left to right, as a GPT"
            raise UserError(f"{name} reads {way}, which {cls.__name__} cannot use")

    @classmethod
    def from_transformers(cls, module: Any, tokenizer: Any = None, **options: Any) -> Self:
        """Take a model object of the ``transformers`` library, of any architecture, with the same methods on top.

        It computes what it always does, at its own speed: texts are padded, since such a model knows no packing.

        Args:
            module: a model of ``transformers``, with its head or without one.
            tokenizer: of the model: a fast one of ``transformers``, or one of ours.
            options: those of the class, such as ``num_labels``.
        Raises:
            UserError: it is no such model, or its head is another one.
        """
        model = wrap(module, head=cls.HEAD, outputs=options.get("num_labels") or 0).eval()
        cls._check_way(model, type(module).__name__)
        taken = None if tokenizer is None else AutoTokenizer.from_transformers(tokenizer)
        return cls(model, tokenizer=taken, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its tokenizer, so that ``from_pretrained``, or transformers, reads them.

        Raises:
            UserError: the folder cannot be written, or holds something else.
            OutOfDiskError: there is no room.
        """
        tokenizer = self.tokenizer.tokenizer if self.tokenizer else None
        details = self._details()
        if isinstance(self.model, ForeignModel):
            _save_foreign(Path(folder), self.model, tokenizer, details.get("labels"))
        else:
            save_checkpoint(folder, self.model, tokenizer=tokenizer, **details)

    def _details(self) -> dict[str, Any]:
        """Return what a checkpoint keeps besides: ``labels``, ``details``."""
        return {}

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        message: str = "Upload a model of bothways",
    ) -> str:
        """Publish the model on the Hugging Face Hub, as ``save_pretrained`` writes it, and return the commit's address.

        Args:
            name: ``owner/name``; it is made where it is not there yet.
            private: whether others may not see it; None: as it is, or as the owner's settings say.
            revision: the branch; None: the main one.
            message: of the commit.
        Raises:
            UserError: nobody is logged in, the name is not the user's own, or the Hub cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model")
            return push(Path(folder) / "model", name, private=private, revision=revision, message=message)

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **others: Any,
    ) -> Outputs:
        """Return what the model says of encodings, with gradients where torch is told to keep them.

        Args:
            input_ids: [n, T], padded on either side.
            attention_mask: [n, T]: 1: a token, 0: padding; None: all are tokens.
            token_type_ids: [n, T], where the model has segments.
            others: none.
        Raises:
            UserError: the model takes nothing else; loss is what ``fit`` sees to.
        """
        if others:
            raise UserError(
                f"a model is called with input_ids, attention_mask and token_type_ids, not with {[*others]}"
            )
        batch = _batch(input_ids, attention_mask, token_type_ids, self.model).to(self.model.device)
        hidden_states = self.model(batch)
        if self.HEAD is None:
            return Outputs(last_hidden_state=hidden_states)
        real = batch.sequence_ids != PADDING
        index = self._read_at(real)
        logits = self.model.read(self.HEAD, hidden_states, batch, index)
        shape = real.shape if len(index) == real.numel() else real.shape[:1]
        return Outputs(last_hidden_state=hidden_states, logits=logits.view(*shape, -1))

    def _read_at(self, real: Tensor) -> Tensor:
        """Return the flat positions at which the head reads a batch of which [n, T] are no padding: all of them."""
        return torch.arange(real.numel(), device=real.device)

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device and return it."""
        self.model.to(device)
        return self

    def num_parameters(self) -> int:
        """Return the number of weights, the head's included."""
        return self.model.num_parameters()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_parameters():,} parameters)"


def _save_foreign(folder: Path, model: ForeignModel, tokenizer: Tokenizer | None, labels: Sequence[str] | None) -> None:
    """Let a model of transformers write itself, with our names of its classes.

    Raises:
        UserError: its head is ours, for which such a folder has no place.
    """
    module = model.foreign
    if not model.has_own_head:
        raise UserError(
            f"the head that was fitted is not {type(module).__name__}'s own, and its files have no place for it; take over "
            "an object of its class for the task, with as many labels, and fit that"
        )
    if labels:
        module.config.id2label = dict(enumerate(labels))
        module.config.label2id = {label: number for number, label in enumerate(labels)}

    def write(into: Path) -> None:
        module.save_pretrained(into)
        if tokenizer:
            tokenizer.save(into)

    write_folder(folder, write)


def _batch(input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None, model: Model) -> Batch:
    """Return padded encodings as a batch with one sequence a row; positions are counted from its first token."""
    limit = model.config.max_position_embeddings
    if input_ids.dim() != 2 or input_ids.shape[1] > limit:
        raise UserError(f"input_ids must be [texts, tokens] with at most {limit} tokens, not {list(input_ids.shape)}")
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids)
    places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    reach = places if model.config.attention == "causal" else torch.where(real == 1, places.max(), places)
    return Batch(
        input_ids=input_ids,
        position_ids=(real.cumsum(1) - 1).clamp(min=0),
        sequence_ids=torch.where(real == 1, 0, PADDING),
        reach=reach,
        token_type_ids=token_type_ids if model.config.type_vocab_size else None,
    )
