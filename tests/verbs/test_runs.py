"""All runs below a folder: what is known of each, whatever state it is in, and one picture of them."""

import json
import os
import random
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bothways.errors import UserError
from bothways.evaluation.run_summary import curve
from bothways.progress import display
from bothways.recipes.recipe import recipe
from bothways.training.tracking import Tracker
from bothways.verbs.finetune import finetune
from bothways.verbs.folders import check_free, locked
from bothways.verbs.prepare import prepare
from bothways.verbs.pretrain import pretrain
from bothways.verbs.runs import runs

SMALL = [
    *("model.hidden_size=16", "model.num_hidden_layers=1", "model.num_attention_heads=2", "model.intermediate_size=32"),
    *("model.max_position_embeddings=64", "training.row_length=64", "training.batch_tokens=256"),
    *("training.micro_batch_tokens=128", "training.steps=6"),
]
NOUNS = ("river", "mountain", "engine", "kernel", "garden", "tensor", "window", "letter", "signal", "forest", "island")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with a corpus, a small GPT and its copy, and a sorter made of it."""
    folder, rng = tmp_path_factory.mktemp("work"), random.Random(0)
    (folder / "texts").mkdir()
    for number in range(30):
        sentences = [f"The {rng.choice(NOUNS)} moves the {rng.choice(NOUNS)} {rng.randint(0, 9)}." for _ in range(12)]
        (folder / "texts" / f"{number:02}.txt").write_text(" ".join(sentences), encoding="utf-8")
    examples = [{"text": f"the {NOUNS[at % 4]}", "label": "yes" if at % 4 < 2 else "no"} for at in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    prepare(
        folder / "texts",
        out=folder / "books",
        vocab_size=300,
        workers=1,
        validation_share=0.1,
        settings=["deduplication.near=false"],
    )
    pretrain("gpt-tiny", data=folder / "books", out=folder / "all" / "gpt-0", settings=SMALL)
    shutil.copytree(folder / "all" / "gpt-0", folder / "all" / "gpt-1")
    finetune(
        "classification",
        model=folder / "all" / "gpt-0",
        train=folder / "train.jsonl",
        validation=folder / "train.jsonl",
        out=folder / "all" / "tasks" / "sorter",
        settings=["epochs=1", "batch_size=4", "training.precision=fp32"],
    )
    return folder


@pytest.fixture
def work(finished, tmp_path):
    """Return a copy of the runs that may be spoilt."""
    shutil.copytree(finished / "all", tmp_path / "all")
    return tmp_path / "all"


def only(folder, name, **options):
    [run] = [run for run in runs(folder, **options).runs if run.name == name]
    return run


def append(folder, *records):
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_run_is_found_with_what_is_known_of_it(finished):
    found = runs(finished)
    assert [run.name for run in found.runs] == ["all/gpt-0", "all/gpt-1", "all/tasks/sorter"]
    assert found.unreadable == []
    gpt, _, sorter = found.runs
    plan = json.loads((finished / "all/gpt-0/plan.json").read_text())
    assert (gpt.kind, gpt.recipe, gpt.state, gpt.steps, gpt.planned) == ("pretraining", "gpt 1 × 16", "finished", 6, 6)
    assert gpt.parameters == plan["parameters"]
    assert gpt.data == str(finished / "books")
    assert gpt.measure == "bits_per_byte"
    measured = [record["validation"]["bits_per_byte"] for record in gpt.records if "validation" in record]
    assert (gpt.best, gpt.newest) == (min(measured), measured[-1])
    assert gpt.validation["bits_per_byte"] == gpt.newest
    assert gpt.tokens_per_second == pytest.approx(gpt.tokens / gpt.seconds)
    assert gpt.settings["training.batch_tokens"] == 256
    assert (sorter.kind, sorter.state, sorter.measure) == ("classification", "finished", "accuracy")
    assert sorter.recipe == f"from {finished / 'all' / 'gpt-0'}"
    assert sorter.parameters is not None
    assert sorter.parameters < gpt.parameters, "it has no language model head"
    measured = [record["validation"]["accuracy"] for record in sorter.records if "validation" in record]
    assert (sorter.best, sorter.newest) == (max(measured), measured[-1])


def test_what_is_found_is_plain_and_the_same_again(finished):
    values = runs(finished).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values == runs(finished).to_dict()
    assert "records" not in values["runs"][0]


def test_a_run_itself_may_be_named(finished):
    assert [run.name for run in runs(finished / "all" / "gpt-1").runs] == ["gpt-1"]


def test_the_table_leaves_out_columns_with_nothing_in_them(finished, work):
    head, first, *_ = runs(finished).rows()
    assert head == (
        "run",
        "recipe",
        "size",
        "data",
        "state",
        "steps",
        "tokens",
        "time",
        "tokens/s",
        "validation",
        "best",
    )
    line = dict(zip(head, first, strict=True))
    assert (line["run"], line["data"], line["steps"], line["state"]) == ("all/gpt-0", "books", "6/6", "finished")
    assert line["validation"].endswith(" bits per byte")
    append(work / "gpt-0", {"step": 6, "warning": {"name": "plateau", "text": "It stays."}})
    head, first, *_ = runs(work).rows(narrow=True)
    assert head == ("run", "state", "steps", "time", "validation", "best", "warnings")
    assert first[-1] == "1"


def test_a_run_that_is_held_is_running_and_stays_so(work):
    with locked(work / "gpt-0"):
        assert only(work, "gpt-0").state == "running"
        assert only(work, "gpt-0").state == "running"
        assert only(work, "gpt-1").state == "finished"
    with locked(work / "gpt-0"):
        pass  # and looking at it has not kept it
    assert only(work, "gpt-0").state == "finished"


def test_a_run_with_a_checkpoint_that_is_not_through_is_interrupted(work):
    plan = json.loads((work / "gpt-0/plan.json").read_text())
    (work / "gpt-0/plan.json").write_text(json.dumps({**plan, "steps": 12}))
    run = only(work, "gpt-0")
    assert (run.state, run.steps, run.planned) == ("interrupted", 6, 12)
    (work / "gpt-0/checkpoints/step-6").rename(work / "gpt-0/checkpoints/step-7")
    (work / "gpt-0/checkpoints/step-08x").mkdir()
    run = only(work, "gpt-0")
    assert (run.state, run.steps, run.data is None) == ("interrupted", 7, False)


@pytest.mark.parametrize("name", ["gpt-0", "tasks/sorter"])
def test_a_run_whose_last_model_is_missing_is_interrupted(work, name):
    shutil.rmtree(work / name / "last")
    assert only(work, name).state == "interrupted"


@pytest.mark.parametrize(("name", "kind"), [("gpt-0", "pretraining"), ("tasks/sorter", "classification")])
def test_where_an_interrupted_run_of_the_same_verb_lies_going_on_is_offered(work, name, kind):
    def refusal(kind=None):
        with pytest.raises(UserError) as caught:
            check_free(work / name, kind=kind)
        return str(caught.value)

    assert "is not empty; name a new one with --out, or remove it" in refusal(kind), "it is finished"
    shutil.rmtree(work / name / "last")
    assert "holds an interrupted run; go on with it by --resume, name a new one with --out" in refusal(kind)
    for other in (None, "retrieval"):
        assert "--resume" not in refusal(other)
    with locked(work / name):
        assert "--resume" not in refusal(kind), "it is running"
    (work / name / "experiment.json").write_text("{")
    assert "--resume" not in refusal(kind)


def test_fine_tuning_offers_to_go_on(work, finished):
    shutil.rmtree(work / "tasks/sorter/last")
    with pytest.raises(UserError, match="go on with it by --resume"):
        finetune(
            "classification",
            model=work / "gpt-0",
            train=finished / "train.jsonl",
            out=work / "tasks/sorter",
            settings=[],
        )


def test_a_run_without_a_checkpoint_or_with_a_broken_loss_has_failed(work):
    shutil.rmtree(work / "gpt-0" / "last")
    shutil.rmtree(work / "gpt-0" / "checkpoints")
    shutil.rmtree(work / "gpt-1" / "last")
    append(work / "gpt-1", {"step": 6, "loss": None})
    states = {run.name: run.state for run in runs(work).runs}
    assert states == {"gpt-0": "failed", "gpt-1": "failed", "tasks/sorter": "finished"}
    assert only(work, "gpt-0").data is None


def test_a_run_that_has_just_begun_is_one(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    with locked(tmp_path):
        [run] = runs(tmp_path).runs
    assert (run.state, run.steps, run.recipe, run.tokens, run.newest) == ("running", 0, "gpt-tiny", None, None)


def test_a_recipe_is_known_by_its_model_whatever_the_vocabulary(tmp_path):
    for name in ("gpt-mini", "bert-tiny", "gpt2-small"):
        experiment = recipe(name)
        (tmp_path / name).mkdir()
        replace(experiment, model=replace(experiment.model, vocab_size=77)).save(tmp_path / name / "experiment.json")
    assert {run.name: run.recipe for run in runs(tmp_path).runs} == {
        name: name for name in ("bert-tiny", "gpt-mini", "gpt2-small")
    }


def test_what_is_damaged_or_foreign_is_named_and_never_fatal(work):
    (work / "gpt-0/experiment.json").write_text('{"model": ')
    (work / "gpt-0/metrics.jsonl").write_bytes(b"\xff\n")
    for number, content in enumerate(("[]", '{"name": "of another program"}', "\xff")):
        (work / f"foreign-{number}").mkdir()
        (work / f"foreign-{number}" / "experiment.json").write_text(content, encoding="latin-1")
    (work / "gpt-1/plan.json").write_text("[]")
    (work / "loop").symlink_to(work)
    found = runs(work)
    assert [run.name for run in found.runs] == ["tasks/sorter"]
    assert [folder.name for folder, _ in found.unreadable] == ["foreign-0", "foreign-1", "foreign-2", "gpt-0", "gpt-1"]
    assert all(str(folder) in reason for folder, reason in found.unreadable)


def test_a_damaged_part_leaves_the_rest_known(work, capsys):
    (work / "gpt-0/checkpoints/step-6/state.json").write_text("{")
    append(work / "gpt-0", {"step": 6, "validation": None}, {"step": 6, "loss": "x", "tokens": None})
    with (work / "gpt-0/metrics.jsonl").open("a") as stream:
        stream.write('{"step": 7, "lo')
    shutil.rmtree(work / "tasks/sorter/checkpoints")
    for name in ("best", "last"):
        (work / "tasks/sorter" / name / "model.safetensors").write_bytes(b"nothing")
    with display():
        run = only(work, "gpt-0")
    assert (run.data, run.steps, run.measure) == (None, 6, "bits_per_byte")
    assert run.tokens is not None
    assert capsys.readouterr().err.count("not a record; left out") == 1
    assert only(work, "tasks/sorter").parameters is None


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", "abc"), ("best", "bac"), ("steps", "cab"), ("warnings", "acb"), ("tokens", "abc"), ("parameters", "abc")],
)
def test_runs_are_sorted_by_any_figure(tmp_path, sort, order):
    for name, best, steps, warnings in (("a", 2.0, 5, 0), ("b", 1.0, 9, 2), ("c", None, 1, 1)):
        (tmp_path / name).mkdir()
        recipe("gpt-tiny").save(tmp_path / name / "experiment.json")
        with Tracker(tmp_path / name) as tracker:
            tracker.record(steps, {"loss": 1.0, **({"validation": {"bits_per_byte": best}} if best else {})})
            for _ in range(warnings):
                tracker.record(steps, {"warning": {"name": "x", "text": "y"}})
    assert "".join(run.name for run in runs(tmp_path, sort=sort).runs) == order


def test_a_folder_without_runs_has_none(tmp_path):
    found = runs(tmp_path)
    assert (found.runs, found.unreadable, found.rows()) == ([], [], [()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sort": "colour"}, "legal: best, data,"),
        ({"x": "epochs"}, "legal: flops, seconds, steps, tokens"),
        ({"out": "runs.pdf"}, r"must end in \.html, \.svg or \.png"),
        ({"out": "nowhere/runs.svg"}, "there is no folder 'nowhere'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        runs(tmp_path, **options)
    with pytest.raises(UserError, match="no folder 'nowhere'"):
        runs("nowhere")


def test_all_runs_are_in_one_picture(finished, tmp_path):
    found = runs(finished, out=tmp_path / "runs.svg")
    assert found.out == tmp_path / "runs.svg"
    said = texts((tmp_path / "runs.svg").read_bytes())
    for known in ("all/gpt-0", "all/gpt-1", "Bits per byte in validation", "all/tasks/sorter", "step"):
        assert known in said
    runs(finished, out=tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "runs.svg").read_bytes()
    runs(finished, out=tmp_path / "runs.png", x="tokens")
    assert (tmp_path / "runs.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_has_the_table_too_and_escapes_names(work, tmp_path):
    (work / "gpt-0").rename(work / "<b>gpt & co")
    runs(work, out=tmp_path / "runs.html")
    page = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;gpt &amp; co" in page
    assert "<b>" not in page
    assert "Content-Security-Policy" in page
    assert page.count("<tr>") == 4


def test_curves_go_along_what_is_asked_for(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    with Tracker(tmp_path) as tracker:
        for step, rate in ((1, 10.0), (2, None), (3, 30.0)):
            record = {"tokens": 100 * step, "seconds": 2.0 * step, "loss": 9.0 - step}
            tracker.record(step, record if rate is None else {**record, "flops_per_second": rate})
        tracker.record(3, {"validation": {"bits_per_byte": 2.5}})
    [run] = runs(tmp_path).runs
    assert curve(run, None, x="steps") == [(1, 8), (2, 7), (3, 6)]
    assert curve(run, None, x="tokens") == [(100, 8), (200, 7), (300, 6)]
    assert curve(run, None, x="seconds") == [(2, 8), (4, 7), (6, 6)]
    assert curve(run, "bits_per_byte", x="tokens") == [(300, 2.5)]
    assert curve(run, None, x="flops") == [(20, 7), (80, 6)]  # the last word on a place counts


def test_flops_that_nobody_counted_are_refused_with_the_reason(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"tokens": 1, "loss": 9.0})
    with pytest.raises(UserError, match="--x flops needs runs that recorded their FLOP/s"):
        runs(tmp_path, out=tmp_path / "runs.svg", x="flops")


def test_a_folder_that_may_not_be_searched_is_named(tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    try:
        found = runs(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    closed = [] if os.geteuid() == 0 else [tmp_path / "closed"]  # nothing is closed to root
    assert [folder for folder, _ in found.unreadable] == closed
