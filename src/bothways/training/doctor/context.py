"""What is known of a run before its first step: its settings, and its text, from a sample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.model.config import TransformerConfig
from bothways.text.pieces import piece_size
from bothways.text.shards import Corpus, Shard
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.schedule import total_tokens

SAMPLE_TOKENS = 2_000_000
_PIECES = 256  # of a corpus that is sampled
RATE_OF_MUON = 6e-3  # our recipes'
_DOCUMENTS = 4096  # of a corpus whose sizes are looked at


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known beforehand. What is not known has a value that nothing is concluded from."""

    training: TrainingConfig
    vocab_size: int
    unigram_loss: float = math.inf  # nats a token: what a model that only knows how frequent each token is reaches
    tokens_per_epoch: float = (
        math.inf
    )  # tokens of a run after which the corpus that is repeated most has been seen once
    tokens_per_document: float = 0.0  # of the document, or piece of one, that a token stands in: long ones count more
    unknown_share: float = 0.0  # of the tokens
    bytes_per_token: float = math.inf  # UTF-8 bytes of the text
    used_ids: float = 1.0  # share of the vocabulary that occurs in the sample
    sampled_tokens: int = 0
    near_copies_searched: bool = True  # when the text was prepared
    language: str | None = None
    started_from: str | None = None  # a model whose weights training starts from
    masked: bool = False  # whether masked tokens alone are predicted
    usual_rate: float = RATE_OF_MUON  # learning rate that such models are trained at
    begun_step: int = 0  # of the run, at which it began to read this text
    begun_tokens: int = 0  # that it had read of other text by then

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.training.steps

    @property
    def warmup_steps(self) -> int:
        """Steps during which the learning rate rises."""
        return round(self.training.warmup_share * self.training.steps)

    @property
    def epochs(self) -> float:
        """How often the run sees the corpus that is repeated most; 0 where its size is not known."""
        return (total_tokens(self.training) - self.begun_tokens) / self.tokens_per_epoch

    @property
    def uniform_loss(self) -> float:
        """The loss of a model that has learnt nothing, in nats a token."""
        return math.log(self.vocab_size)

    @property
    def blind_loss(self) -> float:
        """The loss of a model that takes nothing from the neighbours of a token, in nats a token.

        Where masked tokens are predicted, a tenth of them is shown and a tenth replaced by any other, so that a token that is
        not hidden is right half of the time.
        """
        if not self.masked:
            return self.unigram_loss
        return 0.8 * self.unigram_loss + 0.2 * (math.log(2) + 0.5 * self.unigram_loss)


def usual_rate(optimizer: OptimizerConfig, model: TransformerConfig) -> float:
    """Return the learning rate that a model like this is trained at with this optimizer.

    Sources: our recipes; Radford et al. 2019 and Brown et al. 2020 (6e-4 at a width of 768, more for narrower trunks, which
    we have tried to 2e-3); Devlin et al. 2018 (norms after the sublayers).
    """
    if optimizer.name == "muon":
        return RATE_OF_MUON
    return 1e-4 if model.norm_position == "post" else min(2e-3, 6e-4 * 768 / model.hidden_size)


def context_for(
    training: TrainingConfig,
    corpora: Corpus | Sequence[tuple[Corpus, float]],
    *,
    vocab_size: int,
    unknown_id: int | None = None,
    near_copies_searched: bool = True,
    language: str | None = None,
    started_from: str | None = None,
    masked: bool = False,
    usual_rate: float = RATE_OF_MUON,
) -> Context:
    """Look at a sample of at most ``SAMPLE_TOKENS`` tokens, the same one every time, spread over all shards.

    Args:
        training: settings of the run, its number of steps among them.
        corpora: what is trained on: one, or several with their weights, which need not sum to one.
        vocab_size: of the tokenizer.
        unknown_id: its token for what it does not know, if it has one.
        near_copies_searched: whether the text was searched for near copies when it was prepared.
        language: of the text.
        started_from: a model whose weights training starts from.
        masked: whether masked tokens alone are predicted.
        usual_rate: learning rate that such models are trained at.
    """
    given = [(corpora, 1.0)] if isinstance(corpora, Corpus) else list(corpora)
    known = [(corpus, weight) for corpus, weight in given if corpus.num_tokens]
    whole = math.fsum(weight for _, weight in known)
    common: dict[str, Any] = {
        "training": training,
        "vocab_size": vocab_size,
        "near_copies_searched": near_copies_searched,
        "language": language,
        "started_from": started_from,
        "masked": masked,
        "usual_rate": usual_rate,
    }
    if not known:
        return Context(**common)
    distribution, sampled = np.zeros(vocab_size), 0
    longest = piece_size(training.row_length)
    for corpus, weight in known:
        counts = _sampled_counts(corpus, vocab_size, round(SAMPLE_TOKENS * weight / whole))
        distribution += weight / whole * counts / counts.sum()
        sampled += int(counts.sum())
    return Context(
        **common,
        unigram_loss=_entropy(distribution),
        tokens_per_epoch=min(corpus.num_tokens * whole / weight for corpus, weight in known),
        tokens_per_document=math.fsum(weight / whole * _document_size(corpus, longest) for corpus, weight in known),
        unknown_share=0.0 if unknown_id is None else float(distribution[unknown_id]),
        bytes_per_token=math.fsum(weight / whole * corpus.num_bytes / corpus.num_tokens for corpus, weight in known),
        used_ids=float(np.count_nonzero(distribution)) / vocab_size,
        sampled_tokens=sampled,
    )


def _sampled_counts(corpus: Corpus, vocab_size: int, tokens: int) -> NDArray[np.int64]:
    """Return [vocab_size] how often each token occurs in pieces that lie evenly in a corpus."""
    share = min(1.0, max(1, tokens) / corpus.num_tokens)
    counts = np.zeros(vocab_size, dtype=np.int64)
    for shard in corpus.shards:
        for piece in _pieces(shard, share, max(1, _PIECES // len(corpus.shards))):
            counts += np.bincount(piece, minlength=vocab_size)
    return counts


def _document_size(corpus: Corpus, longest: int) -> float:
    """Return the tokens of the document that a token stands in, on average, from documents that lie evenly in a corpus.

    Of a document that is read in pieces, the longest of which are given, it is those of a piece.
    """
    sizes: list[NDArray[np.int64]] = []
    for shard in corpus.shards:
        number = min(len(shard.document_bytes), max(1, _DOCUMENTS // len(corpus.shards)))
        chosen = np.linspace(0, len(shard.document_bytes) - 1, number).astype(np.int64)
        starts, stops = (shard.sentences[shard.documents[chosen + after]].astype(np.int64) for after in (0, 1))
        sizes.append(stops - starts)
    every = np.concatenate(sizes).astype(np.float64)
    return float(every @ np.minimum(every, longest) / every.sum())


def _pieces(shard: Shard, share: float, number: int) -> list[NDArray[Any]]:
    """Return pieces that make up a share of a shard's tokens, the first at its beginning and the last at its end."""
    size = len(shard.input_ids)
    length = math.ceil(share * size / number)
    if share == 1 or length * number >= size:
        return [shard.input_ids]
    starts = np.linspace(0, size - length, number).astype(np.int64) if number > 1 else [(size - length) // 2]
    return [shard.input_ids[start : start + length] for start in starts]


def _entropy(distribution: NDArray[np.float64]) -> float:
    present = distribution[distribution > 0]
    return float(-(present * np.log(present)).sum())
