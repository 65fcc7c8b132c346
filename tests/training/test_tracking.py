import json
import math
import struct

import pytest

from bothways.training.tracking import Tracker, read_metrics


def events(folder):
    """Return each event of the TensorBoard files, oldest first: length, checksum, data, checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted((folder / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4


def curves(folder):
    """Return each curve as TensorBoard shows it: where a session starts anew, what came after that step is dropped."""
    shown = {}
    for event in events(folder):
        if event.HasField("session_log"):
            shown = {
                name: {step: value for step, value in curve.items() if step < event.step}
                for name, curve in shown.items()
            }
        for value in event.summary.value:
            shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_records_are_lines_of_json_and_curves(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"loss": 2.5, "name": "größer"})
        tracker.record(2, {"loss": 2.25, "validation": {"loss": 3, "accuracy": 0.5}})
    records = [
        {"step": 1, "loss": 2.5, "name": "größer"},
        {"step": 2, "loss": 2.25, "validation": {"loss": 3, "accuracy": 0.5}},
    ]
    assert read_metrics(tmp_path) == records
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records
    assert curves(tmp_path) == {
        "loss": {1: 2.5, 2: 2.25},
        "validation/loss": {2: 3},
        "validation/accuracy": {2: 0.5},
    }


def test_a_record_is_on_disk_at_once(tmp_path):
    with Tracker(tmp_path / "new" / "run") as tracker:
        tracker.record(1, {"loss": 2.5})
        assert read_metrics(tmp_path / "new" / "run") == [{"step": 1, "loss": 2.5}]


@pytest.mark.parametrize("resume_at", [1, 3, 5, 6])
def test_going_on_drops_what_came_after(tmp_path, resume_at):
    with Tracker(tmp_path) as tracker:
        for step in range(1, 7):
            tracker.record(step, {"loss": float(step), "validation": {"loss": step / 2}})
    with Tracker(tmp_path, resume_at=resume_at) as tracker:
        for step in range(resume_at + 1, 9):
            tracker.record(step, {"loss": 10.0 * step})
    kept = [{"step": step, "loss": float(step), "validation": {"loss": step / 2}} for step in range(1, resume_at + 1)]
    assert read_metrics(tmp_path) == [*kept, *({"step": step, "loss": 10.0 * step} for step in range(resume_at + 1, 9))]
    shown = curves(tmp_path)
    assert shown["loss"] == {step: (1 if step <= resume_at else 10) * step for step in range(1, 9)}
    assert shown["validation/loss"] == {step: step / 2 for step in range(1, resume_at + 1)}


def test_beginning_anew_forgets_everything(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"loss": 1.0})
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"loss": 2.0})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


def test_a_record_that_a_crash_cut_anywhere_is_dropped(tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "loss": 2.5}\n'
    cut = '{"step": 2, "loss": 2.25, "validation": {"loss": 3.5}, "x": "}"}'
    for length in range(len(cut) + 1):
        file.write_text(whole + cut[:length])
        with Tracker(tmp_path, resume_at=2) as tracker:
            tracker.record(3, {"loss": 2.0})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}, {"step": 3, "loss": 2.0}], cut[:length]


def test_what_is_not_finite_is_written_down_too(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.record(1, {"loss": math.nan})
    [record] = read_metrics(tmp_path)
    assert math.isnan(record["loss"])
    with Tracker(tmp_path, resume_at=1):
        assert len(read_metrics(tmp_path)) == 1


def test_a_run_without_records_has_none(tmp_path):
    assert read_metrics(tmp_path) == []
