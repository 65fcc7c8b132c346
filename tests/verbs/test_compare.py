"""Runs side by side: only the settings that differ, all that came of them, and one picture."""

import json
from xml.etree import ElementTree

import pytest

from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.recipes.recipe import recipe
from bothways.training.tracking import Tracker
from bothways.verbs.compare import compare


@pytest.fixture
def make(tmp_path):
    """Return a maker of run folders."""

    def make(name, experiment, *records):
        (tmp_path / name).mkdir(parents=True)
        experiment.save(tmp_path / name / "experiment.json")
        with Tracker(tmp_path / name) as tracker:
            for step, values in records:
                tracker.record(step, values)
        return tmp_path / name

    return make


def gpt(*settings):
    return recipe("gpt-tiny").override(settings)


def validation(step, bits):
    return step, {"validation": {"loss": 2 * bits, "bits_per_byte": bits}}


@pytest.fixture
def two(make):
    first = make(
        "a/run",
        gpt("training.steps=9", "optimizer.weight_decay=0.2"),
        (9, {"tokens": 900, "seconds": 3.0, "loss": 2.0}),
        validation(8, 1.5),
        validation(9, 2.5),
    )
    second = make(
        "b/run",
        gpt("training.steps=9", "seed=3"),
        (4, {"tokens": 400, "seconds": 8.0, "loss": 2.0}),
        (4, {"warning": {"name": "plateau", "text": "It stays."}}),
        validation(3, 1.75),
        validation(4, 1.25),
    )
    return first, second


def test_only_the_settings_that_differ_are_told(two):
    found = compare(*two)
    assert {line.name: line.values for line in found.settings} == {"optimizer.weight_decay": (0.2, 0.1), "seed": (0, 3)}
    assert found.same == len(gpt().flat()) - 2 + 2  # with recipe and data
    assert [run.name for run in found.runs] == ["a/run", "b/run"]


def test_figures_of_all_runs_stand_beside_each_other(two):
    figures = {line.name: line.values for line in compare(*two).figures}
    assert figures["steps"] == (9, 4)
    assert figures["tokens_per_second"] == (300.0, 50.0)
    assert figures["validation bits_per_byte"] == (2.5, 1.25)
    assert figures["best bits_per_byte"] == (1.5, 1.25)
    assert figures["warnings"] == (None, "plateau")
    assert "parameters" not in figures, "nothing is known of it"


def test_the_table_reads_as_people_do(two):
    rows = {line[0]: line[1:] for line in compare(*two).rows()}
    assert rows[""] == ("a/run", "b/run")
    assert rows["optimizer.weight_decay"] == ("0.2", "0.1")
    assert rows["seconds"] == ("3 s", "8 s")
    assert rows["tokens per second"] == ("300", "50")
    assert rows["warnings"] == ("", "plateau")


def test_more_than_two_of_every_kind_can_be_compared(make, two):
    sorter = make("sorter", Finetuning(task="classification"), (1, {"validation": {"accuracy": 0.5}}))
    found = compare(*two, sorter)
    settings = {line.name: line.values for line in found.settings}
    assert settings["task"] == (None, None, "classification")
    assert settings["model.hidden_size"] == (64, 64, None)
    assert {line.name: line.values for line in found.figures}["best accuracy"] == (None, None, 0.5)
    assert {line[0]: line[1:] for line in found.rows()}["task"] == ("—", "—", "classification")


def test_equal_numbers_of_another_kind_differ(make):
    whole, share = gpt(), gpt()
    folders = [make("one", whole), make("two", share)]
    values = json.loads((folders[1] / "experiment.json").read_text())
    values["training"]["learning_rate"] = True
    values["training"]["warmup_share"] = 1
    (folders[1] / "experiment.json").write_text(json.dumps(values))
    assert {line.name for line in compare(*folders).settings} == {"training.learning_rate", "training.warmup_share"}


def test_it_is_plain_and_drawn_where_that_is_asked_for(two, tmp_path):
    found = compare(*two, out=tmp_path / "both.svg", x="steps")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    assert found.to_dict()["out"] == str(tmp_path / "both.svg")
    root = ElementTree.fromstring((tmp_path / "both.svg").read_bytes())
    said = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a/run", "b/run", "Bits per byte in validation"} <= said
    compare(*two, out=tmp_path / "both.html")
    assert "optimizer.weight_decay" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_refused(two, tmp_path):
    with pytest.raises(UserError, match="two runs or more"):
        compare(two[0])
    with pytest.raises(UserError, match="is no run: it has no experiment"):
        compare(two[0], tmp_path)
    with pytest.raises(UserError, match="legal: flops, seconds, steps, tokens"):
        compare(*two, x="epochs")
    (two[1] / "experiment.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        compare(*two)
