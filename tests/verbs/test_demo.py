"""The demonstration on a small corpus, nothing of it replaced: stopped twice, finished, looked at, run again."""

import contextlib
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bothways.checkpoints.checkpoint import load
from bothways.cli import command, main
from bothways.errors import UserError
from bothways.evaluation.report import render_html
from bothways.training.interruption import Interrupted
from bothways.verbs import demo as demo_verb
from bothways.verbs.demo import demo
from bothways.verbs.evaluate import evaluate, predict

MINUTES = 0.05
TIMES = ("created", "timings", "seconds")  # figures that differ from one run to the next


def interrupt(texts, out, when):
    """Start the demonstration as a user does, press Ctrl-C as soon as a file is there, and return what was said."""
    words = ["demo", "--text", str(texts), "--minutes", str(MINUTES), "--out", str(out), "--no-open"]
    run = subprocess.Popen(
        [sys.executable, "-m", "bothways", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not list(out.glob(when)) and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    said, errors = run.communicate(timeout=120)
    return run.returncode, said, errors


@pytest.fixture(scope="module")
def made(texts, tmp_path_factory):
    """Return the folder of a demonstration that was stopped twice, its figures, and what the stopped ones said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    stopped = [interrupt(texts, out, when) for when in ("stages/corpus.json", "gpt/metrics.jsonl")]
    return out, demo(text=[texts], minutes=MINUTES, out=out, open_page=False), stopped


@pytest.fixture
def out(made):
    return made[0]


@pytest.fixture
def figures(made):
    return made[1]


def numbers(values):
    """Yield every number in nested plain values."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from numbers(value)
    elif isinstance(values, int | float):
        yield values


def without_times(values):
    if isinstance(values, dict):
        return {key: without_times(value) for key, value in values.items() if "second" not in key and key not in TIMES}
    return [without_times(value) for value in values] if isinstance(values, list) else values


# Stopping


def test_ctrl_c_ends_it_with_a_sentence_and_keeps_what_was_done(made):
    out, _, stopped = made
    for code, said, errors in stopped:
        assert code == 130, errors
        assert said == ""
        assert "Traceback" not in errors
        assert errors.splitlines()[-1].startswith("Error: ")
    assert "· corpus" in stopped[0][2]
    assert "· corpus" not in stopped[1][2], "it was done before the first Ctrl-C"
    assert (out / "report.html").exists()


def test_an_interrupted_training_tells_what_goes_on(texts, tmp_path, monkeypatch):
    def interrupted(_):
        raise Interrupted(signal.SIGTERM, "stopped after step 3 of 10; somewhere/gpt goes on with --resume")

    monkeypatch.setattr(demo_verb._Demonstration, "run", interrupted)
    with pytest.raises(Interrupted) as caught:
        demo(text=[texts], out=tmp_path, open_page=False)
    assert str(caught.value) == "stopped after step 3 of 10; the same command goes on from there"
    assert caught.value.exit_code == 143


# What it finds


def test_the_report_has_every_figure_as_json(out, figures):
    stored = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(figures))
    assert all(map(math.isfinite, numbers(stored)))
    assert stored["minutes"] == MINUTES
    assert stored["language"] == "en"
    assert stored["corpus"]["documents"] == 260
    assert stored["corpus"]["tokenizers"].keys() == {"bpe", "wordpiece"}
    assert {"corpus", "plan", "pretrain_gpt", "classification", "generation"} <= stored["timings"].keys()
    assert stored["seconds"] == pytest.approx(sum(stored["timings"].values()), abs=0.1)


def test_both_models_are_measured_beside_their_yardsticks(figures):
    gpt, bert = figures["pretraining"]["gpt"], figures["pretraining"]["bert"]
    for model in (gpt, bert):
        assert model["parameters"] > 100_000
        assert model["tokens_per_second"] > 0
        assert any("loss" in point for point in model["curve"])
    assert gpt["bits_per_byte"] > 0
    assert gpt["perplexity"] > 1
    assert gpt["baselines"].keys() == {"xz", "unigram"}
    assert 0 <= bert["masked_accuracy"] <= 1
    assert 0 <= bert["next_sentence_accuracy"] <= 1
    assert bert["baselines"].keys() == {"unigram_masked_accuracy", "chance_next_sentence"}
    assert 0.5 <= bert["baselines"]["chance_next_sentence"] < 1
    assert any("bits_per_byte" in point for point in gpt["curve"])
    assert any("masked_accuracy" in point for point in bert["curve"])


def test_a_few_steps_already_teach_more_than_nothing(figures):
    gpt = figures["pretraining"]["gpt"]
    losses = [point["loss"] for point in gpt["curve"] if "loss" in point]
    assert losses[-1] < losses[0]
    assert gpt["bits_per_byte"] < 8 * gpt["baselines"]["unigram"]


ARMS = {
    "classification": ("bert", "bert_not_pretrained", "gpt", "tfidf_logistic_regression", "majority"),
    "retrieval": ("bert", "bert_not_pretrained", "gpt", "bm25", "bert_with_bm25"),
}
METRICS = {"classification": ["accuracy", "macro_f1"], "retrieval": ["ndcg@10", "mrr", "recall@10"]}


@pytest.mark.parametrize("name", ARMS)
def test_every_task_has_its_arms_with_intervals(figures, name):
    task = figures["tasks"][name]
    assert task["metrics"] == METRICS[name]
    assert set(task["arms"]) == set(ARMS[name])
    for arm in task["arms"].values():
        for metric in task["metrics"]:
            assert 0 <= arm["low"][metric] <= arm[metric] <= arm["high"][metric] <= 1
    assert task["sizes"]["test"] >= 40
    assert len(task["examples"]) == 6


def test_the_classes_are_the_folders_and_the_confusion_counts_all_of_the_test(figures):
    task = figures["tasks"]["classification"]
    assert task["labels"] == ["texts/land", "texts/sea"]
    assert sum(map(sum, task["confusion"]["counts"])) == task["sizes"]["test"]
    right = sum(row[at] for at, row in enumerate(task["confusion"]["counts"]))
    assert right / task["sizes"]["test"] == pytest.approx(task["arms"]["bert"]["accuracy"])
    assert task["arms"]["tfidf_logistic_regression"]["accuracy"] > 0.9, "the folders can be told apart by their words"


def test_samples_are_written_at_several_temperatures(figures):
    samples = figures["tasks"]["generation"]["samples"]
    assert len({sample["temperature"] for sample in samples}) == 3
    assert len({sample["prompt"] for sample in samples}) == len(samples) / 3


def test_gpt_and_bert_stand_side_by_side(figures):
    rows = {row["task"]: row for row in figures["side_by_side"]}
    assert rows.keys() == {"classification", "retrieval", "cloze"}
    assert all(0 <= row[family] <= 1 and row["note"] for row in rows.values() for family in ("gpt", "bert"))


def test_what_there_is_no_data_for_is_said(figures):
    assert figures["missing"] == [{"task": "summarization", "reason": "plain text comes without summaries"}]


def test_the_plan_is_kept(out, figures):
    plan = json.loads((out / "plan.json").read_text())
    assert plan == figures["plan"]
    for family in ("gpt", "bert"):
        run = json.loads((out / family / "experiment.json").read_text())
        assert run["training"]["steps"] == plan[f"{family}_steps"]


class Page(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("src", "href", "srcset", "data") and not (value or "").startswith("#")
            ):
                self.found.append((tag, name, value))
        if tag in ("script", "iframe", "link", "object", "embed"):
            self.found.append((tag, "", ""))


def test_the_page_needs_nothing_but_itself(out, figures):
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.found == []
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    for shown in (f"{figures['pretraining']['gpt']['bits_per_byte']:.3f}", "TF-IDF", "BM25", "xz -9e", "texts/land"):
        assert shown in html


# What it leaves


def test_every_command_that_it_shows_can_be_typed(figures):
    assert len(figures["commands"]) == 4
    for line in figures["commands"]:
        program, verb, *words = shlex.split(line)
        assert program == "bothways"
        assert command.commands[verb].make_context(verb, words).params


def test_the_first_command_writes_on(figures):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        code = main([*shlex.split(figures["commands"][0])[1:], "--max-new-tokens", "3"])
    assert code == 0
    assert printed.getvalue().startswith(figures["tasks"]["generation"]["samples"][0]["prompt"])


def test_its_models_are_runs_like_any_other(out, figures, tmp_path):
    lines = [
        json.dumps({"text": each["text"], "label": each["reference"]})
        for each in figures["tasks"]["classification"]["examples"]
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(lines), encoding="utf-8")
    scores = evaluate("classification", model=out / "classification-bert", test=tmp_path / "some.jsonl")
    assert scores.n == 6
    [made] = predict("classification", model=out / "classification-gpt", examples=[{"text": "Ba ko."}])
    assert made["label"] in figures["tasks"]["classification"]["labels"]
    assert load(out / "gpt").model.num_parameters() == figures["pretraining"]["gpt"]["parameters"]


# Again


def stamps(out):
    files = [*out.glob("stages/*.json"), *out.glob("*/checkpoints/*/model.safetensors"), out / "plan.json"]
    return {file: file.stat().st_mtime_ns for file in files}


def test_again_it_does_nothing_over_and_finds_the_same(texts, out, figures):
    before, start = stamps(out), time.process_time()
    again = demo(text=[texts], minutes=MINUTES, out=out, open_page=False)
    assert time.process_time() - start < 2
    assert stamps(out) == before
    assert again | {"created": ""} == figures | {"created": ""}


def test_the_text_may_have_gone_by_then(texts, out, figures, monkeypatch, tmp_path):
    monkeypatch.chdir(texts.parent)
    moved = texts.rename(tmp_path / "elsewhere")
    try:
        again = demo(text=[texts], minutes=MINUTES, out=out, open_page=False)
    finally:
        moved.rename(texts)
    assert without_times(again) == without_times(figures)


def test_a_stage_that_was_lost_is_done_again_from_the_runs_that_are_there(texts, out, figures, tmp_path):
    copy = shutil.copytree(out, tmp_path / "copy")
    for name in ("tokenizer_bert", "classification", "cloze"):
        (copy / "stages" / f"{name}.json").unlink()
    (copy / "report.json").unlink()
    kept = stamps(copy)
    again = demo(text=[texts], minutes=MINUTES, out=copy, open_page=False)
    assert {file: stamp for file, stamp in stamps(copy).items() if file in kept} == kept
    assert without_times(again["tasks"]) == without_times(figures["tasks"])


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"minutes": 0.06}, "--minutes 0.05, not 0.06"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"language": "zh"}, "--language en, not zh"),
        ({"text": []}, "texts, not (none)"),
        ({"seed": 2, "minutes": 1}, "--minutes 0.05, not 1 and --seed 0, not 2"),
    ],
)
def test_with_other_arguments_it_does_not_go_on(texts, out, change, difference):
    before = stamps(out)
    with pytest.raises(UserError) as caught:
        demo(**{"text": [texts], "minutes": MINUTES, "out": out, "open_page": False, **change})
    assert f"{str(out)!r} holds a demonstration with " in str(caught.value)
    assert difference in str(caught.value)
    assert "name another --out or remove it" in str(caught.value)
    assert stamps(out) == before


def test_a_folder_with_something_else_in_it_is_left_alone(texts, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not empty"):
        demo(text=[texts], out=tmp_path, open_page=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_too_little_text_leaves_the_folder_free(tmp_path):
    (tmp_path / "few.txt").write_text("one two three")
    for _ in range(2):
        with pytest.raises(UserError, match="at least 100,000 characters"):
            demo(text=[tmp_path / "few.txt"], out=tmp_path / "out", open_page=False)


@pytest.mark.parametrize("change", [{"minutes": 0}, {"minutes": math.nan}, {"seed": -1}, {"seed": 2**32}])
def test_numbers_that_make_no_sense_are_refused_first(texts, tmp_path, change):
    with pytest.raises(UserError, match=f"--{next(iter(change))} must be"):
        demo(text=[texts], out=tmp_path / "out", open_page=False, **change)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_same_plan_gives_the_same_figures_elsewhere(texts, out, figures, tmp_path):
    for name in ("request.json", "plan.json"):
        shutil.copy(out / name, tmp_path)
    again = demo(text=[texts], minutes=MINUTES, out=tmp_path, open_page=False)
    for part in ("corpus", "plan", "pretraining", "tasks", "side_by_side", "missing"):
        assert without_times(again[part]) == without_times(figures[part]), part


# The page


@pytest.mark.parametrize(
    ("platform", "variables", "opened"),
    [("linux", {}, 0), ("linux", {"DISPLAY": ":0"}, 1), ("linux", {"WAYLAND_DISPLAY": "w"}, 1), ("darwin", {}, 1)],
)
def test_the_page_is_opened_where_there_is_a_desktop(monkeypatch, tmp_path, platform, variables, opened):
    pages = []
    monkeypatch.setattr(demo_verb.webbrowser, "open", pages.append)
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    demo_verb.show(Path(os.path.relpath(tmp_path)) / "a page.html")
    assert pages == [f"file://{tmp_path}/a%20page.html"] * opened


def test_a_chinese_report_says_its_remarks_in_chinese(figures):
    html = render_html(figures | {"language": "zh"})
    remarks = [row["note"] for row in figures["side_by_side"]] + [gap["reason"] for gap in figures["missing"]]
    for english in [*remarks, "Pretraining GPT", "Training GPT&#39;s tokenizer", "Measuring the machine"]:
        assert english not in html
