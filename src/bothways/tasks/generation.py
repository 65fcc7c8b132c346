"""A prompt in, a continuation out: stories, poems, news."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from bothways.batch import Attention, Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.inference.sampling import Sampling
from bothways.metrics.distinct_n import distinct_n
from bothways.metrics.rouge import rouge
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import Example, Prediction, Prompt, Task, answer_row, tokenizer_of, write
from bothways.text.tokenizing.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Generation(Task):
    """Trained on ``prompt continuation``, the loss on the continuation alone."""

    INPUTS: ClassVar[Mapping[str, str]] = {"prompt": "how the text begins"}
    ANSWERS: ClassVar[Mapping[str, str]] = {"text": "how it goes on"}
    ATTENTION: ClassVar[Attention | None] = "causal"
    MONITOR: ClassVar[str] = "rouge_l"
    BASELINE: ClassVar[str] = "the prompt again"

    max_new_tokens: int = 128
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8, top_p=0.95))

    def objective(self) -> CausalLM:
        """Likelihood of the continuation; the ids that a frame needs are in the rows already."""
        return CausalLM(bos_id=0, eos_id=0)

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """The prompt, and the text that must follow, as far as the model reads."""
        prompt = self.prompt(example["prompt"], tokenizer, config)
        room = config.max_position_embeddings - len(prompt.ids)
        return answer_row(prompt, tokenizer.encode(example["text"]), tokenizer, room=room)

    def prompt(self, text: str, tokenizer: Tokenizer, config: TransformerConfig) -> Prompt:
        """Return a start token and the end of the prompt, cut so that the model can still write after it."""
        new = min(self.max_new_tokens, config.max_position_embeddings // 2)
        room = config.max_position_embeddings - new - 1
        ids = tokenizer.encode(text)
        return Prompt([tokenizer.special_id("bos"), *ids[-room:]], omitted=len(ids[:-room]))

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:
        """Return ``text``, what follows the prompt."""
        prompts = [self.prompt(example["prompt"], tokenizer_of(loaded), loaded.model.config) for example in examples]
        ids = [prompt.ids for prompt in prompts]
        written = write(loaded, ids, max_new_tokens=self.max_new_tokens, sampling=self.sampling, seed=seed)
        return [{"text": text} for text in written]

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return how near each text is to the one expected, and how little it repeats itself."""
        pairs = zip(predictions, examples, strict=True)
        return {
            "rouge_l": [rouge([prediction["text"]], [example["text"]]).rouge_l for prediction, example in pairs],
            "distinct_2": [distinct_n([prediction["text"]], n=2) for prediction in predictions],
        }

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Repeat the prompt."""
        return [{"text": example["prompt"]} for example in examples]
