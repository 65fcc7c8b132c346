"""What is known of a run for its model card, in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bothways.checkpoints.checkpoint import CONFIG, OTHER_CONFIG
from bothways.config import read_json
from bothways.errors import UserError
from bothways.evaluation.wording import METRICS
from bothways.language import mixed

Rows = list[tuple[str, Any]]
_OBJECTIVES = {
    "causal_lm": "predict the next token",
    "masked_lm": "predict masked tokens from both sides",
    "hybrid": "both: predict the next token, and masked tokens from both sides",
}
_FAMILIES = {"causal_lm": "GPT", "masked_lm": "BERT", "hybrid": "GPT and BERT in one"}


class Facts:
    """What is known of a run, in words."""

    def __init__(
        self,
        *,
        folder: Path,
        settings: Mapping[str, Any],
        figures: Mapping[str, Any],
        data: Sequence[Mapping[str, Any]],
    ) -> None:
        self.folder, self.settings, self.figures, self.data = folder, settings, figures, data
        self.saved = _saved_config(folder, CONFIG)
        self.task: str | None = settings.get("task")
        self.objective: str = settings.get("objective", {}).get("name", "")
        self.causal = settings.get("model", {}).get("attention") == "causal"
        self.hybrid = bool(settings.get("model", {}).get("hybrid"))

    @property
    def languages(self) -> list[str]:
        """The languages of the corpora, as the Hub writes them."""
        found = dict.fromkeys(
            language
            for source in self.data
            for language in (mixed(source.get("languages") or {}) or (str(source.get("language")),))
        )
        return [language for language in found if language in ("en", "zh")]

    @property
    def architecture_name(self) -> str:
        """The class in which ``transformers`` opens the model, or nothing."""
        return _architecture(self.saved)

    @property
    def other_architecture_name(self) -> str:
        """The class in which ``transformers`` opens a hybrid with its other settings, or nothing."""
        return _architecture(_saved_config(self.folder, OTHER_CONFIG)) if self.hybrid else ""

    @property
    def size(self) -> str:
        """Its number of parameters, or nothing."""
        count = self.figures.get("parameters")
        return f"{count:,} parameters" if count else ""

    def sentence(self) -> str:
        """What it is, in one sentence."""
        if self.task:
            what = f"A model fine-tuned for {self.task.replace('_', ' ')}"
        else:
            what = f"A language model ({_FAMILIES.get(self.objective, 'language model')}), pretrained"
        size = f", with {self.size}" if self.size else ""
        return f"{what} by bothways {version('bothways')}{size}."

    def architecture(self) -> Rows:
        """Its parts; of a fine-tuned model what its ``config.json`` says."""
        model = self.settings.get("model") or self.saved
        names = {
            "reads": {"causal": "from left to right", "bidirectional": "both ways"}.get(str(model.get("attention"))),
            "parameters": self.figures.get("parameters"),
            "layers": model.get("num_hidden_layers"),
            "hidden size": model.get("hidden_size"),
            "attention heads": model.get("num_attention_heads"),
            "feed-forward size": model.get("intermediate_size"),
            "vocabulary": model.get("vocab_size"),
            "tokens read at once, at most": model.get("max_position_embeddings"),
            "positions": model.get("position"),
            "norm": f"{model['norm']}, {model.get('norm_position')}" if "norm" in model else None,
            "activation": model.get("activation"),
            "opens in transformers as": self.architecture_name or None,
        }
        if self.hybrid:
            names["reads"] = "from left to right, or both ways"
        if self.other_architecture_name:
            names[f"opens with {OTHER_CONFIG} as"] = self.other_architecture_name
        return [(name, value) for name, value in names.items() if value is not None]

    def training(self) -> Rows:
        """How it learnt."""
        training, optimizer = self.settings.get("training", {}), self.settings.get("optimizer", {})
        epochs = self._epochs()
        names = {
            "learnt to": _OBJECTIVES.get(self.objective) or (self.task or "").replace("_", " "),
            "steps": self.figures.get("steps"),
            "tokens": self.figures.get("tokens"),
            f"times that it saw the {'examples' if self.task else 'text'}": f"{epochs:.3g}"
            if epochs is not None
            else None,
            "tokens of a step": training.get("batch_tokens") if not self.task else None,
            "examples of a step": self.settings.get("batch_size"),
            "optimizer": optimizer.get("name"),
            "learning rate": f"{training['learning_rate']:g}, {training.get('schedule')}" if training else None,
            "precision": training.get("precision"),
            "seed": self.settings.get("seed"),
        }
        return [(name, value) for name, value in names.items() if value not in (None, "")]

    def _epochs(self) -> float | None:
        if self.task:
            examples, batch = sum(source.get("examples", 0) for source in self.data), self.settings.get("batch_size")
            steps = self.figures.get("steps")
            return steps / math.ceil(examples / batch) if steps and examples and batch else self.settings.get("epochs")
        read = sum(train_split(source).get("tokens", 0) for source in self.data)
        tokens = self.figures.get("tokens")
        return tokens / read if tokens and read else None

    def measured(self) -> str:
        """What the figures mean, and what not."""
        names = [name for name in self.figures.get("validation", {}) if name in METRICS]
        if not self.figures.get("validation"):
            return "Nothing was held out to measure it on."
        where = "examples that were held out" if self.task else "documents of the same text that were held out"
        meanings = "".join(f"\n- `{name}`: {METRICS[name][1]}" for name in names)
        overlap = self.figures.get("validation_overlap") or {}
        seen = ""
        if overlap.get("share"):
            share = f"{100 * overlap['share']:.1f} %"
            seen = f" But {share} of these {overlap['of']:,} examples stand in the training files, too."
        return (
            f"Measured on {where}: the figures say how well it does on text of this kind, and nothing about other kinds."
            + seen
            + (f"\n{meanings}" if meanings else "")
        )

    def limits(self) -> Iterator[str]:
        """What it may be used for, and what must not be expected of it."""
        if self.task:
            yield f"Made for {self.task.replace('_', ' ')} of texts like those that it learnt from."
        elif self.objective == "causal_lm":
            yield "Made to go on with texts like those that it read, for study, and as a start for fine-tuning."
        elif self.hybrid:
            yield (
                "Made to go on with texts like those that it read, to understand them from both sides once it is fine-tuned, "
                "and for study."
            )
        else:
            yield "Made as a start for fine-tuning on texts like those that it read, and for study."
        tokens, parameters = self.figures.get("tokens"), self.figures.get("parameters")
        if tokens and parameters:
            yield (
                f"It read {tokens:,} tokens with {parameters:,} parameters ({tokens / parameters:.3g} tokens for each). What "
                "is not in its text it does not know, and what it says need not be true."
            )
        languages = {"en": "English", "zh": "Chinese"}
        if self.languages:
            read = " and ".join(languages[each] for each in self.languages)
            yield f"It read {read}; other languages are not expected to work."
        yield (
            "It had no safety training: what it learnt from its text, errors, insults and names of people included, it may "
            "repeat. Do not let it decide about people."
        )
        length = (self.settings.get("model") or self.saved).get("max_position_embeddings")
        if length:
            yield f"It reads at most {length:,} tokens at once; what goes beyond is cut off."


def _architecture(config: Mapping[str, Any]) -> str:
    return str((config.get("architectures") or [""])[0])


def _saved_config(folder: Path, file: str) -> Mapping[str, Any]:
    """Return one of Hugging Face's files of settings of the model that the run has saved, or nothing."""
    for name in ("best", "last"):
        try:
            values = read_json(folder / name / file)
        except UserError:
            continue
        if isinstance(values, dict):
            return values
    return {}


def train_split(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the counts of what a corpus has to train on, or nothing."""
    found = source.get("splits", {}).get("train", {})
    return found if isinstance(found, Mapping) else {}
