"""``AutoModelForMaskedLM``: a BERT that fills blanks, and goes on learning from texts.

Shapes: n texts, T tokens of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bothways.auto.examples import read_texts
from bothways.auto.fitting import Options, fit_rows, split
from bothways.auto.pretrained import Pretrained
from bothways.batch import Row, row
from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.inference.encode import read_tokens
from bothways.inference.score import pseudo_log_likelihoods
from bothways.objectives.masked_lm import MaskedLM
from bothways.progress import display
from bothways.tasks.task import precision_of, softmax
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.batches import ExampleBatches


@dataclass(frozen=True, kw_only=True)
class Filling:
    """A token in a blank.

    Attributes:
        token: the token, as it reads.
        token_id: its number.
        score: its probability.
        sequence: the text with it in the blank.
    """

    token: str
    token_id: int
    score: float
    sequence: str


class AutoModelForMaskedLM(Pretrained):
    """A model that says hidden tokens from both sides."""

    HEAD: ClassVar[str | None] = "language_model"
    ONLY: ClassVar[bool] = True

    def fit(
        self,
        texts: Any,
        *,
        mask_share: float = 0.15,
        whole_words: bool = False,
        validation: Any = None,
        epochs: float = 3,
        batch_size: int = 32,
        learning_rate: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Go on pretraining on texts of one's own: other tokens are hidden in every epoch.

        Args:
            texts: n of them; those longer than the model reads are read in parts.
            mask_share: of the tokens that are hidden.
            whole_words: hide the pieces of a word together.
            validation: further texts, or a share of them; see the other classes' ``fit``.
            epochs, batch_size, learning_rate, seed, progress: as for a classifier of texts; examples are texts and parts.
        Returns:
            The model itself.
        Raises:
            UserError: the texts cannot be used, or the tokenizer has no token that hides.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        if not 0 < mask_share < 1:
            raise UserError(f"mask_share must be between 0 and 1, not {mask_share}")
        objective = self._objective(mask_share, whole_words=whole_words)
        with display(progress):
            learnt, measured = split(self._parts(texts), options, self._parts)
            rng = np.random.default_rng(seed)
            hidden = [_hidden(part, objective, rng) for part in measured]
            batches = MaskedBatches(learnt, objective, settings)
            self.trained = fit_rows(self.model, objective, [], hidden, settings, batches=batches)
        return self

    def predict(self, texts: Any, *, progress: bool = True) -> list[str]:
        """Return each text with its blanks, the tokens ``tokenizer.mask_token``, filled by the likeliest tokens.

        Args:
            texts: n of them, or one, each with at least one blank.
            progress: show it where it takes long.
        Raises:
            UserError: a text has no blank, or is too long.
        """
        filled = []
        for framed, blanks, answers in self._blanks(texts, progress=progress):
            ids = framed.copy()
            ids[blanks] = answers.argmax(axis=-1)
            filled.append(self._text(ids))
        return filled

    def predict_tokens(self, texts: Any, *, top_k: int = 5, progress: bool = True) -> list[list[list[Filling]]]:
        """Return for each blank of each text the likeliest tokens, best first."""
        if top_k < 1:
            raise UserError(f"top_k must be at least 1, not {top_k}")
        return [
            [
                self._fillings(framed, blank, softmax(answer), top_k)
                for blank, answer in zip(blanks, answers, strict=True)
            ]
            for framed, blanks, answers in self._blanks(texts, progress=progress)
        ]

    def score(self, texts: Any, *, progress: bool = True) -> float:
        """Return the mean log-probability of a token, in nats, given all others of its text; more is better.

        Each token is hidden in turn, so that a text of T tokens is read T times. Source: Salazar et al. 2020.
        """
        objective = self._objective(0.15)
        with display(progress):
            framed = [[objective.cls_id, *part, objective.sep_id] for part in self._parts(texts)]
            values = pseudo_log_likelihoods(
                self.model, framed, objective.mask_id, frame=(1, 1), precision=precision_of(self.model)
            )
        return float(np.concatenate(values).mean())

    def _objective(self, mask_share: float, *, whole_words: bool = False) -> MaskedLM:
        tokenizer = self._tokenizer()
        return MaskedLM(
            cls_id=tokenizer.special_id("cls"),
            sep_id=tokenizer.special_id("sep"),
            mask_id=tokenizer.special_id("mask"),
            vocab_size=len(tokenizer),
            special_ids=tuple(tokenizer.special_ids.values()),
            continues_word=tokenizer.continues_word() if whole_words else None,
            mask_share=mask_share,
            shifted=self.model.shifted,
            pairs="none",
        )

    def _parts(self, texts: Any) -> list[NDArray[np.int64]]:
        """Return the tokens of texts, in parts that the model can read with a frame around them."""
        room = self.model.config.max_position_embeddings - 2
        encoded = self._tokenizer().encode_batch(read_texts(texts))
        return [ids[start : start + room] for ids in encoded for start in range(0, len(ids), room)]

    def _blanks(self, texts: Any, *, progress: bool) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
        """Return for each text its tokens, framed, where its blanks are, and what the model says there: logits."""
        tokenizer = self._tokenizer()
        cls, sep, mask = (tokenizer.special_id(role) for role in ("cls", "sep", "mask"))
        encoded = [tokenizer.encode(text, special_tokens=True) for text in read_texts(texts)]
        framed = [np.array([cls, *ids, sep], dtype=np.int64) for ids in encoded]
        blanks = [np.flatnonzero(ids == mask) for ids in framed]
        for number, found in enumerate(blanks):
            if not len(found):
                blank = tokenizer.backend.id_to_token(mask)
                raise UserError(f"texts[{number}] has no blank to fill; write {blank} where one is")
        with display(progress):
            said = read_tokens(
                self.model,
                "language_model",
                framed,
                positions=[found.tolist() for found in blanks],
                precision=precision_of(self.model),
            )
        return list(zip(framed, blanks, said, strict=True))

    def _fillings(self, framed: NDArray[np.int64], blank: int, probable: NDArray[Any], top_k: int) -> list[Filling]:
        found = []
        for index in np.argsort(-probable, kind="stable")[:top_k].tolist():
            ids = framed.copy()
            ids[blank] = index
            token = self._tokenizer().backend.decode([index]).strip()
            found.append(Filling(token=token, token_id=index, score=float(probable[index]), sequence=self._text(ids)))
        return found

    def _text(self, framed: NDArray[np.int64]) -> str:
        """Return framed tokens as text, blanks included."""
        return str(self._tokenizer().backend.decode(framed[1:-1].tolist(), skip_special_tokens=False)).strip()

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError("this model comes without a tokenizer, so no text can be given to it")
        return self.tokenizer.tokenizer


class MaskedBatches(ExampleBatches):
    """Texts, in which other tokens are hidden every time that they are handed out."""

    def __init__(self, parts: Sequence[NDArray[np.int64]], objective: MaskedLM, settings: Finetuning) -> None:
        """Start at the beginning.

        Args:
            parts: tokens, without a frame.
            objective: hides.
            settings: batch size, seed and micro-batches.
        """
        self._objective, self._hiding_seed = objective, settings.seed
        super().__init__(
            [_plain(part, objective) for part in parts],
            batch_size=settings.batch_size,
            seed=settings.seed,
            micro_batch_tokens=settings.training.micro_batch_tokens,
        )

    def next_rows(self) -> list[Row]:
        """Return the texts of the next step; what is hidden depends on the seed and the place in training."""
        rng = np.random.default_rng((self._hiding_seed, self.position["epoch"], self.position["example"]))
        return [_hidden(each.input_ids[1:-1], self._objective, rng) for each in super().next_rows()]


def _plain(part: NDArray[np.int64], objective: MaskedLM) -> Row:
    return row([objective.cls_id, *part.tolist(), objective.sep_id], "bidirectional")


def _hidden(part: NDArray[np.int64], objective: MaskedLM, rng: np.random.Generator) -> Row:
    """Return a text with some of its tokens hidden."""
    return objective.sequence(part, part[:0], True, rng)
