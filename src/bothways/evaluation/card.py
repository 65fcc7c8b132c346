"""The model card that lies in a run's folder."""

import json
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any


def write_card(folder: Path, *, title: str, figures: Mapping[str, Any]) -> None:
    """Write ``README.md``: what the model is, how it was made, how good it is and how to use it.

    Args:
        folder: a RUN, with its ``experiment.json``.
        title: of the card.
        figures: plain values; mappings become nested lines.
    """
    experiment = (folder / "experiment.json").read_text(encoding="utf-8")
    lines = [
        "---",
        "library_name: bothways",
        "---",
        "",
        f"# {title}",
        "",
        f"Made by bothways {version('bothways')}.",
        "",
        "## Figures",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _flat(figures)),
        "",
        "![loss](loss.svg)",
        "",
        "## How to use it",
        "",
        "```bash",
        *_uses(json.loads(experiment), shlex.quote(str(folder))),
        "```",
        "",
        "## How it was made",
        "",
        "```json",
        experiment.strip(),
        "```",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _uses(experiment: Mapping[str, Any], model: str) -> list[str]:
    if "task" in experiment:
        return [f"bothways predict {experiment['task']} --model {model} --input FILE"]
    if experiment["model"]["attention"] == "causal":
        return [f'bothways generate "A prompt" --model {model}']
    return [f"bothways finetune classification --model {model} --train FILE --out NEW"]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, f"{value:.4g}" if isinstance(value, float) else value))
    return found
