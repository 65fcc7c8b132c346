"""The report: what it shows, what it does without, and that nothing in the figures can act on the page."""

import ast
import base64
import copy
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from rich.console import Console

from bothways.evaluation import wording
from bothways.evaluation.curves import Bar, Line, Panel, bar_chart, confusion_matrix, line_chart
from bothways.evaluation.digest import arms, headlines, metrics, pretraining_headline, winner
from bothways.evaluation.loss_curves import plot_run
from bothways.evaluation.report import render_html, summary_table, write_report
from bothways.evaluation.wording import CHINESE, Wording, compact, count, size
from bothways.progress import display

PAYLOADS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</style></svg></title><iframe src=https://example.org>",
    "{{ 7 * 7 }}{% raw %}${7*7}]]>&lt;b&gt;",
]


def curve(metric: str, *, points: int = 60) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for step in range(points):
        rows.append(
            {"step": step, "seconds": step * 3.0, "tokens": step * 70_000, "loss": 4.6 + 4 * math.exp(-step / 9)}
        )
        if step % 10 == 0:
            rows[-1][metric] = (
                1.8 + math.exp(-step / 9) if metric == "bits_per_byte" else 0.3 - 0.3 * math.exp(-step / 9)
            )
    return rows


def sample() -> dict[str, Any]:
    """Figures as a run of ten minutes leaves them."""
    return {
        "bothways": "0.1.0",
        "created": "2026-07-21T10:32:11+00:00",
        "language": "en",
        "seed": 7,
        "minutes": 10,
        "seconds": 561.3,
        "machine": {"cpu": "Xeon 8370C", "cores": 2, "memory_gib": 24, "torch": "2.10.0", "precision": "bf16"},
        "corpus": {
            "name": "the documentation of 61 libraries",
            "documents": 31_204,
            "bytes": 14_800_000,
            "splits": {
                "train": {"documents": 28_100, "bytes": 13_300_000, "tokens": 3_410_000},
                "validation": {"documents": 1_550, "bytes": 741_000, "tokens": 190_000},
                "test": {"documents": 1_554, "bytes": 752_000, "tokens": 193_000},
            },
            "tokenizers": {
                "bpe": {"vocab_size": 8192, "bytes_per_token": 3.9},
                "wordpiece": {"vocab_size": 8192, "bytes_per_token": 4.12},
            },
        },
        "pretraining": {
            "gpt": {
                "recipe": "gpt-mini",
                "parameters": 5_300_000,
                "tokens": 4_200_000,
                "seconds": 182,
                "tokens_per_second": 23_100,
                "bits_per_byte": 1.87,
                "perplexity": 157.2,
                "baselines": {"xz": 2.31, "unigram": 3.02},
                "curve": curve("bits_per_byte"),
            },
            "bert": {
                "recipe": "bert-mini",
                "parameters": 4_900_000,
                "tokens": 5_100_000,
                "seconds": 190,
                "tokens_per_second": 26_900,
                "masked_accuracy": 0.312,
                "next_sentence_accuracy": 0.781,
                "baselines": {"unigram_masked_accuracy": 0.054, "chance_next_sentence": 0.5},
                "curve": curve("masked_accuracy"),
            },
        },
        "tasks": {
            "classification": {
                "labels": ["numpy", "torch"],
                "metrics": ["accuracy", "macro_f1"],
                "sizes": {"train": 6200, "test": 890},
                "arms": {
                    "bert": {"accuracy": 0.902, "macro_f1": 0.881, "seconds": 31, "low": {"accuracy": 0.883}}
                    | {"high": {"accuracy": 0.921}},
                    "bert_not_pretrained": {"accuracy": 0.811, "macro_f1": 0.762, "seconds": 31},
                    "gpt": {"accuracy": 0.874, "macro_f1": 0.846, "seconds": 33},
                    "tfidf_logistic_regression": {"accuracy": 0.895, "macro_f1": 0.884, "seconds": 2.1},
                    "majority": {"accuracy": 0.31, "macro_f1": 0.068},
                },
                "confusion": {"labels": ["numpy", "torch"], "counts": [[121, 6], [3, 230]]},
                "examples": [
                    {"text": "Return evenly spaced numbers.", "reference": "numpy", "bert": "numpy"},
                    {"text": "Move the tensor to a device. " * 30, "reference": "torch", "bert": "numpy"},
                ],
            },
            "retrieval": {
                "metrics": ["mrr", "ndcg@10", "recall@10"],
                "arms": {
                    "bert": {"mrr": 0.412, "ndcg@10": 0.446, "recall@10": 0.571},
                    "bert_not_pretrained": {"mrr": 0.231, "ndcg@10": 0.26, "recall@10": 0.37},
                    "bm25": {"mrr": 0.532, "ndcg@10": 0.571, "recall@10": 0.702},
                    "bert_with_bm25": {"mrr": 0.561, "ndcg@10": 0.602, "recall@10": 0.751},
                },
                "examples": [{"query": "Raise to a power.", "best": "numpy.power", "rank": 1}],
            },
            "summarization": {
                "metrics": ["rouge_1", "rouge_2", "rouge_l"],
                "arms": {
                    "gpt": {"rouge_1": 0.281, "rouge_2": 0.112, "rouge_l": 0.263},
                    "gpt_not_pretrained": {"rouge_1": 0.143, "rouge_2": 0.02, "rouge_l": 0.132},
                    "lead": {"rouge_1": 0.291, "rouge_2": 0.081, "rouge_l": 0.192},
                },
                "examples": [
                    {"passage": "A view.\n\n    axes", "reference": "Permute.", "gpt": "Return.", "lead": "A view."}
                ],
            },
            "generation": {
                "samples": [
                    {"temperature": 0.3, "prompt": "Return the", "text": " number of elements."},
                    {"temperature": 1.2, "prompt": "Return the", "text": "Return the widget's mode."},
                    {"temperature": 0.3, "prompt": "Raised when", "text": " the file is missing."},
                ]
            },
        },
        "side_by_side": [
            {"task": "classification", "metric": "accuracy", "gpt": 0.874, "bert": 0.902, "note": "tuned alike"},
            {"task": "generation", "metric": "repetition", "gpt": 0.08, "bert": 0.61, "note": "BERT fills masks"},
        ],
        "timings": {"corpus": 20.1, "tokenizers": 5, "pretrain_gpt": 182, "pretrain_bert": 190, "classification": 68},
        "missing": [{"task": "translation", "reason": "no pairs of sentences in two languages"}],
        "commands": ['bothways generate --model demo/gpt "Return the"'],
    }


class Page(HTMLParser):
    """A parsed page: its elements, its visible text, the text of each element with a class."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closed out of turn"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with every leaf and every free key changed."""
    if isinstance(value, dict):
        return {key: replaced(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, change) for inner in value]
    return change(value)


def paths(value: Any, *, depth: int) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield (key,)
            yield from ((key, *rest) for rest in paths(inner, depth=depth - 1))


def without(figures: dict[str, Any], path: tuple[str, ...], gone: str) -> dict[str, Any]:
    """A copy of ``figures`` in which the entry at ``path`` is absent or None."""
    changed = copy.deepcopy(figures)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if gone == "none":
        parent[path[-1]] = None
    else:
        del parent[path[-1]]
    return changed


def shown(figures: dict[str, Any], width: int = 160) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(summary_table(figures))
    return console.export_text()


def test_page_tells_the_whole_story() -> None:
    page = Page(render_html(sample()))
    for expected in (
        "trained from nothing on the documentation of 61 libraries",
        "9 min 21 s in all",
        "1.870 GPT better than xz -9e",
        "31.2 % BERT better than word frequencies alone",
        "behind the first sentence",
        "28,100 13.3 MB 3.41 M",
        "BERT, not pretrained",
        "TF-IDF + logistic regression baseline",
        "88.3 % – 92.1 %",
        "numpy right",
        "numpy wrong",
        "Rank of the right document 1",
        "temperature 0.3",
        "Pretraining BERT",
        "Translation no pairs of sentences in two languages",
        'bothways generate --model demo/gpt "Return the"',
        "made by bothways 0.1.0",
    ):
        assert expected in page.text


def test_json_holds_every_figure_and_unknown_keys(tmp_path: Path) -> None:
    figures = sample() | {"corpus": {"name": "网购评论"}, "extra": {"kept": [1, 2.5, None, True]}}
    page = write_report(figures, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    written = page.with_name("report.json").read_text("utf-8")
    assert json.loads(written) == figures
    assert "网购评论" in written
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    write_report(sample(), tmp_path)
    write_report({"bothways": "9.9"}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == {"bothways": "9.9"}
    assert "9.9" in (tmp_path / "report.html").read_text("utf-8")


def test_without_figures_each_section_says_so() -> None:
    text = Page(render_html({})).text
    for sentence in (
        "No figure has been measured yet.",
        "Nothing is recorded about the text.",
        "It was not pretrained in this run.",
        "No task was measured in this run.",
        "The two were not measured side by side in this run.",
        "No timings were recorded.",
    ):
        assert sentence in text
    assert "What is missing" not in text
    assert "No figure has been measured yet." in shown({})


@pytest.mark.parametrize("gone", ["absent", "none"])
def test_any_figure_may_be_missing(gone: str) -> None:
    figures = sample()
    parts = [{top: {key: inner}} for top in ("pretraining", "tasks") for key, inner in figures[top].items()]
    parts += [{top: inner} for top, inner in figures.items() if top not in ("pretraining", "tasks")]
    for part in parts:
        for path in paths(part, depth=4):
            changed = without(part, path, gone)
            Page(render_html(changed))
            shown(changed)


def test_a_fact_that_is_missing_is_left_out() -> None:
    figures = {"pretraining": {"gpt": {"recipe": "gpt-tiny"}}}
    text = Page(render_html(figures)).text
    assert "recipe gpt-tiny" in text
    assert "parameters" not in text


def test_examples_and_curves_may_lack_fields() -> None:
    figures = sample()
    figures["tasks"]["classification"]["examples"] = [{}, {"text": None}, {"bert": "numpy"}]
    figures["tasks"]["generation"]["samples"] = [{}, {"text": "alone"}, {"temperature": "high", "text": "x"}]
    figures["side_by_side"] = [{}, {"task": "cloze", "gpt": 0.5}]
    figures["missing"] = [{}, {"task": "retrieval"}]
    figures["pretraining"]["gpt"]["curve"] = [
        {"step": 1},
        {"loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 3, "loss": 1.0},
    ]
    text = Page(render_html(figures)).text
    assert "no temperature recorded" in text
    assert "temperature high" in text
    assert "steps" in text  # without tokens the curve goes by steps


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_the_figures_becomes_markup(payload: str) -> None:
    clean = Page(render_html(sample()))
    figures = replaced(sample(), lambda leaf: payload if isinstance(leaf, str) else leaf) | {"language": "en"}
    tasks = figures["tasks"]
    tasks["classification"]["arms"][payload] = {"accuracy": 0.5, "low": {payload: payload}, payload: payload}
    tasks["classification"]["metrics"] = ["accuracy", payload]
    tasks["classification"]["sizes"][payload] = 3
    tasks["classification"]["examples"][0][payload] = payload
    tasks[payload] = {"metrics": [payload], "arms": {"bert": {payload: 0.5}, payload: {payload: 0.4}}}
    figures["corpus"]["splits"][payload] = figures["corpus"]["tokenizers"][payload] = {}
    figures["pretraining"]["gpt"]["baselines"][payload] = 2.0
    figures["timings"][payload] = 3.0
    html = render_html(figures)
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements} | {"h4"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert names <= {name for _, attributes in clean.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert page.text.count(" ".join(payload.split())) > 30
    assert "49" not in page.text.replace("8.49", "") or "{{ 7 * 7 }}" not in payload
    shown(figures)


def test_page_is_self_contained_and_its_policy_strict() -> None:
    html = render_html(sample())
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "foreignobject"}
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in page.style
    assert "url(" not in page.style
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    references = [
        value for _, attributes in page.elements for name in ("href", "src") if (value := attributes.get(name))
    ]
    assert references
    assert all(reference.startswith("#") for reference in references)
    policy = next(
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_ids_are_unique_and_every_reference_has_its_target() -> None:
    page = Page(render_html(sample()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    values = [value for _, attributes in page.elements for value in attributes.values() if value]
    referred = {name for value in values for name in re.findall(r"^(?:url\()?#([^)]+)\)?$", value)}
    colors = {name for name in referred if re.fullmatch("[0-9a-f]{6}", name)}
    assert referred - colors <= set(ids)
    assert {"glance", "tasks", "next"} <= referred


def test_light_dark_print_and_small_screens_are_provided_for() -> None:
    page = Page(render_html(sample()))
    assert "@media screen and (prefers-color-scheme: dark)" in page.style
    assert "@media print" in page.style
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    drawn = {
        value for tag, attributes in page.elements for name in ("fill", "stroke") if (value := attributes.get(name))
    }
    recolored = set(re.findall(r'svg \[fill="(#[0-9a-f]{6})"\]', page.style))
    assert drawn - {"none"} <= recolored


def test_chinese_page_has_no_english_sentence_left() -> None:
    figures = replaced(sample(), lambda leaf: "文本" if isinstance(leaf, str) else leaf) | {"language": "zh"}
    html = render_html(figures)
    page = Page(html)
    assert ("html", {"lang": "zh-Hans"}) in page.elements
    assert "同一份文本，两种读法" in page.text
    assert ">每字节比特数</text>" in html  # drawn as text, by the reader's fonts
    left = set(re.findall(r"\b[a-z]{3,}\b", page.text))
    assert left == {"bothways", "report", "json"}


def test_translations_are_complete_and_keep_their_placeholders() -> None:
    folder = Path(wording.__file__).parent
    template = (folder / "report.html").read_text("utf-8")
    said = set(re.findall(r'say\("([^"]+)"', template))
    choices = " ".join(re.findall(r"say\((\{.+?\})\[", template))
    said |= {text for text in re.findall('"([^"]+)"', choices) if " " in text}
    for module in ("charts", "report", "wording"):
        for node in ast.walk(ast.parse((folder / f"{module}.py").read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("self", "self._words", "words"):
                said |= {
                    inner.value for argument in node.args for inner in [argument] if isinstance(inner, ast.Constant)
                }
    for table in (wording.TASKS, wording.METRICS):
        said |= {text for pair in table.values() for text in pair}
    for names in (wording.ARMS, wording.STAGES, wording.FIELDS):
        said |= set(names.values())
    international = {"BERT", "GPT", "BM25", "xz -9e", "MRR", "nDCG@10", "ROUGE-1", "ROUGE-2", "ROUGE-L"}
    international |= {"Distinct-2"}
    assert said - set(CHINESE) == international
    for english, chinese in CHINESE.items():
        assert set(re.findall(r"\{(\w+)\}", english)) == set(re.findall(r"\{(\w+)\}", chinese)), english


def test_best_of_each_column_is_bold_and_baselines_look_different() -> None:
    html = render_html(sample())
    rows = re.findall(r'<tr class="(\w+) (\w+)">(.*?)</tr>', html, re.S)
    kinds = {re.sub(r"<[^>]+>", "", row).split("\n")[1]: kind for kind, _, row in rows}
    assert kinds["BERT"] == "model"
    assert kinds["BERT, not pretrained"] == "twin"
    assert kinds["BM25 baseline"] == "baseline"
    assert re.findall(r'<td class="number best">([\d.]+ ?%?)', html) == [
        *("90.2 %", "88.4 %"),
        *("0.561", "0.602", "75.1 %"),
        *("0.112", "0.263", "0.291"),
    ]


def test_long_text_is_folded_and_still_whole() -> None:
    html = render_html(sample())
    assert "all 870 characters" in html
    assert "Move the tensor to a device. " * 30 in html


def test_prompt_is_shown_once() -> None:
    html = render_html(sample())
    assert "<b>Return the</b> widget&#39;s mode." in html
    assert "<b>Return the</b> number of elements." in html


def test_headlines_choose_model_yardstick_and_verdict() -> None:
    found = {(headline.task, headline.metric): headline for headline in headlines(sample())}
    assert list(found) == [
        ("pretraining", "bits_per_byte"),
        ("pretraining", "masked_accuracy"),
        ("pretraining", "next_sentence_accuracy"),
        ("classification", "accuracy"),
        ("retrieval", "mrr"),
        ("summarization", "rouge_1"),
    ]
    bits = found["pretraining", "bits_per_byte"]
    assert (bits.best_yardstick, bits.verdict) == ("xz", "better")  # fewer bits are better
    assert found["pretraining", "masked_accuracy"].yardsticks == {"unigram": 0.054}
    assert found["pretraining", "next_sentence_accuracy"].yardsticks == {"chance": 0.5}
    classification = found["classification", "accuracy"]
    assert (classification.model, classification.twin) == ("bert", 0.811)
    assert classification.best_yardstick == "tfidf_logistic_regression"
    retrieval = found["retrieval", "mrr"]
    assert (retrieval.model, retrieval.twin, retrieval.verdict) == ("bert_with_bm25", None, "better")
    assert found["summarization", "rouge_1"].verdict == "behind"


@pytest.mark.parametrize(("value", "verdict"), [(2.4, "behind"), (2.31, "level"), (2.3, "better")])
def test_verdict_on_a_measure_where_less_is_better(value: float, verdict: str) -> None:
    headline = pretraining_headline(
        {"bits_per_byte": value, "baselines": {"xz": 2.31, "unigram": 5}}, "gpt", "bits_per_byte"
    )
    assert headline is not None
    assert headline.verdict == verdict


def test_metrics_are_read_off_the_arms_where_none_are_named() -> None:
    task = {"arms": {"bert": {"accuracy": 0.5, "seconds": 3, "low": {"accuracy": 0.4}}, "majority": {"f1": 0.1}}}
    assert metrics(task) == ["accuracy", "f1"]


def test_best_is_shared_and_never_a_lone_or_unmeasured_figure() -> None:
    task = {
        "metrics": ["a", "b", "loss"],
        "arms": {"bert": {"a": 0.5, "b": 1, "loss": 2}, "gpt": {"a": 0.5, "loss": 1}},
    }
    task["arms"]["lead"] = {"a": "NaN", "loss": None}
    assert {arm.name: set(arm.best) for arm in arms(task)} == {"bert": {"a"}, "gpt": {"a", "loss"}, "lead": set()}


@pytest.mark.parametrize(
    ("side", "ahead"),
    [
        ({"metric": "accuracy", "gpt": 0.1, "bert": 0.2}, "bert"),
        ({"metric": "perplexity", "gpt": 10, "bert": 20}, "gpt"),
        ({"metric": "accuracy", "gpt": 0.2, "bert": 0.2}, None),
        ({"metric": "accuracy", "gpt": 0.2}, None),
    ],
)
def test_winner_of_a_comparison(side: dict[str, Any], ahead: str | None) -> None:
    assert winner(side) == ahead


def test_numbers_that_json_cannot_hold_are_written_as_text(tmp_path: Path) -> None:
    figures = sample()
    figures["pretraining"]["gpt"] |= {"perplexity": math.inf, "bits_per_byte": math.nan}
    figures["tasks"]["classification"]["arms"]["gpt"]["accuracy"] = -math.inf
    html = write_report(figures, tmp_path).read_text("utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    gpt = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=refuse)["pretraining"]["gpt"]
    assert (gpt["perplexity"], gpt["bits_per_byte"]) == ("Infinity", "NaN")
    assert float(gpt["perplexity"]) == math.inf
    assert "<dd>NaN</dd>" in html  # shown, not hidden
    assert "-Infinity" in html


def test_numpy_paths_and_tuples_become_plain_json(tmp_path: Path) -> None:
    figures = sample()
    figures["seed"] = np.int64(3)
    figures["tasks"]["classification"]["confusion"]["counts"] = np.array([[121, 6], [3, 230]])
    figures["tasks"]["classification"]["arms"]["bert"]["accuracy"] = np.float32(0.75)
    figures["folder"] = Path("demo") / "gpt"
    figures["pair"] = (1, 2)
    html = write_report(figures, tmp_path).read_text("utf-8")
    read = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (read["seed"], read["folder"], read["pair"]) == (3, str(Path("demo") / "gpt"), [1, 2])
    assert read["tasks"]["classification"]["confusion"]["counts"] == [[121, 6], [3, 230]]
    assert "75.0 %" in html


def test_text_that_no_file_format_likes(tmp_path: Path) -> None:
    nasty = "a\x00b\x1b[31mc\ud800d\u202ee\ufffff$x_1$"
    figures = replaced(sample(), lambda leaf: nasty if isinstance(leaf, str) else leaf) | {"language": "en"}
    figures["tasks"]["classification"]["confusion"]["labels"] = [nasty, nasty + "2"]
    figures["tasks"][nasty] = {"metrics": [nasty], "arms": {nasty: {nasty: 1.0}, "bert": {nasty: 2.0}}}
    html = write_report(figures, tmp_path).read_text("utf-8")
    for drawn in re.findall("<svg.*?</svg>", html, re.S):
        ElementTree.fromstring(drawn)
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == figures
    assert "\x1b[31m" not in shown(figures)


def test_terminal_table() -> None:
    text = shown(sample())
    assert re.search(r"Pretraining +│ Bits per byte +│ GPT +│ +1\.870 ▲ │ +│ xz -9e 2\.310", text)
    assert re.search(
        r"Classification +│ Accuracy +│ BERT +│ 90\.2 % ▲ │ +81\.1 % │ TF-IDF \+ logistic regression 89\.5 %", text
    )
    assert re.search(r"Summarization +│ ROUGE-1 +│ GPT +│ +0\.281 ▼", text)
    assert "missing: Translation: no pairs of sentences in two languages" in text


def test_terminal_table_takes_no_markup_and_speaks_chinese() -> None:
    figures = sample() | {"language": "zh", "missing": [{"task": "[red]检索[/red]", "reason": "[link=x]没有[/link]"}]}
    text = shown(figures)
    assert "缺少: [red]检索[/red]: [link=x]没有[/link]" in text
    assert re.search("分类 +│ 准确率 +│ BERT", text)


def test_same_figures_same_bytes_whatever_the_users_matplotlib_settings() -> None:
    first = render_html(sample())
    with matplotlib.rc_context(
        {"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path", "text.parse_math": True}
    ):
        before = dict(matplotlib.rcParams)
        assert render_html(sample()) == first
        assert dict(matplotlib.rcParams) == before


def test_drawing_never_loads_pyplot() -> None:
    code = "import sys; from bothways.evaluation.report import render_html; render_html({'timings': {'a': 1}})"
    code += "; print('matplotlib.pyplot' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


def test_labels_in_charts_are_text_and_never_formulas(recwarn: pytest.WarningsRecorder) -> None:
    drawn = bar_chart([Bar(label="$\\frac{$ 情感 <b>", value=1.0, text="1 %", color="gpt")], title="标题 & <b>")
    root = ElementTree.fromstring(drawn)
    assert [element.text for element in root.iter("text")] == ["$\\frac{$ 情感 <b>", "1 %"]
    assert root.get("aria-label") == "标题 & <b>"
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def rectangles(svg: str) -> list[float]:
    """The widths of the filled boxes of a chart."""
    found = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if path.get("fill", "none") != "none" and path.get("d", "").endswith("z"):
            xs = [float(x) for x in re.findall(r"[ML] ([\d.-]+) ", path.get("d", ""))]
            found.append(max(xs) - min(xs))
    return found


def test_bars_are_as_long_as_their_values_and_whiskers_are_drawn() -> None:
    bars = [Bar(label="a", value=0.8, text="", color="gpt"), Bar(label="b", value=0.2, text="", color="baseline")]
    long, short = rectangles(bar_chart(bars, title="t"))
    assert long == pytest.approx(4 * short, rel=1e-3)
    plain = bar_chart(bars, title="t").count("<path")
    bars[0] = Bar(label="a", value=0.8, text="", color="gpt", low=0.7, high=0.9)
    assert bar_chart(bars, title="t").count("<path") == plain + 3


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_bar_of_nought_or_less_is_drawn(value: float) -> None:
    ElementTree.fromstring(bar_chart([Bar(label="a", value=value, text="x", color="bert")], title="t"))


def test_yardsticks_are_dashed_and_named() -> None:
    line = Line(label="l", points=[(0, 3.0), (1, 2.0)], color="gpt")
    svg = line_chart(Panel(title="t", x_label="x", lines=[line], yardsticks={"xz 2.31": 2.31, "unigram 2.32": 2.32}))
    assert svg.count("stroke-dasharray") == 2
    assert ">xz 2.31</text>" in svg
    assert ">unigram 2.32</text>" in svg


@pytest.mark.parametrize(("low", "high"), [(2.0012, 2.0049), (640.1, 641.9), (1234.0, 1239.0), (0.0, 1e7), (2.0, 2.0)])
def test_ticks_beside_each_other_have_different_labels(low: float, high: float) -> None:
    line = Line(label="l", points=[(low, low), (high, high)], color="gpt", dots=False)
    svg = line_chart(Panel(title="t", x_label="x", lines=[line]))
    labels = [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]
    ticks = [label for label in labels if label[:1].isdigit() or label[:1] == "\N{MINUS SIGN}"]
    assert len(ticks) >= 6
    assert all(ticks.count(tick) <= 2 for tick in ticks), "each at most once on either axis"
    assert not any(len(tick) > 7 for tick in ticks)


def test_confusion_matrix_shows_counts_and_labels() -> None:
    svg = confusion_matrix(["正面", "负面"], [[412, 38], [0, 399]], title="t")
    texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
    assert sorted(text for text in texts if text) == sorted(["正面", "正面", "负面", "负面", "412", "38", "399"])
    ElementTree.fromstring(confusion_matrix([f"label {i}" * 9 for i in range(40)], np.eye(40).tolist(), title="t"))


@pytest.mark.parametrize(
    "confusion", [{}, {"labels": ["a"], "counts": []}, {"labels": ["a", "b"], "counts": [[1, 2], [3]]}]
)
def test_counts_that_are_not_square_draw_no_matrix(confusion: dict[str, Any]) -> None:
    figures = sample()
    figures["tasks"]["classification"]["confusion"] = confusion
    assert "Which label was taken for which" not in render_html(figures)


def metrics_lines(steps: range) -> list[str]:
    return [json.dumps({"step": step, "tokens": step * 4096, "loss": 9 - step / 100}) for step in steps]


def test_plot_run_draws_loss_and_evaluations(tmp_path: Path) -> None:
    lines = metrics_lines(range(10, 510, 10))
    lines.append(json.dumps({"step": 50, "validation": {"loss": 8.0, "bits_per_byte": 2.5, "name": "x"}}))
    lines.append(json.dumps({"step": 100, "validation": {"loss": 7.0, "bits_per_byte": 2.1, "masked_accuracy": None}}))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    assert plot_run(tmp_path, pictures=["loss.svg"])
    svg = (tmp_path / "loss.svg").read_text("utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Loss", "Bits per byte", "training", "smoothed", "validation", "step"} <= texts
    assert "Masked accuracy" not in texts
    assert "prefers-color-scheme" in svg


def test_plot_run_takes_the_last_word_on_a_step_and_notes_torn_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = [*metrics_lines(range(10, 60, 10)), '{"step": 60, "lo', *metrics_lines(range(40, 90, 10)), "[1]"]
    torn, whole = tmp_path / "torn", tmp_path / "whole"
    for folder, lines in ((torn, resumed), (whole, metrics_lines(range(10, 90, 10)))):
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("\n".join(lines), "utf-8")
    with display():
        assert plot_run(torn)
    assert plot_run(whole)
    assert "metrics.jsonl, line 6: not a record" in capsys.readouterr().err.replace("\n", "")
    assert (torn / "loss.svg").read_bytes() == (whole / "loss.svg").read_bytes()


@pytest.mark.parametrize("content", ["", '{"step": 1, "loss": NaN}', '{"loss": 1}', '{"step": 1, "validation": null}'])
def test_plot_run_draws_nothing_where_there_is_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content, "utf-8")
    assert not plot_run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_plot_run_draws_nothing_without_records(tmp_path: Path) -> None:
    assert not plot_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_as_people_read_them() -> None:
    words = Wording("en")
    assert [words.number("accuracy", value) for value in (0.9017, 1, 0, 91.2, None, "NaN")] == [
        *("90.2 %", "100.0 %", "0.0 %", "91.2", "—", "NaN")
    ]
    assert [words.number("mrr", 0.5), words.number("perplexity", 157.21), words.number("x", -3.14159)] == [
        "0.500",
        "157",
        "-3.142",
    ]
    assert [compact(value) for value in (0, 0.25, 640, 999.7, 4096, 999_999, 12_300_000, 2e12, None, True)] == [
        *("0", "0.25", "640", "1,000", "4.1 k", "1,000 k", "12.3 M", "2,000 G", "—", "True")
    ]
    assert [size(value) for value in (12, 4_200_000, None)] == ["12 B", "4.2 MB", "—"]
    assert [count(value) for value in (28_100, 3, None)] == ["28,100", "3", "—"]
    assert [words.duration(value) for value in (0.012, 9.4, 59.6, 61, 3725, None)] == [
        *("0.012 s", "9.4 s", "1 min 0 s", "1 min 1 s", "1 h 2 min", "—")
    ]
    assert Wording("zh").duration(561) == "9 分 21 秒"
    assert words.task("sentence_order") == "Sentence order"
    assert words.arm("my_own_baseline") == "my own baseline"
