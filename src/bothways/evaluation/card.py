"""The model card that lies in a run's folder: what the model is, what it read, what it cost, how good it is, what it is for.

It has the head that the Hugging Face Hub reads, so that the folder can be published as it is. What is not known is said
to be unknown: the licence of the text, above all.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.checkpoints.checkpoint import CONFIG, OTHER_CONFIG
from bothways.evaluation.card_facts import Facts, Rows, train_split
from bothways.language import told
from bothways.training.cost import PowerMeter, cost_here, in_words
from bothways.training.run import Trained

UNKNOWN = "unknown"
_ELSEWHERE = ("run", "parameters", "steps", "tokens", "seconds")  # figures that have a place of their own on the card

PIPELINES = {  # what the Hub calls what a model does
    "ForCausalLM": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}


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
        data: what it was trained on: of each corpus its ``folder``, its manifest and the bytes of its ``languages``, or of a
            task ``folder`` and ``examples``.
        trained: what came of the training: its cost and its warnings.
        meter: measured the power meanwhile.
        licence: of the model, by its name on the Hub; None: unknown.
    """
    settings = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    facts = Facts(folder=folder, settings=settings, figures=figures, data=data)
    sections = [
        _head(facts, licence),
        f"# {_line(title)}",
        facts.sentence(),
        "## What it is",
        table(facts.architecture()),
        "## What it was trained on",
        *_data(facts),
        "## How it was trained",
        table(facts.training()),
        *_cost(trained, meter),
        "## How good it is",
        table([(name, value) for name, value in _flat(figures) if name not in _ELSEWHERE], head=("figure", "value")),
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


def _head(facts: Facts, licence: str | None) -> str:
    """Return the metadata that the Hub reads; JSON is YAML."""
    architecture = facts.architecture_name
    pipeline = next((name for ending, name in PIPELINES.items() if architecture.endswith(ending)), None)
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


def _data(facts: Facts) -> Iterator[str]:
    """Yield what it was trained on: each corpus or file, then how the text was prepared."""
    if not facts.data:
        yield "Not recorded."
        return
    if facts.task:
        yield table([(_base(source), source.get("examples", "")) for source in facts.data], head=("file", "examples"))
        return
    for source in facts.data:
        train, held_out = train_split(source), source.get("splits", {}).get("validation", {})
        rows: Rows = [
            ("corpus", _base(source)),
            ("weight", source.get("weight")),
            ("language", told(str(source.get("language") or UNKNOWN), source.get("languages") or {})),
            ("documents", train.get("documents")),
            ("tokens", train.get("tokens")),
            ("UTF-8 bytes", train.get("bytes")),
            ("documents held out to measure on", held_out.get("documents")),
            ("tokens held out to measure on", held_out.get("tokens")),
            ("licence", UNKNOWN),
            ("fingerprint", source.get("fingerprint")),
        ]
        yield table([(name, value) for name, value in rows if value is not None])
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
    yield table(list(in_words(cost).items()), head=("cost", ""))
    yield f"Energy and emissions are estimates. {'; '.join(cost.basis)}."


def _warnings(trained: Trained | None) -> Iterator[str]:
    if trained is None or not trained.warnings:
        return
    found = [f"- Step {warning['step']}: {_line(warning['text'])}" for warning in trained.warnings]
    yield "While it was trained, this was warned of:"
    yield "\n".join(found)


def _uses(facts: Facts) -> Iterator[str]:
    """Yield how to use it here, and in ``transformers`` where it opens there."""
    model = shlex.quote(str(facts.folder))
    tuned = f"bothways finetune classification --model {model} --train FILE --out NEW"
    if facts.task:
        line = f"bothways predict {facts.task} --model {model} --input FILE"
    elif facts.causal:
        line = f'bothways generate "A prompt" --model {model}'
    else:
        line = tuned
    yield f"```bash\n{line}\n{tuned}\n```" if facts.hybrid else f"```bash\n{line}\n```"
    ending = _ending(facts.architecture_name)
    if ending is None:
        return
    place = next(name for name in ("best", "last") if (facts.folder / name / CONFIG).is_file())
    auto = f"AutoModel{ending}"
    yield "With Hugging Face's transformers alone:"
    yield (
        f"```python\nfrom transformers import {auto}, AutoTokenizer\n\n"
        f"folder = {json.dumps(str(facts.folder / place), ensure_ascii=False)}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(folder)\nmodel = {auto}.from_pretrained(folder)\n```"
    )
    if other := _ending(facts.other_architecture_name):
        yield f"The same weights, reading both ways ({facts.other_architecture_name}):"
        yield (
            f"```python\nfrom transformers import AutoConfig, AutoModel{other}\n\n"
            f'config = AutoConfig.from_pretrained(f"{{folder}}/{OTHER_CONFIG}")\n'
            f"model = AutoModel{other}.from_pretrained(folder, config=config)\n```"
        )


def _ending(architecture: str) -> str | None:
    return next((ending for ending in PIPELINES if architecture.endswith(ending)), None)


def _base(source: Mapping[str, Any]) -> str:
    """Return the name of a corpus or file; where it lay on somebody's disk is nobody else's business."""
    return Path(str(source.get("folder", UNKNOWN))).resolve().name


def table(rows: Rows, *, head: tuple[str, str] = ("", "")) -> str:
    """Return rows of two as a table in Markdown."""
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
