import errno
import json
import math
import struct
import subprocess
import sys
import time

import pytest

from bothways.errors import UserError
from bothways.progress import display
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


def test_a_warning_and_what_could_not_be_told_are_records_without_curves(tmp_path):
    records = [
        {"step": 1, "loss": 2.5, "gradient_norm": None},
        {"step": 1, "warning": {"name": "plateau", "text": "The loss stays."}},
        {"step": 2, "loss": None, "fast": True},
    ]
    with Tracker(tmp_path) as tracker:
        for record in records:
            tracker.record(record["step"], {name: value for name, value in record.items() if name != "step"})
    assert read_metrics(tmp_path) == records
    assert curves(tmp_path) == {"loss": {1: 2.5}}


def test_torn_lines_are_passed_over_and_named(tmp_path, capsys):
    torn = ['{"step": 2, "lo', "[1]", '{"loss": 1}', "\0\0\0", '{"step": "3"}', '{"step": NaN}']
    lines = ['{"step": 1, "loss": 2.5}', *torn, '{"step": 4, "loss": 2.0}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with display():
        assert [record["step"] for record in read_metrics(tmp_path)] == [1, 4]
        assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 4]
    assert "line 2: not a record, nor are 5 others" in capsys.readouterr().err


def test_going_on_bears_what_a_power_cut_left(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1, "loss": 2.5}\n\0\0\0\n{"step": 3, "loss": 2.0}\n{"step": 4, "loss": 1.0}\n\xff\xfe')
    with Tracker(tmp_path, resume_at=3) as tracker:
        tracker.record(4, {"loss": 1.5})
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 2.5},
        {"step": 3, "loss": 2.0},
        {"step": 4, "loss": 1.5},
    ]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from bothways.progress import display
from bothways.training.tracking import Tracker

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with display(), Tracker(folder) as tracker:
    tracker.record(1, {"loss": 2.5})
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120, most))  # no file may grow beyond, as on a full disk
    for step in range(2, 20):
        tracker.record(step, {"loss": 2.5})
    print((folder / "metrics.jsonl").read_text().count("\\n"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    tracker.record(20, {"loss": 2.5})
"""


def test_a_full_disk_delays_records_and_stops_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == 4  # of 25 bytes each, and a fifth that is torn
    assert read_metrics(tmp_path) == [{"step": step, "loss": 2.5} for step in range(1, 21)]
    assert done.stderr.count("metrics.jsonl cannot be written") == 1
    assert done.stderr.count("TensorBoard's events cannot be written") == 1


def test_going_on_needs_no_room(tmp_path, monkeypatch):
    with Tracker(tmp_path) as tracker:
        for step in range(1, 4):
            tracker.record(step, {"loss": float(step)})
    whole = (tmp_path / "metrics.jsonl").read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with Tracker(tmp_path, resume_at=2):
        assert (tmp_path / "metrics.jsonl").read_bytes() == whole[: 2 * len(whole) // 3]


def test_without_the_package_weights_and_biases_is_refused_with_the_way_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'bothways\[wandb\]'"):
        Tracker(tmp_path, wandb_project="trial")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb", reason="Weights & Biases is an extra: pip install 'bothways[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "run"


def stored(folder):
    """Return what Weights & Biases keeps of each session, to be sent later."""
    return [file.read_bytes() for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def test_weights_and_biases_keeps_numbers_offline_and_goes_on_as_the_same_run(offline, capsys):
    with display(), Tracker(offline, wandb_project="trial", settings={"training.steps": 5}) as tracker:
        tracker.record(1, {"loss": 2.5, "validation": {"accuracy": 0.5}, "warning": {"name": "x", "text": "y"}})
    assert f"wandb sync {offline}/wandb/offline-run-*" in capsys.readouterr().err
    identity = json.loads((offline / "wandb_id.json").read_text())["id"].encode()
    (first,) = stored(offline)
    for known in (identity, b"trial", b"validation/accuracy", b"training.steps"):
        assert known in first
    offline = offline.rename(offline.with_name("moved"))
    time.sleep(1.1)  # it names its folders by the second
    with Tracker(offline, resume_at=1, wandb_project="trial") as tracker:
        tracker.record(2, {"loss": 2.25})
    assert len(stored(offline)) == 2
    assert identity in stored(offline)[1]
    time.sleep(1.1)
    with Tracker(offline, wandb_project="trial"):
        assert json.loads((offline / "wandb_id.json").read_text())["id"].encode() != identity
    assert read_metrics(offline) == []


def test_whatever_fails_over_there_is_said_once_and_training_goes_on(offline, monkeypatch, capsys):
    import wandb

    def broken(*_, **__):
        raise RuntimeError("the service\nhas gone")

    with display():
        with Tracker(offline, wandb_project="trial") as tracker:
            monkeypatch.setattr(type(wandb.run), "log", broken)
            for step in (1, 2, 3):
                tracker.record(step, {"loss": 2.5})
        monkeypatch.setattr(wandb, "init", broken)
        with Tracker(offline, resume_at=3, wandb_project="trial") as tracker:
            tracker.record(4, {"loss": 2.5})
    assert capsys.readouterr().err.count("the run goes on without it: the service has gone") == 2
    assert [record["step"] for record in read_metrics(offline)] == [1, 2, 3, 4]
