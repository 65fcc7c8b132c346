"""The page on prepared data."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
)

if TYPE_CHECKING:
    from bothways.evaluation.charts import Chart


def data_sections(figures: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the sections of the page on prepared data."""
    splits = figures["splits"]
    columns = ("split", "documents", "tokens", "bytes", "copies")
    rows = [
        (name, *(split[key] for key in ("documents", "tokens", "bytes", "duplicates")))
        for name, split in splits.items()
    ]
    lengths = {f"{name}: tokens per document": split["tokens_per_document"] for name, split in splits.items()}
    lengths |= {f"{name}: sentences per document": split["sentences_per_document"] for name, split in splits.items()}
    charts = []
    for name, split in splits.items():
        charts.append(histogram(split["tokens_per_document"], f"{name.capitalize()} documents by tokens", "tokens"))
    if "train" in splits:
        sentences = splits["train"]["sentences_per_document"]
        charts.append(histogram(sentences, "Train documents by sentences", "sentences"))
    yield Section(title="Splits", tables=[Table(columns=columns, rows=rows), lengths_table(lengths)], charts=charts)
    overlaps = [
        (name, found["of"], found["exact"], found.get("searched", 0), *found.get("passages", {}).values())
        for name, found in figures["overlap"].items()
    ]
    if overlaps:
        names = ("split", "documents", "in train", "looked for closely", "whole", "long passages", "nearly")
        yield Section(title="Held-out text in train", tables=[Table(columns=names, rows=overlaps)])
    yield _vocabulary(figures)
    yield recipes_section(figures["recipes"])
    if report := figures["ingest"]:
        yield Section(title="What prepare read", facts=ingest_facts(report), tables=list(_prepared_tables(report)))
    passages = {name: [Passage(label=name, text=text) for text in split["samples"]] for name, split in splits.items()}
    yield Section(title="Documents to look at", intro="Drawn at random, decoded from their tokens.", passages=passages)


def _prepared_tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what prepare wrote down of bad lines, cleaning and copies."""
    yield from rejected_tables(report)
    cleaning = report.get("cleaning") or {}
    steps = [
        (name.replace("_", " "), *(step.get(key, 0) for key in ("documents", "lines", "characters")))
        for name, step in (cleaning.get("steps") or {}).items()
    ]
    if steps:
        columns = ("step", "documents changed", "lines", "characters")
        yield Table(title="Cleaned", columns=columns, rows=steps)
    if dropped := sorted((cleaning.get("dropped") or {}).items()):
        yield Table(title="Left out by filters", columns=("filter", "documents"), rows=dropped)
    copies = report.get("deduplication") or {}
    if rows := [(name, copies[name]) for name in ("exact", "near") if copies.get(name)]:
        yield Table(title="Left out as copies", columns=("kind", "documents"), rows=rows)
    contamination = report.get("contamination") or {}
    if contamination.get("contaminated"):
        found = [("documents searched", contamination["documents"]), ("in tests", contamination["contaminated"])]
        yield Table(title="Left out as part of tests", columns=("", "documents"), rows=found)


def _vocabulary(figures: Mapping[str, Any]) -> Section:
    tokenizer, vocabulary = figures["tokenizer"], figures["vocabulary"]
    facts = [
        ("kind", tokenizer["kind"]),
        ("tokens of the vocabulary", tokenizer["vocab_size"]),
        ("never used in train", vocabulary["never_used"]),
        ("used fewer than ten times", vocabulary["rare"]),
        ("unknown tokens", tokenizer["unknown"]),
        *(
            (name.replace("_", " "), tokenizer[name])
            for name in ("bytes_per_token", "tokens_per_word")
            if name in tokenizer
        ),
    ]
    rows = [(repr(text), number) for text, number in vocabulary["commonest"]]
    tables = [
        *fertility_tables(figures["ingest"].get("tokenizer") or {}),
        Table(title="Commonest tokens", columns=("token", "times"), rows=rows, brief=False),
    ]

    def draw() -> "Chart":
        from bothways.advise.inspect.charts import by_rank

        return by_rank(vocabulary["by_rank"], title="How often tokens occur in train")

    charts = [draw] if any(count for _, count in vocabulary["by_rank"]) else []
    return Section(title="Tokenizer and vocabulary", facts=facts, tables=tables, charts=charts)
