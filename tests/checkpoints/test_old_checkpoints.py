"""Checkpoints of every released format still load, say what they said, and can be gone on from.

The fixtures are never written anew: they are what users have on their disks. A new format gets new ones, by running this file
as a script with the name of their folder, and PYTHONPATH=tests/training.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny
import torch

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load_checkpoint, newest_complete
from bothways.checkpoints.manifest import VERSION
from bothways.errors import DamagedFileError
from bothways.progress import display

FIXTURES = Path(__file__).parent.parent / "fixtures"
ARMS = {"gpt": "gpt 1 fp32", "classification": "classification 1 fp32"}
STORED = sorted(folder.name for folder in FIXTURES.glob("checkpoint-*"))
STEP = 6


def answers(folder):
    """Return what the model of a checkpoint says to a few tokens, by head."""
    model = load_checkpoint(folder).model.eval()
    rows = [row(torch.arange(4, 4 + length), attention=model.config.attention) for length in (5, 9)]
    batch = collate(rows)
    with torch.no_grad():
        states = model(batch)
        return {"states": states.flatten().tolist()}


@pytest.mark.parametrize("name", STORED)
def test_an_old_checkpoint_says_what_it_said(name):
    folder = FIXTURES / name
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 200_000
    expected = json.loads((folder / "expected.json").read_text())["answers"]
    found = answers(newest_complete(folder))
    assert found.keys() == expected.keys()
    for part, values in expected.items():
        assert found[part] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("name", STORED)
def test_an_old_run_can_be_gone_on_with(tmp_path, capsys, name):
    run = tmp_path / "run"
    shutil.copytree(FIXTURES / name, run)
    expected = json.loads((run / "expected.json").read_text())
    with display():
        _, trained = tiny.fit(run, expected["arm"], resume=True)
    assert trained.steps == tiny.STEPS
    assert [record["step"] for record in trained.curve] == list(range(1, tiny.STEPS + 1))
    assert [record["loss"] for record in trained.curve[:STEP]] == expected["losses"][:STEP]
    # Other releases of torch may round otherwise; the draws of dropout and the order of the data are the same.
    # But the text of a pretraining of the first format goes on in another order.
    reordered = "begun" in json.loads((newest_complete(FIXTURES / name) / "state.json").read_text())["position"]
    assert reordered == ("its text goes on in another order" in capsys.readouterr().err)
    tolerance = 0.05 if reordered else 1e-3
    assert [record["loss"] for record in trained.curve[STEP:]] == pytest.approx(
        expected["losses"][STEP:], rel=tolerance
    )


def test_there_is_a_checkpoint_of_the_present_format():
    versions = [
        json.loads(file.read_text())["version"] for file in FIXTURES.glob("checkpoint-*/checkpoints/*/manifest.json")
    ]
    assert VERSION in versions
    assert len(STORED) >= 2


def test_a_newer_format_is_refused_as_such(tmp_path):
    folder = tmp_path / "step-1"
    shutil.copytree(newest_complete(FIXTURES / STORED[0]), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": VERSION + 1}))
    with pytest.raises(
        DamagedFileError, match=rf"has version {VERSION + 1}, and this bothways reads {VERSION}: .* newer bothways"
    ):
        load_checkpoint(folder)


def record(name):
    """Write the fixtures of the present format."""
    for kind, arm in ARMS.items():
        folder = FIXTURES / f"checkpoint-{name}-{kind}"
        tiny.fit(folder, arm, keep=3)
        curve = json.loads((folder / "checkpoints" / f"step-{tiny.STEPS}" / "state.json").read_text())["curve"]
        for path in [*folder.iterdir(), *(folder / "checkpoints").iterdir()]:
            if path.name not in ("checkpoints", f"step-{STEP}"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        values = {
            "arm": arm,
            "losses": [record["loss"] for record in curve],
            "answers": answers(folder / "checkpoints" / f"step-{STEP}"),
        }
        (folder / "expected.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    record(sys.argv[1])
