"""The model card of an export: that of the run, or a short one, with how it opens there and how it was compared.

Nothing is on it that the run, the folder or the comparison does not say.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load

from bothways.checkpoints.checkpoint import Loaded
from bothways.checkpoints.family import family_for
from bothways.checkpoints.weights import outputs
from bothways.evaluation.card import PIPELINES, UNKNOWN, table

CARD = "README.md"
_PICTURE = "loss.svg"
_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_USE = re.compile(r"^## How to use it\n.*?(?=^## )", re.DOTALL | re.MULTILINE)
_KEPT = ("language", "license", "license_name", "license_link", "datasets", "base_model")  # of another's card


def write_export_card(
    into: Path,
    *,
    loaded: Loaded,
    format: str,  # noqa: A002
    library: str,
    usage: str,
    comparison: Sequence[str],
) -> None:
    """Write ``README.md`` beside an export.

    Args:
        into: the folder of the export.
        loaded: the model, with the folder that it is from.
        format: of the export.
        library: what the Hub calls what opens it.
        usage: Markdown: how it is used.
        comparison: paragraphs of Markdown: how far it is from the model.
    """
    run = _run_of(loaded.folder)
    if run is None:
        known = _known(loaded.folder, loaded.config)
        head, sections = known, _short(loaded, format, known)
        sections += [f"## How to use it\n\n{usage}", *_compared(comparison), _licence(known)]
    else:
        text = (run / CARD).read_text(encoding="utf-8")
        head = _metadata(run / CARD)
        uses = f"## How to use it\n\n{usage}\n\n" + "\n\n".join(_compared(comparison)) + "\n\n"
        body = _HEAD.sub("", text)
        body = _USE.sub(lambda _: uses, body) if _USE.search(body) else f"{body.rstrip()}\n\n{uses.rstrip()}\n"
        sections = [_note(format), body.strip()]
        if (run / _PICTURE).is_file():
            shutil.copyfile(run / _PICTURE, into / _PICTURE)
    head = {**head, "library_name": library, **_pipeline(loaded, format), "tags": _tags(head, format)}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items() if value is not None]
    (into / CARD).write_text("\n\n".join(["\n".join(["---", *lines, "---"]), *sections]) + "\n", encoding="utf-8")


def _run_of(folder: Path) -> Path | None:
    """Return the run that a model is from, if it has a card: its model lies in ``last`` or ``checkpoints/step-N``."""
    places = (folder.parent, folder.parent.parent)
    return next((run for run in places if (run / "experiment.json").is_file() and (run / CARD).is_file()), None)


def _known(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another's folder says of itself for the Hub: in its card, or in a GGUF file."""
    if folder.is_file():
        found = {"language": config["general"]["languages"], "license": config["general"]["license"]}
    else:
        found = _metadata(folder / CARD)
    known = {name: found[name] for name in _KEPT if found.get(name)}
    return {**known, "license": known.get("license", UNKNOWN)}


def _metadata(card: Path) -> dict[str, Any]:
    """Return the head of a card; one that cannot be read says nothing."""
    if not card.is_file():
        return {}
    try:
        found = metadata_load(card)
        return json.loads(json.dumps(found)) if isinstance(found, dict) else {}
    except Exception:  # whatever the libraries below make of YAML that anybody may have written
        return {}


def _pipeline(loaded: Loaded, format: str) -> dict[str, str]:  # noqa: A002
    """Return what the Hub calls what the export does."""
    config = loaded.model.config
    if format == "sentence-transformers":
        return {"pipeline_tag": "sentence-similarity"}
    if format == "gguf":
        return {"pipeline_tag": "feature-extraction" if config.attention == "bidirectional" else "text-generation"}
    name = str(family_for(config).write_config(config, outputs(loaded.model))["architectures"][0])
    return {"pipeline_tag": next((does for end, does in PIPELINES.items() if name.endswith(end)), "feature-extraction")}


def _tags(head: Mapping[str, Any], format: str) -> list[str]:  # noqa: A002
    tags = head.get("tags")
    return list(dict.fromkeys([*(tags if isinstance(tags, list) else ["bothways"]), format]))


def _note(format: str) -> str:  # noqa: A002
    return (
        f"*Exported to `{format}` by bothways {version('bothways')}; the rest is the card of the run that it is from.*"
    )


def _short(loaded: Loaded, format: str, known: Mapping[str, Any]) -> list[str]:  # noqa: A002
    """Return what is known of a model that comes without a run."""
    config = loaded.model.config
    name = loaded.folder.stem if loaded.folder.is_file() else loaded.folder.resolve().name
    heads = ", ".join(head.replace("_", " ") for head in loaded.model.heads) or "none: it gives vectors"
    language = known.get("language")
    rows = [
        ("reads", "from left to right" if config.attention == "causal" else "both ways"),
        ("parameters", sum(weight.numel() for weight in loaded.model.parameters())),
        ("layers", config.num_hidden_layers),
        ("hidden size", config.hidden_size),
        ("attention heads", config.num_attention_heads),
        ("vocabulary", config.vocab_size),
        ("tokens read at once, at most", config.max_position_embeddings),
        ("heads", heads),
        ("classes", ", ".join(loaded.labels) if loaded.labels else None),
        ("language", ", ".join(map(str, language)) if isinstance(language, list) else language),
    ]
    return [
        f"# {name}",
        f"Exported to `{format}` by bothways {version('bothways')}.",
        "## What it is",
        table([(label, value) for label, value in rows if value is not None]),
        "What it was trained on, and how good it is, is not recorded here.",
    ]


def _compared(comparison: Sequence[str]) -> Iterator[str]:
    yield "## How it was compared"
    yield from comparison


def _licence(known: Mapping[str, Any]) -> str:
    return f"## Licence\n\nOf the model: {known['license']}."


__all__ = ["CARD", "write_export_card"]
