"""A passage in, a summary out: GPT reads the passage, then writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bothways.batch import Attention, Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.inference.sampling import GREEDY
from bothways.language import sentences
from bothways.metrics.rouge import rouge
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import Example, Prediction, Prompt, Task, answer_row, tokenizer_of, write
from bothways.text.tokenizing.tokenizer import Tokenizer

CUE = "\n\nTL;DR:"  # where the tokenizer has no separator, as Radford et al. 2019 asked GPT-2 for summaries


@dataclass(frozen=True, kw_only=True)
class Summarization(Task):
    """Trained on ``passage [SEP] summary``, the loss on the summary alone."""

    INPUTS: ClassVar[Mapping[str, str]] = {"text": "the passage to summarize"}
    ANSWERS: ClassVar[Mapping[str, str]] = {"summary": "its summary"}
    ATTENTION: ClassVar[Attention | None] = "causal"
    MONITOR: ClassVar[str] = "rouge_l"
    BASELINE: ClassVar[str] = "the passage's first sentence"

    max_length: int = 256  # tokens of the passage and its frame; the rest is not read
    max_new_tokens: int = 48  # tokens of a summary; at most half of what the model reads

    def objective(self) -> CausalLM:
        """Likelihood of the summary; the ids that a frame needs are in the rows already."""
        return CausalLM(bos_id=0, eos_id=0)

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """The beginning of the passage and the cue as the prompt, the summary as what must follow."""
        prompt, summary = self.prompt(example["text"], tokenizer, config), tokenizer.encode(example["summary"].strip())
        return answer_row(prompt, summary, tokenizer, room=self._most_new(config))

    def prompt(self, text: str, tokenizer: Tokenizer, config: TransformerConfig) -> Prompt:
        """Return what the summary is written after.

        Raises:
            UserError: the model reads too little at once for a passage and its summary.
        """
        special = tokenizer.special_ids
        cue = [special["sep"]] if "sep" in special else tokenizer.encode(CUE)
        room = min(self.max_length, config.max_position_embeddings - self._most_new(config)) - len(cue) - 1
        if room < 1:
            raise UserError(f"{config.max_position_embeddings} tokens, all that this model reads, hold no passage")
        passage = tokenizer.encode(text.strip())
        return Prompt([tokenizer.special_id("bos"), *passage[:room], *cue], omitted=len(passage[room:]))

    def _most_new(self, config: TransformerConfig) -> int:
        return min(self.max_new_tokens, config.max_position_embeddings // 2)

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:
        """Return ``summary``, decoded greedily."""
        prompts = [self.prompt(example["text"], tokenizer_of(loaded), loaded.model.config) for example in examples]
        ids, most_new = [prompt.ids for prompt in prompts], self._most_new(loaded.model.config)
        written = write(loaded, ids, max_new_tokens=most_new, sampling=GREEDY, seed=seed)
        return [{"summary": text.strip()} for text in written]

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return ROUGE-1, ROUGE-2 and ROUGE-L of each summary, as F1."""
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
