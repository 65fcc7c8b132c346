"""Which of two sentences that differ in one point a model finds likelier: the sound one, or the one with a fault.

For measuring what a pretrained model knows of grammar; nothing is trained. The benchmarks are BLiMP (English) and
ZhoBLiMP (Chinese), and any file with the columns ``good`` and ``bad`` will do.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Attention, Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.inference.reading import Precision
from bothways.inference.score import log_likelihoods, pseudo_log_likelihoods
from bothways.language import detect, word_list
from bothways.metrics.bootstrap import Interval, all_alike
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import Example, Prediction, Task, Way, precision_of, tokenizer_of
from bothways.text.encoding import Encoder
from bothways.text.shards import EncodedDocument
from bothways.text.tokenizing.tokenizer import Tokenizer

TIE = 1e-5  # nats; what float32 and the order of a sum can make of two equal scores
RESAMPLES = 1000
FEW = 20  # pairs of a group, below which drawing within it tells too little

Groups = list[NDArray[np.float64]]  # the outcomes of pairs, paradigm by paradigm: a figure is the mean of their means


@dataclass(frozen=True, kw_only=True)
class MinimalPairs(Task):
    """A pair is won if the model finds the good sentence strictly likelier; a tie is half won.

    | model | score of a sentence w₁ … wₙ |
    |---|---|
    | causal | Σ log p(wᵢ | start, w₁ … wᵢ₋₁) |
    | bidirectional | Σ log p(wᵢ | the others, but those to the right in the same word) |
    | both, of a hybrid | the sum of the two |

    All are sums, not means, as in BLiMP. A hybrid is scored as ``attention`` says. The frames are those of training:
    a start token, and [CLS] and [SEP].

    A ``paradigm`` is one kind of contrast, made from one template, and a ``phenomenon`` what several paradigms probe.
    Every accuracy over paradigms is the mean of theirs, whatever their sizes.

    Attributes:
        attention: how a hybrid reads: one way, or ``"both"``, which adds the scores; None: as its settings say.
        end: a causal score includes the end token, so that it also judges whether a text may end there. BLiMP's
            published scores leave it out, and our models see it after whole documents only.
        masking: ``"word"``: as above; ``"token"``: each token alone is hidden, which favours rare words of many tokens.
        precision: ``"auto"``: as other predictions.

    Sources: Warstadt et al. 2020 (BLiMP); Liu et al. 2024 (ZhoBLiMP); Salazar et al. 2020 and Kauf & Ivanova 2023
    (scores of masked models); Charpentier & Samuel 2024 (both scores of one model).
    """

    INPUTS: ClassVar[Mapping[str, str]] = {"good": "the sound sentence", "bad": "the sentence with a fault"}
    ANSWERS: ClassVar[Mapping[str, str]] = {}  # which one is sound, the columns say
    ALIASES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "good": ("sentence_good",),
        "bad": ("sentence_bad",),
        "paradigm": ("UID",),
        "phenomenon": ("linguistics_term",),
    }
    TRAINABLE: ClassVar[bool] = False
    MONITOR: ClassVar[str] = "accuracy"
    BASELINE: ClassVar[str] = "the shorter sentence"

    attention: Way | None = None
    end: bool = False
    masking: Literal["word", "token"] = "word"
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def by_both_ways(self) -> "MinimalPairs":
        """Return the same with both scores added."""
        return replace(self, attention="both")

    def objective(self) -> CausalLM:
        """Refuse: nothing is trained."""
        raise _not_trained()

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:  # noqa: ARG002
        """Refuse: nothing is trained."""
        raise _not_trained()

    def heads(self) -> Mapping[str, int]:
        """Only the language model head."""
        return {"language_model": 0}

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:  # noqa: ARG002
        """Return the score of each sentence, ``good`` and ``bad``, in nats."""
        sentences = list(dict.fromkeys(sentence for each in examples for sentence in (each["good"], each["bad"])))
        scores = dict(zip(sentences, self.scores(loaded, sentences), strict=True))
        return [{"good": scores[each["good"]], "bad": scores[each["bad"]]} for each in examples]

    def scores(self, loaded: Loaded, sentences: Sequence[str]) -> list[float]:
        """Return the score of each sentence in nats; what is the same in tokens has the very same score.

        Raises:
            UserError: the model does not read so, or a sentence is too long for it or has no tokens: nothing is cut,
                since the fault may be in what would be lost.
        """
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        way = self.attention or model.config.attention
        ways: tuple[Attention, ...] = ("causal", "bidirectional") if way == "both" else (way,)
        for attention in ways:
            model.config.read_as(attention)
        encoded = list(Encoder(tokenizer, words="characters", fast=False).encode(sentences))
        self._check_lengths(encoded, sentences, model.config)
        keys = [document.input_ids.tobytes() for document in encoded]
        distinct = dict(zip(keys, encoded, strict=True))
        values = [self._token_scores(loaded, list(distinct.values()), attention) for attention in ways]
        sums = dict(zip(distinct, (math.fsum(np.concatenate(each)) for each in zip(*values, strict=True)), strict=True))
        if not all(map(math.isfinite, sums.values())):
            raise UserError(
                "the model's scores are not finite: its weights are damaged, or their training has diverged"
            )
        return [sums[key] for key in keys]

    def _check_lengths(
        self, encoded: Sequence[EncodedDocument], sentences: Sequence[str], config: TransformerConfig
    ) -> None:
        limit = config.max_position_embeddings - 2
        for document, sentence in zip(encoded, sentences, strict=True):
            shown = sentence if len(sentence) <= 60 else f"{sentence[:60]}…"
            if not len(document.input_ids):
                raise UserError(f"the sentence {shown!r} has no tokens for this model's tokenizer; take the pair out")
            if len(document.input_ids) > limit:
                raise UserError(
                    f"the sentence {shown!r} has {len(document.input_ids)} tokens, and the model reads at most {limit} "
                    "with their frame; take the pair out, since a sentence that is cut may lose its fault"
                )

    def _token_scores(
        self, loaded: Loaded, encoded: Sequence[EncodedDocument], attention: Attention
    ) -> list[NDArray[np.floating]]:
        """Return the score of each token of each sentence, the frame left out."""
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        precision: Precision = precision_of(model) if self.precision == "auto" else self.precision
        if attention == "causal":
            last = [tokenizer.special_id("eos")] if self.end else []
            framed = [[tokenizer.special_id("bos"), *document.input_ids, *last] for document in encoded]
            return log_likelihoods(model, framed, precision=precision)
        first, last = [tokenizer.special_id("cls")], [tokenizer.special_id("sep")]
        framed = [[*first, *document.input_ids, *last] for document in encoded]
        goes_on = [[False, *_continues(document), False] for document in encoded] if self.masking == "word" else None
        return pseudo_log_likelihoods(
            model,
            framed,
            tokenizer.special_id("mask"),
            frame=(1, 1),
            continues=goes_on,
            precision=precision,
        )

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return the figures.

        | figure | what |
        |---|---|
        | ``accuracy`` | mean over the paradigms (without any: over the pairs) |
        | ``pair_accuracy`` | mean over the pairs |
        | ``decided`` | share of the pairs without a tie |
        | ``same_words_accuracy`` | pairs whose sentences are the same words in another order, if there are any |
        | ``other_words_accuracy`` | the other pairs, if there are both |
        | ``accuracy/PHENOMENON`` | mean over its paradigms |
        | ``accuracy/PHENOMENON/PARADIGM`` | mean over its pairs |
        """
        return {name: _mean(groups) for name, groups in figures(predictions, examples).items()}

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return what each pair gives: 1, ½ or 0; and whether it was decided."""
        won = [outcome(made) for made, _ in zip(predictions, examples, strict=True)]
        return {"pair_accuracy": won, "decided": [float(value != 0.5) for value in won]}

    def intervals(
        self, predictions: Sequence[Prediction], examples: Sequence[Example], *, seed: int = 0
    ) -> dict[str, Interval]:
        """Return the figures with their intervals: they are for other pairs of the same paradigms."""
        generator = np.random.default_rng(seed)
        return {name: _interval(groups, generator) for name, groups in figures(predictions, examples).items()}

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Prefer the sentence with fewer characters."""
        return [{column: -float(len(example[column])) for column in ("good", "bad")} for example in examples]


def _not_trained() -> UserError:
    return UserError(
        "minimal-pairs is for evaluation only: it measures what pretraining has taught; use bothways evaluate"
    )


def _continues(document: EncodedDocument) -> list[bool]:
    assert document.word_starts is not None
    return [bool(goes_on) for goes_on in ~document.word_starts]


def added(one: Prediction, other: Prediction) -> Prediction:
    """Return the scores of a pair by two ways of reading together."""
    return {sentence: one[sentence] + other[sentence] for sentence in ("good", "bad")}


def outcome(prediction: Prediction) -> float:
    """Return 1 for a pair that was won, 0 for one that was lost, ½ for a tie."""
    difference = prediction["good"] - prediction["bad"]
    return 0.5 if abs(difference) <= TIE else float(difference > 0)


def figures(predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, Groups]:
    """Return the outcomes that each figure of ``MinimalPairs.measure`` is made of."""
    outcomes = np.array([outcome(made) for made, _ in zip(predictions, examples, strict=True)])
    same = np.array([same_words(example["good"], example["bad"]) for example in examples])
    places: dict[tuple[str, str], list[int]] = {}  # phenomenon and paradigm, to the numbers of their pairs
    for number, example in enumerate(examples):
        phenomenon = _name(example, "phenomenon")
        places.setdefault((phenomenon, _name(example, "paradigm")), []).append(number)
    paradigms = {names: outcomes[places[names]] for names in sorted(places)}
    found = {
        "accuracy": list(paradigms.values()),
        "pair_accuracy": [outcomes],
        "decided": [(outcomes != 0.5).astype(np.float64)],
    }
    if same.any():
        found["same_words_accuracy"] = [outcomes[same]]
    if same.any() and not same.all():
        found["other_words_accuracy"] = [outcomes[~same]]
    for name in sorted({phenomenon for phenomenon, _ in paradigms if phenomenon}):
        found[f"accuracy/{name}"] = [group for (phenomenon, _), group in paradigms.items() if phenomenon == name]
    for (phenomenon, paradigm), group in paradigms.items():
        if paradigm:
            found[f"accuracy/{phenomenon or '-'}/{paradigm}"] = [group]
    return found


def _name(example: Mapping[str, Any], column: str) -> str:
    value = example.get(column)
    return "" if value is None else str(value).strip()


def same_words(first: str, second: str) -> bool:
    """Return whether two sentences are the same words in another order; in Chinese, the same characters.

    Case and what is no word do not count: a name at the beginning is the same name further on.
    """
    one, other = _units(first), _units(second)
    return one != other and Counter(one) == Counter(other)


def _units(sentence: str) -> list[str]:
    if detect(sentence) == "zh":
        return [character for character in sentence if character.isalnum()]
    return [word.lower() for word in word_list(sentence, "en")]


def _interval(groups: Groups, generator: np.random.Generator) -> Interval:
    """Return the mean of the groups' means and its percentile bootstrap interval.

    Within each group as many pairs as it has get drawn with replacement. Where a group is so small that this would all but
    repeat it, pairs are drawn from all groups together, each with its weight in the mean: the interval is then too wide
    rather than too narrow. Outcomes have three values, so draws are multinomial, and quick for any number of pairs. All
    pairs won, or all lost, have the interval of ``all_alike``.
    """
    values = np.array([0.0, 0.5, 1.0])
    mean = _mean(groups)
    sizes = np.array([len(group) for group in groups])
    cells = np.array([[(group == value).sum() for value in values] for group in groups])  # [groups, values]
    if mean in (0.0, 1.0):  # the smallest group bounds what is known of the mean of all
        return all_alike(mean, len(groups) * int(sizes.min()))
    if sizes.min() >= FEW:
        drawn = generator.multinomial(sizes, cells / sizes[:, None], size=(RESAMPLES, len(groups)))
        scores = (drawn @ values / sizes).mean(axis=-1)
    else:
        drawn = generator.multinomial(sizes.sum(), cells.flatten() / sizes.sum(), size=RESAMPLES)
        weighed = drawn.reshape(RESAMPLES, *cells.shape) / sizes[:, None]
        scores = (weighed @ values).sum(axis=-1) / weighed.sum(axis=(-2, -1))
    low, high = np.quantile(scores, [0.025, 0.975])
    return Interval(value=mean, low=float(low), high=float(high))


def _mean(groups: Groups) -> float:
    return float(np.mean([group.mean() for group in groups]))
