"""A model as a function of padded token ids and a mask, which other programs can take over as a graph.

Shapes: B rows, T positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import PADDING, Batch
from bothways.checkpoints.checkpoint import Loaded
from bothways.model.heads import ComparisonHead, Model

INPUTS = ("input_ids", "attention_mask")
WHOLE = ("classification", "next_sentence", "embedding")  # heads that say something of a whole sequence


@dataclass(frozen=True)
class Output:
    """What a graph says.

    Attributes:
        name: as other programs call it.
        head: of ours.
    """

    name: str
    head: str


def outputs_of(model: Model) -> list[Output]:
    """Return what the graph of a model says: of each of its heads, or vectors where it has none.

    What compares the two texts of a pair has no place in a graph that is not told which text a token is of.
    """
    heads = [name for name, head in model.heads.items() if not isinstance(head, ComparisonHead)] or ["embedding"]
    alone = "sentence_embedding" if heads == ["embedding"] else "logits"
    return [Output(alone if len(heads) == 1 else f"{head}_output", head) for head in heads]


class Graph(nn.Module):
    """The forward pass as other programs call it: [B, T] ids and mask to a tensor for each head."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs_of(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return [B, T, outputs] for heads that read tokens, [B, outputs] for those that read sequences."""
        batch = self.batch(input_ids, attention_mask)
        hidden_states = self.model(batch)
        flat = hidden_states.flatten(0, 1)
        rows, length = input_ids.shape
        said = []
        for output in self.outputs:
            head: Any = None if output.head == "embedding" else self.model.heads[output.head]
            if output.head == "embedding":
                said.append(functional.normalize(mean(hidden_states, attention_mask), dim=-1))
            elif output.head in WHOLE:
                said.append(head.score(self.pooled(hidden_states, attention_mask)))
            else:
                every = torch.arange(rows * length, device=input_ids.device)
                said.append(head(flat, batch, every).unflatten(0, (rows, length)))
        return tuple(said)

    def batch(self, input_ids: Tensor, attention_mask: Tensor) -> Batch:
        """Return the batch that padded rows are, each one sequence; padding sees itself alone, so that nothing is empty."""
        real = attention_mask.bool()
        index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        last = input_ids.shape[1] - 1
        causal = self.model.config.attention == "causal"
        return Batch(
            input_ids=input_ids,
            position_ids=(attention_mask.cumsum(1) - 1).clamp_min(0),
            sequence_ids=torch.where(real, 0, PADDING),
            reach=index if causal else torch.full_like(index, 0) + last,
            token_type_ids=None,
            targets={},
        )

    def pooled(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [B, C]: what stands for a whole sequence, as the model's settings say."""
        if self.model.config.pooling == "mean":
            return mean(hidden_states, attention_mask)
        index = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        last = self.model.config.pooling == "last"
        at = (index * attention_mask).max(dim=1).values if last else attention_mask.argmax(dim=1)
        return hidden_states.gather(1, at[:, None, None].expand(-1, 1, hidden_states.shape[2])).squeeze(1)


def mean(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean [B, C] over real tokens."""
    weight = attention_mask.to(hidden_states.dtype).unsqueeze(-1)
    return (hidden_states * weight).sum(1) / weight.sum(1)


def by_head(outputs: Mapping[str, Any], wanted: list[Output]) -> dict[str, Any]:
    """Return what was said, under our names of heads, of the one row that was asked about."""
    return {output.head: outputs[output.name][0] for output in wanted}


def ask_graph(loaded: Loaded, imports: str, opening: str, asking: str) -> str:
    """Return Markdown with code that asks a graph about a text, and what it answers.

    Args:
        loaded: the model.
        imports: of the program.
        opening: makes the graph.
        asking: asks it; ``feed`` is the inputs by name.
    """
    ids = 'tokenizer = Tokenizer.from_file("tokenizer.json")\nids = tokenizer.encode("A text.").ids'
    ids, needs = (
        (ids, "\nfrom tokenizers import Tokenizer") if loaded.tokenizer else ("ids = [0, 1, 2]  # token ids", "")
    )
    said = "; ".join(f"`{output.name}` {_shape(output.head)}" for output in outputs_of(loaded.model))
    return (
        f"```python\nimport numpy as np\n{imports}{needs}\n\n{ids}\n"
        'feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}\n'
        f"{opening}\n{asking}\n```\n\n"
        "`input_ids` and `attention_mask` (1: a token, 0: padding after it) are whole numbers of 64 bits, [rows, length], of "
        f"any number of rows and up to {loaded.model.config.max_position_embeddings} tokens. It answers with {said}."
    )


def _shape(head: str) -> str:
    return {"embedding": "[rows, hidden size], unit vectors"}.get(
        head, "[rows, outputs]" if head in WHOLE else "[rows, length, outputs]"
    )


__all__ = ["INPUTS", "Graph", "Output", "ask_graph", "by_head", "outputs_of"]
