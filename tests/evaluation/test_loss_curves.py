import json
import math
from xml.etree import ElementTree

import pytest

from bothways.evaluation.loss_curves import Curves, plot_run
from bothways.progress import display
from bothways.training.tracking import Tracker


def write(folder, records):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def course(steps=60):
    """The records of a run with all that a trainer writes down."""
    records = []
    for step in range(1, steps + 1):
        loss = 3 + 6 * math.exp(-step / 20)
        records.append({"step": step, "loss": loss, "learning_rate": 4e-3, "gradient_norm": 1 / step})
        if step % 20 == 0:
            records.append({"step": step, "validation": {"loss": loss, "accuracy": 0.3, "perplexity": 40.0}})
    return records


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def png_size(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_run_has_its_loss_its_speed_and_its_measures_in_two_formats(tmp_path):
    write(tmp_path, course())
    assert plot_run(tmp_path)
    found = texts((tmp_path / "loss.svg").read_bytes())
    for known in ("Loss", "training", "smoothed", "validation", "Learning rate", "gradient norm (right)", "Accuracy"):
        assert known in found
    assert "Perplexity" not in found, "it is the loss on another scale"
    width, height = png_size((tmp_path / "loss.png").read_bytes())
    assert width > height > 500
    assert sorted(file.name for file in tmp_path.iterdir()) == ["loss.png", "loss.svg", "metrics.jsonl"]


def test_one_picture_alone_can_be_drawn(tmp_path):
    write(tmp_path, course())
    plot_run(tmp_path, pictures=["loss.svg"])
    assert not (tmp_path / "loss.png").exists()
    alone = (tmp_path / "loss.svg").read_bytes()
    plot_run(tmp_path)
    assert (tmp_path / "loss.svg").read_bytes() == alone


def test_the_same_records_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, course())
        plot_run(tmp_path / name)
    for picture in ("loss.svg", "loss.png"):
        assert (tmp_path / "one" / picture).read_bytes() == (tmp_path / "two" / picture).read_bytes()


def test_warnings_are_marked_where_they_were_given(tmp_path):
    records = course()
    write(tmp_path, records)
    plot_run(tmp_path, pictures=["loss.svg"])
    without = (tmp_path / "loss.svg").read_text()
    warning = {"name": "plateau_at_unigram", "text": "<script>"}
    write(tmp_path, [*records[:30], {"step": 30, "warning": warning}, *records[30:]])
    plot_run(tmp_path, pictures=["loss.svg"])
    marked = (tmp_path / "loss.svg").read_text()
    assert "plateau at unigram" in texts(marked)
    assert marked.count("stroke-dasharray") == without.count("stroke-dasharray") + 1
    assert "script" not in marked


def test_what_could_not_be_told_is_no_point():
    records = [
        {"step": 1, "loss": None, "gradient_norm": math.nan, "learning_rate": 1e-3, "validation": {"loss": math.inf}},
        {"step": 2, "loss": 2.0, "validation": None},
        {"step": 2, "loss": 1.5, "validation": {"name": "x", "accuracy": 1}},
        {"step": 3, "skipped": {"losses": {"loss": None}}},
        {"step": 3, "warning": {"name": "x", "text": "y"}},
    ]
    curves = Curves.of(records)
    assert curves.training == {2: 1.5}
    assert curves.learning_rate == {1: 1e-3}
    assert curves.gradient_norm == {}
    assert curves.measures == {"accuracy": {2: 1}}
    assert list(curves.warnings) == [(3, "x")]


@pytest.mark.parametrize("without", ["learning_rate", "gradient_norm"])
def test_a_panel_of_one_curve_has_its_name(tmp_path, without):
    write(tmp_path, [{name: value for name, value in record.items() if name != without} for record in course()])
    plot_run(tmp_path, pictures=["loss.svg"])
    found = texts((tmp_path / "loss.svg").read_text())
    assert ("Learning rate" in found) is (without != "learning_rate")
    assert ("Gradient norm" in found) is (without != "gradient_norm")


def test_a_run_that_was_only_evaluated_is_drawn_with_all_its_measures(tmp_path):
    write(tmp_path, [{"step": step, "validation": {"perplexity": 40.0 - step}} for step in (1, 2, 3)])
    assert plot_run(tmp_path)
    assert "Perplexity" in texts((tmp_path / "loss.svg").read_text())


def test_a_run_without_records_has_no_picture(tmp_path):
    assert not plot_run(tmp_path)
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"warning": {"name": "x", "text": "y"}})
        assert not plot_run(tmp_path)
    assert not (tmp_path / "loss.svg").exists()


def test_where_no_picture_can_be_written_the_run_goes_on(tmp_path, capsys):
    write(tmp_path, course())
    (tmp_path / "loss.svg").mkdir()
    with display():
        assert plot_run(tmp_path)
    assert "cannot be written" in capsys.readouterr().err
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".tmp")]


def test_a_picture_has_the_format_of_its_ending(tmp_path):
    write(tmp_path, course())
    plot_run(tmp_path, pictures=["x.png"])
    assert png_size((tmp_path / "x.png").read_bytes())[0] > 500
