"""``AutoModelForCausalLM``: a GPT that writes, and goes on learning from texts.

Shapes: n texts, T tokens of one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bothways.auto.examples import read_rows, read_texts
from bothways.auto.fitting import Options, fit_rows, split, two
from bothways.auto.pretrained import Pretrained
from bothways.batch import Attention, Row
from bothways.errors import UserError
from bothways.inference.generate import Generated
from bothways.inference.sampling import GREEDY, Sampling
from bothways.inference.score import log_likelihoods
from bothways.objectives.causal_lm import CausalLM
from bothways.progress import display
from bothways.tasks.task import continue_prompts, precision_of
from bothways.text.tokenizing.tokenizer import Tokenizer


class AutoModelForCausalLM(Pretrained):
    """A model that says the next token."""

    HEAD: ClassVar[str | None] = "language_model"
    ATTENTION: ClassVar[Attention] = "causal"
    ONLY: ClassVar[bool] = True

    def fit(
        self,
        texts: Any,
        *,
        prompts: Any = None,
        validation: Any = None,
        epochs: float = 3,
        batch_size: int = 32,
        learning_rate: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Learn to write such texts, or to write them after prompts.

        Args:
            texts: n of them; those longer than the model reads are read in parts.
            prompts: n texts that go before them, and that the model need not learn to write; None: nothing does.
            validation: further texts (with prompts: a pair, prompts and texts), or a share; see the other classes' ``fit``.
            epochs, batch_size, learning_rate, seed, progress: as for a classifier of texts; examples are texts and parts.
        Returns:
            The model itself.
        Raises:
            UserError: the texts cannot be used, or the tokenizer has no token that ends a text.
        """
        options = Options(
            validation=validation, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed
        )
        settings = options.settings(self.model)
        with display(progress):
            rows = self._rows(texts, prompts)
            learnt, measured = split(rows, options, lambda given: self._further(given, prompts is not None))
            objective = CausalLM(bos_id=self._begin, eos_id=self._end)
            self.trained = fit_rows(self.model, objective, learnt, measured, settings)
        return self

    def generate(
        self,
        inputs: Any = None,
        *,
        input_ids: Any = None,
        attention_mask: Any = None,
        max_new_tokens: int = 128,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        progress: bool = True,
    ) -> Any:
        """Continue texts, or token ids.

        Args:
            inputs: n texts, or one; or encodings.
            input_ids: [n, T] in place of ``inputs``, as in ``generate(**tokenizer(texts, padding=True))``.
            attention_mask: [n, T], of ``input_ids``.
            max_new_tokens: the most tokens that are written after each.
            do_sample: draw tokens; else the likeliest is taken, and ``temperature``, ``top_k`` and ``top_p`` do nothing.
            temperature: under 1 bolder, over 1 wilder.
            top_k: only so many of the likeliest tokens; 0: all.
            top_p: only the likeliest tokens that together reach this probability.
            repetition_penalty: over 1: tokens of the text so far become less likely.
            seed: of all draws.
            progress: show it where it takes long.
        Returns:
            Each text with its continuation: a list of texts for texts (one text for one); for encodings a tensor [n, T']
            of token ids, the prompt's first, padded at the end.
        Raises:
            UserError: the inputs cannot be read, or a setting is out of range.
        """
        if not do_sample:
            temperature, top_k, top_p = 0.0, 0, 1.0
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty)
        given = {"input_ids": input_ids, "attention_mask": attention_mask} if inputs is None else inputs
        write = partial(self._write, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed, progress=progress)
        if isinstance(given, Mapping):
            prompts = self._prompts({name: column for name, column in given.items() if column is not None})
            made = write(prompts)
            return self._padded([[*prompt, *each.ids] for prompt, each in zip(prompts, made, strict=True)])
        texts = read_texts(given)
        prompts = [self._framed(text) for text in texts]
        made = write(prompts)
        whole = [text + self._tokenizer().decode(each.ids) for text, each in zip(texts, made, strict=True)]
        return whole[0] if isinstance(given, str) else whole

    def predict(self, prompts: Any, *, max_new_tokens: int = 128, progress: bool = True) -> list[str]:
        """Return what most likely follows each prompt, without the prompt."""
        framed = [self._framed(text) for text in read_texts(prompts)]
        made = self._write(framed, max_new_tokens=max_new_tokens, sampling=GREEDY, seed=0, progress=progress)
        return [self._tokenizer().decode(each.ids) for each in made]

    def score(self, texts: Any, *, progress: bool = True) -> float:
        """Return the mean log-probability of a token, in nats, given those before it; more is better.

        ``exp(-score)`` is the perplexity. Texts longer than the model reads are read in parts.
        """
        limit = self.model.config.max_position_embeddings - 1
        with display(progress):
            encoded = self._tokenizer().encode_batch(read_texts(texts))
            parts = [ids[start : start + limit] for ids in encoded for start in range(0, len(ids), limit)]
            framed = [[self._begin, *part] for part in parts]
            values = log_likelihoods(self.model, framed, precision=precision_of(self.model))
        return float(np.concatenate(values).mean())

    @property
    def _begin(self) -> int:
        """The token before the first one: the one that begins texts, else the one that ends the text before."""
        begin = self._tokenizer().special_ids.get("bos")
        return self._end if begin is None else begin

    @property
    def _end(self) -> int:
        return self._tokenizer().special_id("eos")

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError("this model comes without a tokenizer, so no text can be given to it")
        return self.tokenizer.tokenizer

    def _rows(self, texts: Any, prompts: Any) -> list[Row]:
        """Return texts as rows to learn from, those that are too long in parts."""
        objective, tokenizer = CausalLM(bos_id=self._begin, eos_id=self._end), self._tokenizer()
        encoded = tokenizer.encode_batch(read_texts(texts))
        limit = self.model.config.max_position_embeddings
        if prompts is None:
            whole = [objective.sequence(ids) for ids in encoded]
            return [each.cut(at, min(at + limit, len(each))) for each in whole for at in range(0, len(each), limit)]
        before = tokenizer.encode_batch(read_texts(prompts))
        if len(before) != len(encoded):
            raise UserError(f"there are {len(before)} prompts and {len(encoded)} texts; each text needs one")
        rows = [objective.sequence(ids, prompt=prompt) for prompt, ids in zip(before, encoded, strict=True)]
        for number, each in enumerate(rows):
            if len(each) > limit:
                raise UserError(
                    f"prompts[{number}] and texts[{number}] have {len(each)} tokens together, and the model reads at most "
                    f"{limit}; shorten them"
                )
        return rows

    def _further(self, validation: Any, prompted: bool) -> list[Row]:
        """Return further texts as rows; with prompts they are two things, the prompts and the texts."""
        before, texts = two(validation) if prompted else (None, validation)
        return self._rows(texts, before)

    def _framed(self, text: str) -> list[int]:
        """Return a prompt as the model reads it: with what its tokenizer puts before a text."""
        tokenizer = self._tokenizer()
        return [*tokenizer.frame()[0], *tokenizer.encode(text)] or [self._begin]

    def _prompts(self, encodings: Mapping[str, Any]) -> list[list[int]]:
        return [row.input_ids.tolist() for row in read_rows(encodings, self.tokenizer, self.model)]

    def _write(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, sampling: Sampling, seed: int, progress: bool
    ) -> list[Generated]:
        tokenizer = self.tokenizer.tokenizer if self.tokenizer else None
        with display(progress):
            return continue_prompts(
                self.model, tokenizer, prompts, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed
            )

    def _padded(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        special = self._tokenizer().special_ids if self.tokenizer else {}
        filler = special.get("pad", special.get("eos", 0))
        rows: NDArray[np.int64] = np.full((len(sequences), max(map(len, sequences))), filler, dtype=np.int64)
        for at, ids in enumerate(sequences):
            rows[at, : len(ids)] = ids
        return torch.from_numpy(rows)
