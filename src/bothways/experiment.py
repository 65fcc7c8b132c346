"""The settings of one pretraining run, one level deep, and what is built from them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from bothways.batch import Attention, Batch, collate
from bothways.config import Config
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.flops import training_flops
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.hybrid import Hybrid
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import Corpus
from bothways.text.tokenizing.tokenizer import Kind, Tokenizer
from bothways.training.batches import PretrainingBatches, PretrainingObjective
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.schedule import row_length_at
from bothways.training.trainer import Evaluator
from bothways.training.validation import validate

Pretraining = CausalLM | MaskedLM | Hybrid
Corpora = Corpus | Sequence[tuple[Corpus, float]]  # one, or several with their weights


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Config):
    """What is predicted."""

    name: Literal["causal_lm", "masked_lm", "hybrid"] = "causal_lm"
    mask_share: float = 0.15  # of the tokens of a masked sequence
    final_mask_share: float | None = None  # given: the share goes there in a line while training goes on
    whole_words: bool = False  # the pieces of a word are masked together
    longest_span: int = 1  # of neighbours that are masked together
    shifted: bool = False  # masked tokens are predicted from the position before them
    pairs: Literal["next_sentence", "sentence_order", "none"] = "next_sentence"  # masked_lm
    pair_weight: float = 1.0  # masked_lm: weight of the pair loss beside the masked one
    short_share: float = 0.1  # masked_lm: share of sequences built to a random shorter length
    sequence_length: int = 128  # masked_lm: tokens of [CLS] A [SEP] B [SEP]; hybrid: of a sequence
    masked_share: float = 0.5  # hybrid: of the sequences, and the weight of their loss
    prefix_share: float = 0.1  # hybrid: of the sequences; the others are causal

    def __post_init__(self) -> None:
        for name in ("mask_share", "short_share", "masked_share", "prefix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"objective.{name} must be in [0, 1], not {getattr(self, name)}")
        if self.final_mask_share is not None and not 0 <= self.final_mask_share <= 1:
            raise UserError(f"objective.final_mask_share must be in [0, 1], not {self.final_mask_share}")
        if self.masked_share + self.prefix_share > 1:
            raise UserError(
                f"objective.masked_share ({self.masked_share}) and objective.prefix_share ({self.prefix_share}) must not "
                "exceed 1 together"
            )
        if not 0 <= self.pair_weight < math.inf:
            raise UserError(f"objective.pair_weight must be at least 0 and finite, not {self.pair_weight}")
        if self.sequence_length < 8:
            raise UserError(f"objective.sequence_length must be at least 8, not {self.sequence_length}")
        if not 1 <= self.longest_span <= 64:
            raise UserError(f"objective.longest_span must be between 1 and 64, not {self.longest_span}")


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
        sequences = self.objective.name != "causal_lm"  # or the rows are full of documents
        needed: Attention = "bidirectional" if self.objective.name == "masked_lm" else "causal"
        if self.model.attention != needed:
            raise UserError(
                f"objective.name={self.objective.name} needs model.attention={needed}, not {self.model.attention}"
            )
        if self.model.hybrid != (self.objective.name == "hybrid"):
            raise UserError(
                f"objective.name={self.objective.name} needs model.hybrid={str(not self.model.hybrid).lower()}, not "
                f"{str(self.model.hybrid).lower()}"
            )
        longest = self.objective.sequence_length if sequences else self.training.row_length
        if longest > self.model.max_position_embeddings:
            raise UserError(
                f"sequences of {longest} tokens exceed model.max_position_embeddings "
                f"({self.model.max_position_embeddings}); raise it or lower "
                f"{'objective.sequence_length' if sequences else 'training.row_length'}"
            )
        shortest = row_length_at(0, self.training)
        if (
            self.objective.name == "masked_lm"
            and self.objective.pairs != "none"
            and longest > shortest < self.training.row_length
        ):
            raise UserError(
                f"training.length_ramp_share begins with rows of {shortest} tokens, which pairs of texts of "
                f"objective.sequence_length ({longest}) do not fit; set it to 0, or objective.pairs=none"
            )
        if sequences and self.objective.sequence_length > self.training.row_length:
            raise UserError(
                f"objective.sequence_length ({self.objective.sequence_length}) must not exceed training.row_length "
                f"({self.training.row_length})"
            )

    def fitted_to(self, tokenizer: Tokenizer) -> "Experiment":
        """Return the experiment with the vocabulary of a tokenizer."""
        return replace(self, model=replace(self.model, vocab_size=len(tokenizer)))


def make_objective(experiment: Experiment, tokenizer: Tokenizer) -> Pretraining:
    """Build the objective that an experiment names.

    Raises:
        UserError: the tokenizer lacks a special token that the objective needs.
    """
    settings = experiment.objective
    if settings.name == "causal_lm":
        return _make_causal(tokenizer)
    masked = _make_masked(settings, tokenizer)
    if settings.name == "masked_lm":
        return masked
    return Hybrid(
        causal=_make_causal(tokenizer),
        masked=replace(masked, pairs="none"),
        masked_share=settings.masked_share,
        prefix_share=settings.prefix_share,
        length=settings.sequence_length,
    )


def check_vocabulary(experiment: Experiment, tokenizer: Tokenizer) -> None:
    """Refuse a model that has no embedding for some tokens.

    Raises:
        UserError: it has none.
    """
    if experiment.model.vocab_size < len(tokenizer):
        raise UserError(
            f"model.vocab_size is {experiment.model.vocab_size}, and the data's tokenizer has {len(tokenizer)} tokens; set it "
            "to as many or more, or leave it out"
        )


def _make_causal(tokenizer: Tokenizer) -> CausalLM:
    return CausalLM(bos_id=tokenizer.special_id("bos"), eos_id=tokenizer.special_id("eos"))


def _make_masked(settings: ObjectiveConfig, tokenizer: Tokenizer) -> MaskedLM:
    return MaskedLM(
        cls_id=tokenizer.special_id("cls"),
        sep_id=tokenizer.special_id("sep"),
        mask_id=tokenizer.special_id("mask"),
        vocab_size=len(tokenizer),
        special_ids=tuple(tokenizer.special_ids.values()),
        continues_word=tokenizer.continues_word() if settings.whole_words else None,
        mask_share=settings.mask_share,
        final_mask_share=settings.final_mask_share,
        longest_span=settings.longest_span,
        shifted=settings.shifted,
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


def step_flops(experiment: Experiment) -> Callable[[Sequence[Batch]], float]:
    """Return what counts the floating point operations of a step."""

    def flops(batches: Sequence[Batch]) -> float:
        return sum(
            training_flops(
                experiment.model,
                tokens=batch.num_tokens,
                predicted=len(batch.targets["language_model"].index),
                context=batch.input_ids.shape[1],
            )
            for batch in batches
        )

    return flops


def make_batches(experiment: Experiment, objective: PretrainingObjective, corpora: Corpora) -> PretrainingBatches:
    """Return the batches that a model is trained on.

    Raises:
        UserError: a corpus is smaller than one row, or its weight is not positive and finite.
    """
    return PretrainingBatches(corpora, objective, experiment.training, seed=experiment.seed)


def make_evaluator(experiment: Experiment, objective: Pretraining, corpora: Corpora, *, tokens: int) -> Evaluator:
    """Return the evaluation of a model on held-out documents, the same ones and the same masks every time.

    A hybrid is measured both ways: its masked figures have names of their own, and its ``loss`` weighs the two as in
    training.

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
    num_bytes = int(corpus.document_bytes[documents].sum())
    precision = experiment.training.precision

    def evaluate(model: Model) -> dict[str, float]:
        return validate(model, batches, precision=precision, num_bytes=None if masked else num_bytes)

    def evaluate_both(model: Model) -> dict[str, float]:
        causal, hidden = evaluate(model), validate(model, masked_batches, precision=precision)
        share = experiment.objective.masked_share
        loss = (1 - share) * causal["loss"] + share * hidden["loss"]
        losses = {"causal_loss": causal["loss"], "masked_loss": hidden["loss"]}
        return {**causal, "loss": loss, **losses, "masked_accuracy": hidden["accuracy"]}

    masked = isinstance(objective, MaskedLM)
    if not isinstance(objective, Hybrid):
        batches = held_out_batches(experiment, objective, corpus, documents)
        return evaluate
    one_way, both_ways = (replace(objective, masked_share=share, prefix_share=0.0) for share in (0.0, 1.0))
    batches = held_out_batches(experiment, one_way, corpus, documents)
    masked_batches = held_out_batches(experiment, both_ways, corpus, documents)
    return evaluate_both


def _first_documents(shares: Sequence[tuple[Corpus, float]], tokens: int) -> "np.typing.NDArray[np.int64]":
    """Return the first documents of each corpus that have its share of the tokens, counted through all of them."""
    chosen, first = [], 0
    for corpus, share in shares:
        enough = int(np.searchsorted(corpus.document_tokens.cumsum(), share * tokens)) + 1
        chosen.append(np.arange(first, first + min(enough, len(corpus))))
        first += len(corpus)
    return np.concatenate(chosen)


def held_out_batches(
    experiment: Experiment, objective: Pretraining, corpus: Corpus, documents: "np.typing.NDArray[np.int64]"
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
