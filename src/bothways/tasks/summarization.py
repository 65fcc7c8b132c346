"""A passage in, a summary out: GPT reads the passage, then writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from bothways.batch import Attention, Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.inference.generate import generate
from bothways.inference.sampling import Sampling
from bothways.language import sentences
from bothways.metrics.rouge import rouge
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import Example, Prediction, precision_of, tokenizer_of
from bothways.text.tokenizer import Tokenizer

CUE = "\n\nTL;DR:"  # where the tokenizer has no separator, as Radford et al. 2019 asked GPT-2 for summaries


@dataclass(frozen=True, kw_only=True)
class Summarization:
    """Trained on ``passage [SEP] summary``, the loss on the summary alone."""

    INPUTS: ClassVar[Mapping[str, str]] = {"text": "the passage to summarize"}
    ANSWERS: ClassVar[Mapping[str, str]] = {"summary": "its summary"}
    ATTENTION: ClassVar[Attention | None] = "causal"
    MONITOR: ClassVar[str] = "rouge_l"
    PACKS_ALL: ClassVar[bool] = False
    BASELINE: ClassVar[str] = "the passage's first sentence"

    max_length: int = 256  # tokens of the passage; the rest is not read
    max_new_tokens: int = 48  # tokens of a summary

    def fitted_to(self, examples: Sequence[Example]) -> Self:  # noqa: ARG002
        """Nothing is learnt before training."""
        return self

    def restored(self, labels: Sequence[str] | None) -> Self:  # noqa: ARG002
        """Nothing is kept but the weights."""
        return replace(self)

    def objective(self) -> CausalLM:
        """Likelihood of the summary; the ids that a frame needs are in the rows already."""
        return CausalLM(bos_id=0, eos_id=0)

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """The passage and the cue as the prompt, the summary as what must follow."""
        summary = np.array(tokenizer.encode(example["summary"].strip())[: self.max_new_tokens], dtype=np.int64)
        prompt = self.prompt(example["text"], tokenizer, config)
        objective = CausalLM(bos_id=int(prompt[0]), eos_id=tokenizer.special_id("eos"))
        return objective.sequence(summary, prompt=prompt[1:])

    def prompt(self, text: str, tokenizer: Tokenizer, config: TransformerConfig) -> "np.typing.NDArray[np.int64]":
        """Return the token ids that the summary is written after."""
        special = tokenizer.special_ids
        cue = [special["sep"]] if "sep" in special else tokenizer.encode(CUE)
        room = min(self.max_length, config.max_position_embeddings - self.max_new_tokens - 1) - len(cue) - 1
        return np.array([tokenizer.special_id("bos"), *tokenizer.encode(text.strip())[:room], *cue], dtype=np.int64)

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:
        """Return ``summary``, decoded greedily."""
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        prompts = [self.prompt(example["text"], tokenizer, model.config) for example in examples]
        written = generate(
            model,
            prompts,
            max_new_tokens=self.max_new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_ids=[tokenizer.special_id("eos")],
            precision=precision_of(model),
            seed=seed,
        )
        return [{"summary": tokenizer.decode(answer.ids).strip()} for answer in written]

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return ROUGE-1, ROUGE-2 and ROUGE-L as F1."""
        return {name: sum(each) / len(each) for name, each in self.measure_each(predictions, examples).items()}

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return the same three figures for each example."""
        pairs = zip(predictions, examples, strict=True)
        scores = [rouge([prediction["summary"]], [example["summary"]]) for prediction, example in pairs]
        return {
            "rouge_1": [score.rouge_1 for score in scores],
            "rouge_2": [score.rouge_2 for score in scores],
            "rouge_l": [score.rouge_l for score in scores],
        }

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Take the first sentence."""
        return [{"summary": first_sentence(example["text"])} for example in examples]


def first_sentence(text: str) -> str:
    """Return the first sentence of a text."""
    spans = sentences(text.strip())
    return text.strip()[: spans[0][1]].strip() if spans else ""
