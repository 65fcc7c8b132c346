"""The page on raw text."""

from collections.abc import Iterator, Mapping
from typing import Any

from bothways.advise.inspect.layout import (
    Passage,
    Section,
    Table,
    fertility_tables,
    histogram,
    ingest_facts,
    lengths_table,
    recipes_section,
    rejected_tables,
    share_bars,
)


def text_sections(figures: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the sections of the page on raw text."""
    yield _files(figures)
    yield _language(figures)
    yield _length_section(figures)
    yield _copies(figures)
    if found := figures["tokenizer"]:
        yield _tokenizer(found)
    yield recipes_section(figures["recipes"])
    yield _worst(figures)


def _files(figures: Mapping[str, Any]) -> Section:
    rows = [(kind, found["files"], found["documents"], found["bytes"]) for kind, found in figures["kinds"].items()]
    tables = [Table(columns=("kind", "files", "documents", "bytes"), rows=rows), *rejected_tables(figures["ingest"])]
    if figures["unreadable"]:
        unread = [(found["file"], found["reason"]) for found in figures["unreadable"]]
        tables.append(Table(title="Files that cannot be read", columns=("file", "reason"), rows=unread))
    return Section(
        title="Files and lines",
        intro="Every line is kept, empty or rejected, and the three add up.",
        facts=ingest_facts(figures["ingest"]),
        tables=tables,
    )


def _language(figures: Mapping[str, Any]) -> Section:
    names = {"en": "English", "zh": "Chinese", "other": "other", "none": "no letters"}
    languages = [(names[name], number) for name, number in figures["languages"].items()]
    kinds = list(figures["character_kinds"].items())
    scripts = list(figures["scripts"].items())
    facts = [
        ("distinct characters", figures["distinct_characters"]),
        ("control characters", figures["control"]["characters"]),
        ("traces of a wrong encoding", figures["mojibake"]["places"]),
        ("lost characters (U+FFFD)", figures["replacement_characters"]),
        ("private-use characters", figures["private_use"]),
        ("letters of uncommon scripts", figures["uncommon_letters"]["characters"]),
    ]
    tables = [
        Table(title="Documents by language", columns=("language", "documents"), rows=languages),
        Table(title="Letters by script", columns=("script", "letters"), rows=scripts),
        Table(title="Characters by kind", columns=("kind", "number"), rows=kinds, brief=False),
    ]
    for title, rows in (
        ("Commonest letters of uncommon scripts", figures["uncommon_letters"]["top"]),
        ("Commonest control characters", figures["control"]["commonest"]),
    ):
        if rows:
            tables.append(Table(title=title, columns=("character", "number"), rows=rows, brief=False))
    drawn = ((languages, "Documents by language"), (scripts, "Letters by script"))
    charts = [share_bars(parts, title) for parts, title in drawn if len(parts) > 1]
    return Section(title="Languages and characters", facts=facts, tables=tables, charts=charts)


def _length_section(figures: Mapping[str, Any]) -> Section:
    rows = {
        "characters per document": figures["characters_per_document"],
        "words per document": figures["words_per_document"],
        "sentences per document": figures["sentences_per_document"],
        "characters per sentence": figures["characters_per_sentence"],
    }
    charts = [
        histogram(rows["characters per document"], "Documents by length", "characters"),
        histogram(rows["characters per sentence"], "Sentences by length", "characters"),
        histogram(rows["sentences per document"], "Documents by sentences", "sentences"),
    ]
    close = figures["close_share"]
    intro = "" if close == 1 else f"Words, sentences and lines were counted in {close:.1%} of the text and scaled up."
    return Section(title="Lengths", intro=intro, tables=[lengths_table(rows, "")], charts=charts)


def _copies(figures: Mapping[str, Any]) -> Section:
    copies, lines = figures["duplicates"], figures["repeated_lines"]
    facts = [
        ("exact copies", copies["exact"]),
        ("near copies", copies["near"]),
        ("copies within a file", copies["within_files"]),
        ("copies across files", copies["across_files"]),
        ("lines with letters or digits", lines["lines"]),
        ("lines seen before", lines["repeated"]),
    ]
    tables = []
    if lines["top"]:
        rows = [(number, text) for text, number in lines["top"]]
        tables.append(Table(title="Commonest lines", columns=("times", "line"), rows=rows[:20], brief=False))
    if copies["examples"]:
        found = [(each["kind"], each["copy"], each["original"], each["similarity"]) for each in copies["examples"]]
        columns = ("kind", "copy", "of", "similarity")
        tables.append(Table(title="The first copies", columns=columns, rows=found, brief=False))
    return Section(title="Copies and repeated lines", facts=facts, tables=tables)


def _tokenizer(found: Mapping[str, Any]) -> Section:
    names = (
        "kind",
        "vocab_size",
        "tokens",
        "vocabulary_used",
        "bytes_per_token",
        "tokens_per_word",
        "unknown",
        "unknown_rate",
    )
    facts = [(name.replace("_", " "), found[name]) for name in names if found.get(name) is not None]
    if back := found.get("round_trip"):
        facts.append(("texts that did not come back", f"{back['not_back']:,} of {back['checked']:,}"))
    charts = []
    if found.get("tokens_per_document"):
        charts.append(histogram(found["tokens_per_document"], "Documents by tokens", "tokens"))
    return Section(title="The tokenizer", facts=facts, tables=list(fertility_tables(found)), charts=charts)


def _worst(figures: Mapping[str, Any]) -> Section:
    passages = {
        name: [
            Passage(label=f"{found['source']} · {_figure(name, found['value'])}", text=found["text"]) for found in each
        ]
        for name, each in figures["worst"].items()
        if each
    }
    passages["drawn at random"] = [Passage(label=found["source"], text=found["text"]) for found in figures["samples"]]
    return Section(
        title="Documents to look at", intro="The ones at the edge, by what puts them there.", passages=passages
    )


def _figure(name: str, value: Any) -> str:
    return f"{value:,} characters" if name in ("shortest", "longest") else f"{value:.1%}"
