"""The report of a run: its figures in ``report.json``, their story in ``report.html``, a table for the terminal.

The figures are one JSON object. Every part of it may be missing: its section then says so or is left out. Keys that are
not listed here are kept in ``report.json``. A score is a number; ``low`` and ``high`` bound its confidence interval::

    bothways, created, language ("en" | "zh"), seed, minutes (asked for), seconds (used)
    machine        {cpu, cores, memory_gib, torch, precision}
    corpus         {name, documents, bytes,
                    splits {train | validation | test: {documents, bytes, tokens}},
                    tokenizers {name: {vocab_size, bytes_per_token}}}
    pretraining    {gpt: {recipe, parameters, tokens, seconds, tokens_per_second, bits_per_byte, perplexity,
                          baselines {xz, unigram: bits per byte},
                          curve [{step, seconds, tokens, loss, bits_per_byte?}]},
                    bert: {recipe, parameters, tokens, seconds, tokens_per_second,
                           masked_accuracy, next_sentence_accuracy,
                           baselines {unigram_masked_accuracy, chance_next_sentence},
                           curve [{step, seconds, tokens, loss, masked_accuracy?, next_sentence_accuracy?}]}}
    tasks          {name: {metrics [the main one first],
                           arms {arm: {metric: score, seconds?, low? {metric: score}, high? {metric: score}}},
                           sizes? {split: examples}, labels?, note?,
                           confusion? {labels, counts: rows true, columns given},
                           examples? [{field or arm: text}],
                           samples? [{temperature, prompt, text: what follows the prompt, or both}]}}
    side_by_side   [{task, metric, gpt, bert, note}]
    timings        {stage: seconds}
    missing        [{task, reason}]
    commands       [command to go on with]

An arm is a model if its name starts with ``gpt`` or ``bert`` (its twin ends in ``_not_pretrained``), else a baseline.

Text and names come from a corpus that nobody vouches for. The page is escaped throughout, and its
Content-Security-Policy allows nothing but its own style sheet: no script, no image, no network.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bothways.config import replace_file
from bothways.evaluation import pages
from bothways.evaluation.charts import Charts
from bothways.evaluation.digest import (
    PRETRAINING,
    Headline,
    arms,
    headlines,
    items,
    metrics,
    part,
    records,
    samples_by_temperature,
    winner,
)
from bothways.evaluation.svg import clean, dark_style
from bothways.evaluation.wording import Wording, compact, count, size

_HERE = Path(__file__).parent
# What the template asks the figures with.
_READERS = (arms, items, metrics, part, records, samples_by_temperature, winner)
_MARKS = {"better": ("▲", "green"), "level": ("=", "yellow"), "behind": ("▼", "red"), None: ("", "")}


def write_report(figures: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into the folder ``out``, made if need be; return the page's path.

    A number that JSON cannot hold is written as the string "NaN", "Infinity" or "-Infinity".
    """
    out.mkdir(parents=True, exist_ok=True)
    plain = _plain(figures)
    _write(out / "report.json", json.dumps(plain, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    page = out / "report.html"
    _write(page, render_html(plain))
    return page


def render_html(figures: Mapping[str, Any]) -> str:
    """The page as text, in the figures' own ``language``."""
    figures = _plain(figures)
    words = Wording(figures.get("language") or "en")
    style = (_HERE / "report.css").read_text("utf-8") + dark_style()
    return _template().render(
        figures=figures,
        say=words,
        headlines=headlines(figures),
        models=list(PRETRAINING),
        charts=Charts(words),
        style=Markup(style),  # ours, not the corpus's
        policy=pages.policy(style),
    )


@cache
def _template() -> Template:
    environment = pages.environment(_HERE)
    environment.filters |= {"compact": compact, "count": count, "size": size}
    environment.globals |= {function.__name__: function for function in _READERS}
    return environment.get_template("report.html")


def summary_table(figures: Mapping[str, Any]) -> Group:
    """The headline figures for a terminal: a table, and what is missing."""
    figures = _plain(figures)
    words = Wording(figures.get("language") or "en")
    table = Table(title=words("At a glance"), title_justify="left", title_style="bold")
    for column in ("Task", "Measure", "Model"):
        table.add_column(words(column))
    for column in ("Score", "Not pretrained"):
        table.add_column(words(column), justify="right")
    table.add_column(words("Best yardstick"))
    found = headlines(figures)
    for headline in found:
        table.add_row(*_summary_row(words, headline))
    rest = [Text(f"{words('missing')}: {_missing(words, gap)}", style="dim") for gap in records(figures, "missing")]
    return Group(table if found else Text(words("No figure has been measured yet.")), *rest)


def _summary_row(words: Wording, headline: Headline) -> list[Text]:
    mark, style = _MARKS[headline.verdict]
    yardstick = headline.best_yardstick
    against = (
        f"{words.arm(yardstick)} {words.number(headline.metric, headline.yardsticks[yardstick])}" if yardstick else ""
    )
    return [
        Text(clean(words.stage(headline.task))),
        Text(clean(words.metric(headline.metric))),
        Text(clean(words.arm(headline.model))),
        Text(f"{words.number(headline.metric, headline.value)} {mark}".rstrip(), style=style),
        Text("" if headline.twin is None else words.number(headline.metric, headline.twin)),
        Text(clean(against)),
    ]


def _missing(words: Wording, gap: Mapping[str, Any]) -> str:
    """One entry of ``missing`` on a line."""
    return clean(f"{words.stage(str(gap.get('task') or ''))}: {words(str(gap.get('reason') or ''))}")


def _plain(value: Any) -> Any:
    """``value`` in JSON's own types; arrays and scalars of numpy and torch become lists and numbers."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, str | int | float | None) else str(value)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all. A lone surrogate, which UTF-8 cannot hold, becomes its JSON escape."""
    replace_file(path, text.encode("utf-8", "backslashreplace"))
