"""The settings of one pretraining run, one level deep, and what is built from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from bothways.batch import Batch, collate
from bothways.config import Config
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import Corpus
from bothways.text.tokenizing.tokenizer import Kind, Tokenizer
from bothways.training.batches import PretrainingBatches, PretrainingObjective
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.trainer import Evaluator
from bothways.training.validation import validate

Corpora = Corpus | Sequence[tuple[Corpus, float]]  # one, or several with their weights


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Config):
    """What is predicted."""

    name: Literal["causal_lm", "masked_lm"] = "causal_lm"
    mask_share: float = 0.15  # masked_lm: share of tokens to predict
    whole_words: bool = False  # masked_lm: the pieces of a word are masked together
    pairs: Literal["next_sentence", "sentence_order", "none"] = "next_sentence"  # masked_lm
    pair_weight: float = 1.0  # masked_lm: weight of the pair loss beside the masked one
    short_share: float = 0.1  # masked_lm: share of sequences built to a random shorter length
    sequence_length: int = 128  # masked_lm: tokens of [CLS] A [SEP] B [SEP]

    def __post_init__(self) -> None:
        for name in ("mask_share", "short_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"objective.{name} must be in [0, 1], not {getattr(self, name)}")
        if not 0 <= self.pair_weight < math.inf:
            raise UserError(f"objective.pair_weight must be at least 0 and finite, not {self.pair_weight}")
        if self.sequence_length < 8:
            raise UserError(f"objective.sequence_length must be at least 8, not {self.sequence_length}")


@dataclass(frozen=True, kw_only=True)
class Experiment(Config):
    """All settings of a run; ``experiment.json`` holds them."""

    model: TransformerConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tokenizer: Kind = "bpe"  # what the text should be prepared with
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be between 0 and 2**32 - 1, not {self.seed}")
        masked = self.objective.name == "masked_lm"
        if masked != (self.model.attention == "bidirectional"):
            raise UserError(
                f"objective.name={self.objective.name} needs model.attention="
                f"{'bidirectional' if masked else 'causal'}, not {self.model.attention}"
            )
        longest = self.objective.sequence_length if masked else self.training.row_length
        if longest > self.model.max_position_embeddings:
            raise UserError(
                f"sequences of {longest} tokens exceed model.max_position_embeddings "
                f"({self.model.max_position_embeddings}); raise it or lower "
                f"{'objective.sequence_length' if masked else 'training.row_length'}"
            )
        if masked and self.objective.sequence_length > self.training.row_length:
            raise UserError(
                f"objective.sequence_length ({self.objective.sequence_length}) must not exceed training.row_length "
                f"({self.training.row_length})"
            )

    def fitted_to(self, tokenizer: Tokenizer) -> "Experiment":
        """Return the experiment with the vocabulary of a tokenizer."""
        return replace(self, model=replace(self.model, vocab_size=len(tokenizer)))


def make_objective(experiment: Experiment, tokenizer: Tokenizer) -> CausalLM | MaskedLM:
    """Build the objective that an experiment names.

    Raises:
        UserError: the tokenizer lacks a special token that the objective needs.
    """
    settings = experiment.objective
    if settings.name == "causal_lm":
        return CausalLM(bos_id=tokenizer.special_id("bos"), eos_id=tokenizer.special_id("eos"))
    return MaskedLM(
        cls_id=tokenizer.special_id("cls"),
        sep_id=tokenizer.special_id("sep"),
        mask_id=tokenizer.special_id("mask"),
        vocab_size=len(tokenizer),
        special_ids=tuple(tokenizer.special_ids.values()),
        continues_word=tokenizer.continues_word() if settings.whole_words else None,
        mask_share=settings.mask_share,
        pairs=settings.pairs,
        short_share=settings.short_share,
        pair_weight=settings.pair_weight,
        length=settings.sequence_length,
    )


def in_shares(corpora: Corpora) -> list[tuple[Corpus, float]]:
    """Return each corpus with its share of the tokens; the shares sum to one."""
    if isinstance(corpora, Corpus):
        return [(corpora, 1.0)]
    total = math.fsum(weight for _, weight in corpora)
    return [(corpus, weight / total) for corpus, weight in corpora]


def make_batches(experiment: Experiment, objective: PretrainingObjective, corpora: Corpora) -> PretrainingBatches:
    """Return the batches that a model is trained on.

    Raises:
        UserError: a corpus is smaller than one row, or its weight is not positive and finite.
    """
    training = experiment.training
    return PretrainingBatches(
        corpora,
        objective,
        row_length=training.row_length,
        batch_tokens=training.batch_tokens,
        micro_batch_tokens=training.micro_batch_tokens,
        seed=experiment.seed,
    )


def make_evaluator(
    experiment: Experiment, objective: CausalLM | MaskedLM, corpora: Corpora, *, tokens: int
) -> Evaluator:
    """Return the evaluation of a model on held-out documents, the same ones and the same masks every time.

    Args:
        experiment: its row length, precision and seed.
        objective: what is measured.
        corpora: the held-out split; of several, each gives its share of the tokens, as far as it has so many.
        tokens: about how many to measure on; whole documents are taken until there are as many.
    Raises:
        UserError: there is nothing to measure on.
    """
    shares = in_shares(corpora)
    corpus = Corpus([shard for source, _ in shares for shard in source.shards])
    documents = _first_documents(shares, tokens)
    batches = held_out_batches(experiment, objective, corpus, documents)
    causal = experiment.objective.name == "causal_lm"
    num_bytes = int(corpus.document_bytes[documents].sum()) if causal else None

    def evaluate(model: Model) -> dict[str, float]:
        return validate(model, batches, precision=experiment.training.precision, num_bytes=num_bytes)

    return evaluate


def _first_documents(shares: Sequence[tuple[Corpus, float]], tokens: int) -> "np.typing.NDArray[np.int64]":
    """Return the first documents of each corpus that have its share of the tokens, counted through all of them."""
    chosen, first = [], 0
    for corpus, share in shares:
        enough = int(np.searchsorted(corpus.document_tokens.cumsum(), share * tokens)) + 1
        chosen.append(np.arange(first, first + min(enough, len(corpus))))
        first += len(corpus)
    return np.concatenate(chosen)


def held_out_batches(
    experiment: Experiment, objective: CausalLM | MaskedLM, corpus: Corpus, documents: "np.typing.NDArray[np.int64]"
) -> list[Batch]:
    """Return documents as batches, with masks drawn once."""
    length = experiment.training.row_length
    rows = list(objective.prepare(corpus, documents, length, np.random.default_rng(0)))
    if not rows:
        raise UserError(
            "the held-out text yields no example: sentence pairs need documents of more than one sentence; hold out more "
            "text, or train with objective.pairs=none"
        )
    size = max(1, experiment.training.micro_batch_tokens // length)
    return [collate(rows[start : start + size], length=length) for start in range(0, len(rows), size)]


def load_experiment(path: str | Path) -> Experiment:
    """Read an ``experiment.json``, or the one in a run's folder."""
    path = Path(path)
    return Experiment.load(path / "experiment.json" if path.is_dir() else path)
