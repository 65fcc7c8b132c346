"""The doctor's figures as sections: what the page shows whole and a terminal in part."""

from collections.abc import Mapping
from typing import Any

from bothways.advise.inspect.data_layout import data_sections
from bothways.advise.inspect.example_layout import example_sections
from bothways.advise.inspect.layout import Section
from bothways.advise.inspect.text_layout import text_sections
from bothways.language import told


def sections(figures: Mapping[str, Any]) -> list[Section]:
    """Return the sections for a survey of text, for prepared data or for task files."""
    made = {"text": text_sections, "data": data_sections, "examples": example_sections}[figures["kind"]](figures)
    return [section for section in made if section.facts or section.tables or section.charts or section.passages]


def headline(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the few figures that stand on top."""
    if figures["kind"] == "text":
        tokens = figures["tokenizer"]["tokens"] if figures["tokenizer"] else figures["estimated_tokens"]
        names = ("documents", "bytes", "characters", "words", "sentences", "lines")
        return [*((name, figures[name]) for name in names), ("tokens, about", tokens)]
    if figures["kind"] == "data":
        rows = [(f"{name} tokens", split["tokens"]) for name, split in figures["splits"].items()]
        language = told(figures["language"], figures["ingest"].get("languages") or {})
        return [*rows, ("language", language), ("vocabulary", figures["tokenizer"]["vocab_size"])]
    return [(f"{name} examples", file["examples"]) for name, file in figures["files"].items()]
