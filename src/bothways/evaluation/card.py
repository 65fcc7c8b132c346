"""The model card that lies in a run's folder: what the model is, what it read, what it cost, how good it is, what it is for.

It has the head that the Hugging Face Hub reads, so that the folder can be published as it is. What is not known is said
to be unknown: the licence of the text, above all.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bothways.config import read_json
from bothways.errors import UserError
from bothways.evaluation.wording import METRICS
from bothways.training.cost import PowerMeter, cost_here, in_words
from bothways.training.run import Trained

Rows = list[tuple[str, Any]]
UNKNOWN = "unknown"
_ELSEWHERE = ("run", "parameters", "steps", "tokens", "seconds")  # figures that have a place of their own on the card

_PIPELINES = {  # what the Hub calls what a model does
    "ForCausalLM": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_OBJECTIVES = {
    "causal_lm": "predict the next token",
    "masked_lm": "predict masked tokens from both sides",
    "hybrid": "both: predict the next token, and masked tokens from both sides",
}
_FAMILIES = {"causal_lm": "GPT", "masked_lm": "BERT", "hybrid": "GPT and BERT in one"}


def write_card(
    folder: Path,
    *,
    title: str,
    figures: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]] = (),
    trained: Trained | None = None,
    meter: PowerMeter | None = None,
    licence: str | None = None,
) -> None:
    """Write ``README.md``.

    Args:
        folder: a RUN, with its ``experiment.json``.
        title: of the card.
        figures: plain values; mappings become nested lines.
        data: what it was trained on: of each corpus its ``folder`` and its manifest, or of a task ``folder`` and
            ``examples``.
        trained: what came of the training: its cost and its warnings.
        meter: measured the power meanwhile.
        licence: of the model, by its name on the Hub; None: unknown.
    """
    settings = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    facts = _Facts(folder=folder, settings=settings, figures=figures, data=data)
    sections = [
        _head(facts, licence),
        f"# {_line(title)}",
        facts.sentence(),
        "## What it is",
        _table(facts.architecture()),
        "## What it was trained on",
        *_data(facts),
        "## How it was trained",
        _table(facts.training()),
        *_cost(trained, meter),
        "## How good it is",
        _table([(name, value) for name, value in _flat(figures) if name not in _ELSEWHERE], head=("figure", "value")),
        facts.measured(),
        *_warnings(trained),
        "![The loss and what was measured, by step](loss.svg)",
        "## What it is for, and what not",
        "\n".join(f"- {sentence}" for sentence in facts.limits()),
        "## How to use it",
        *_uses(facts),
        "## Licence",
        f"The model: {licence or UNKNOWN}. The text that it learnt from: not recorded; what it allows is for you to find out "
        "before you publish the model.",
        "## All settings",
        "```json\n" + json.dumps(settings, indent=2, ensure_ascii=False) + "\n```",
    ]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


class _Facts:
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
        self.saved = _saved_config(folder)
        self.task: str | None = settings.get("task")
        self.objective: str = settings.get("objective", {}).get("name", "")
        self.causal = settings.get("model", {}).get("attention") == "causal"

    @property
    def languages(self) -> list[str]:
        """The languages of the corpora, as the Hub writes them."""
        found = dict.fromkeys(str(source.get("language")) for source in self.data)
        return [language for language in found if language in ("en", "zh")]

    @property
    def architecture_name(self) -> str:
        """The class in which ``transformers`` opens the model, or nothing."""
        return str((self.saved.get("architectures") or [""])[0])

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
        if self.settings.get("model", {}).get("hybrid"):
            names["reads"] = "from left to right, or both ways"
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
            return self.settings.get("epochs")
        read = sum(_train(source).get("tokens", 0) for source in self.data)
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


def _head(facts: _Facts, licence: str | None) -> str:
    """Return the metadata that the Hub reads; JSON is YAML."""
    architecture = facts.architecture_name
    pipeline = next((name for ending, name in _PIPELINES.items() if architecture.endswith(ending)), None)
    tags = ["bothways", facts.task.replace("_", "-")] if facts.task else ["bothways", "pretrained"]
    if not facts.task:
        tags += {"causal_lm": ["gpt"], "masked_lm": ["bert"], "hybrid": ["gpt", "bert"]}.get(facts.objective, [])
    values: dict[str, Any] = {
        "language": facts.languages or None,
        "license": licence or UNKNOWN,
        "library_name": "bothways",
        "pipeline_tag": pipeline,
        "tags": tags,
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
    return "\n".join(["---", *lines, "---"])


def _data(facts: _Facts) -> Iterator[str]:
    """Yield what it was trained on: each corpus or file, then how the text was prepared."""
    if not facts.data:
        yield "Not recorded."
        return
    if facts.task:
        yield _table([(_base(source), source.get("examples", "")) for source in facts.data], head=("file", "examples"))
        return
    for source in facts.data:
        train, held_out = _train(source), source.get("splits", {}).get("validation", {})
        rows: Rows = [
            ("corpus", _base(source)),
            ("weight", source.get("weight")),
            ("language", source.get("language")),
            ("documents", train.get("documents")),
            ("tokens", train.get("tokens")),
            ("UTF-8 bytes", train.get("bytes")),
            ("documents held out to measure on", held_out.get("documents")),
            ("licence", UNKNOWN),
            ("fingerprint", source.get("fingerprint")),
        ]
        yield _table([(name, value) for name, value in rows if value is not None])
        if said := preparation(source.get("settings", {})):
            yield said


def preparation(settings: Mapping[str, Any]) -> str:
    """Return what was done to a text before it was stored, in a paragraph."""
    cleaning, copies, tests = (settings.get(name) or {} for name in ("cleaning", "deduplication", "decontamination"))
    steps = [name.replace("_", " ") for name, value in cleaning.items() if value is True]
    limits = [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in cleaning.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    said = []
    if steps or limits:
        said.append(f"Cleaned: {', '.join([*steps, *limits])}.")
    if cleaning.get("unicode"):
        said.append(f"Unicode: {cleaning['unicode']}.")
    kinds = [kind for kind in ("exact", "near") if copies.get(kind)]
    if kinds:
        near = f" (at least {copies['threshold']:.0%} alike)" if copies.get("near") and "threshold" in copies else ""
        said.append(f"Copies removed: {' and '.join(kinds)}{near}.")
    elif copies:
        said.append("Copies were not removed.")
    if tests.get("ngram"):
        said.append(f"Overlap with named test files: {tests.get('action')}, by {tests['ngram']} words in a row.")
    return " ".join(said)


def _cost(trained: Trained | None, meter: PowerMeter | None) -> Iterator[str]:
    if trained is None:
        return
    cost = cost_here(seconds=trained.seconds, flops=trained.flops or None, meter=meter)
    yield _table(list(in_words(cost).items()), head=("cost", ""))
    yield f"Energy and emissions are estimates. {'; '.join(cost.basis)}."


def _warnings(trained: Trained | None) -> Iterator[str]:
    if trained is None or not trained.warnings:
        return
    found = [f"- Step {warning['step']}: {_line(warning['text'])}" for warning in trained.warnings]
    yield "While it was trained, this was warned of:"
    yield "\n".join(found)


def _uses(facts: _Facts) -> Iterator[str]:
    """Yield how to use it here, and in ``transformers`` where it opens there."""
    model = shlex.quote(str(facts.folder))
    if facts.task:
        line = f"bothways predict {facts.task} --model {model} --input FILE"
    elif facts.causal:
        line = f'bothways generate "A prompt" --model {model}'
    else:
        line = f"bothways finetune classification --model {model} --train FILE --out NEW"
    yield f"```bash\n{line}\n```"
    ending = next((ending for ending in _PIPELINES if facts.architecture_name.endswith(ending)), None)
    if ending is None:
        return
    place = next(name for name in ("best", "last") if (facts.folder / name / "config.json").is_file())
    auto = f"AutoModel{ending}"
    yield "With Hugging Face's transformers alone:"
    yield (
        f"```python\nfrom transformers import {auto}, AutoTokenizer\n\n"
        f"folder = {json.dumps(str(facts.folder / place), ensure_ascii=False)}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(folder)\nmodel = {auto}.from_pretrained(folder)\n```"
    )


def _saved_config(folder: Path) -> Mapping[str, Any]:
    """Return Hugging Face's ``config.json`` of the model that the run has saved, or nothing."""
    for name in ("best", "last"):
        try:
            values = read_json(folder / name / "config.json")
        except UserError:
            continue
        if isinstance(values, dict):
            return values
    return {}


def _train(source: Mapping[str, Any]) -> Mapping[str, Any]:
    found = source.get("splits", {}).get("train", {})
    return found if isinstance(found, Mapping) else {}


def _base(source: Mapping[str, Any]) -> str:
    """Return the name of a corpus or file; where it lay on somebody's disk is nobody else's business."""
    return Path(str(source.get("folder", UNKNOWN))).resolve().name


def _table(rows: Rows, *, head: tuple[str, str] = ("", "")) -> str:
    lines = [head, ("---", "---"), *((name, _value(value)) for name, value in rows)]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines)


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(str(text).split())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Rows:
    found: Rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found
