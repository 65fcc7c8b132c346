"""The page on task files."""

from collections.abc import Iterator, Mapping
from typing import Any

from bothways.advise.inspect.layout import (
    Passage,
    Section,
    Table,
    histogram,
    lengths_table,
    rejected_tables,
    share_bars,
)


def example_sections(figures: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the sections of the page on task files."""
    for name, file in figures["files"].items():
        yield _file(name, file, figures)
    if judgments := figures.get("judgments"):
        names = ("judgments", "queries", "missing_queries", "missing_documents", "repeated")
        rows = [(name, *(each[key] for key in names)) for name, each in judgments.items()]
        columns = ("split", *(key.replace("_", " ") for key in names))
        yield Section(title="Judgments", tables=[Table(columns=columns, rows=rows)])
    if found := figures.get("overlap"):
        rows = [(found["of"], found["exact"], found["ngram"], found["near"])]
        columns = ("test examples", "word for word", "long passages", "nearly")
        examples = [
            Passage(label=f"{each['test']} in {each['train']}", text=each["excerpt"]) for each in found["examples"]
        ]
        passages = {"the first of them": examples} if examples else {}
        yield Section(title="Test examples in train", tables=[Table(columns=columns, rows=rows)], passages=passages)


def _file(name: str, file: Mapping[str, Any], figures: Mapping[str, Any]) -> Section:
    inner = {
        f"{column}: {unit}": found[unit]
        for column, found in file["columns"].items()
        if column != "label"
        for unit in ("characters", "words")
    }
    checks = file["checks"]
    facts = [
        ("examples", file["examples"]),
        ("copies", file["same_examples"]),
        ("same inputs", file["same_inputs"]),
        ("lines rejected", file["ingest"]["rejected"]),
        *((key.replace("_", " "), value) for key, value in checks.items() if isinstance(value, int)),
    ]
    tables = [lengths_table(inner)]
    charts = [
        histogram(found["words"], f"{column} by length", "words")
        for column, found in file["columns"].items()
        if column in figures["inputs"]
    ]
    rows: list[tuple[Any, ...]]
    if classes := checks.get("classes"):
        rows = [(size["label"], size["count"], size["share"]) for size in classes]
        tables.append(Table(title="Labels", columns=("label", "examples", "share"), rows=rows))
        charts.append(share_bars([(size["label"], size["count"]) for size in classes], "Examples by label"))
    if clues := [*checks.get("telling_tokens", ()), *checks.get("telling_names", ())]:
        rows = [(clue["token"], clue["label"], clue["count"], clue["right"]) for clue in clues]
        columns = ("in the text", "label", "texts", "with that label")
        tables.append(Table(title="What gives the label away", columns=columns, rows=rows))
    tables += rejected_tables(file["ingest"])
    shown = [
        Passage(
            label=sample["source"],
            text="\n".join(f"{key}: {value}" for key, value in sample.items() if key != "source"),
        )
        for sample in file["samples"]
    ]
    return Section(
        title=name.capitalize(), facts=facts, tables=tables, charts=charts, passages={"drawn at random": shown}
    )
