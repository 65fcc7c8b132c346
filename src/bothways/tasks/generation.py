"""A prompt in, a continuation out: stories, poems, news."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np

from bothways.batch import Attention, Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.inference.generate import generate
from bothways.inference.sampling import Sampling
from bothways.metrics.distinct_n import distinct_n
from bothways.metrics.rouge import rouge
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import Example, Prediction, precision_of, tokenizer_of
from bothways.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Trained on ``prompt continuation``, the loss on the continuation alone."""

    INPUTS: ClassVar[Mapping[str, str]] = {"prompt": "how the text begins"}
    ANSWERS: ClassVar[Mapping[str, str]] = {"text": "how it goes on"}
    ATTENTION: ClassVar[Attention | None] = "causal"
    MONITOR: ClassVar[str] = "rouge_l"
    PACKS_ALL: ClassVar[bool] = False
    BASELINE: ClassVar[str] = "the prompt again"

    max_new_tokens: int = 128
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8, top_p=0.95))

    def fitted_to(self, examples: Sequence[Example]) -> Self:  # noqa: ARG002
        """Nothing is learnt before training."""
        return self

    def restored(self, labels: Sequence[str] | None) -> Self:  # noqa: ARG002
        """Nothing is kept but the weights."""
        return replace(self)

    def objective(self) -> CausalLM:
        """Likelihood of the continuation; the ids that a frame needs are in the rows already."""
        return CausalLM(bos_id=0, eos_id=0)

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """The prompt, and the text that must follow."""
        objective = CausalLM(bos_id=tokenizer.special_id("bos"), eos_id=tokenizer.special_id("eos"))
        prompt = np.array(tokenizer.encode(example["prompt"]), dtype=np.int64)
        text = np.array(tokenizer.encode(example["text"]), dtype=np.int64)
        room = config.max_position_embeddings - 1
        return objective.sequence(text[: max(1, room - len(prompt))], prompt=prompt[: room - 1])

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:
        """Return ``text``, what follows the prompt."""
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        begin = tokenizer.special_id("bos")
        room = model.config.max_position_embeddings - 1
        prompts = [[begin, *tokenizer.encode(example["prompt"])][-room:] for example in examples]
        written = generate(
            model,
            prompts,
            max_new_tokens=self.max_new_tokens,
            sampling=self.sampling,
            stop_ids=[tokenizer.special_id("eos")],
            precision=precision_of(model),
            seed=seed,
        )
        return [{"text": tokenizer.decode(answer.ids)} for answer in written]

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return how near the texts are to those expected, and how little they repeat themselves."""
        written = [prediction["text"] for prediction in predictions]
        likeness = rouge(written, [example["text"] for example in examples])
        return {"rouge_l": likeness.rouge_l, "distinct_2": distinct_n(written, n=2)}

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return each text's likeness to the one expected."""
        pairs = zip(predictions, examples, strict=True)
        return {"rouge_l": [rouge([prediction["text"]], [example["text"]]).rouge_l for prediction, example in pairs]}

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Repeat the prompt."""
        return [{"text": example["prompt"]} for example in examples]
