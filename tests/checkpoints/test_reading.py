"""Weights are read straight into their place: nothing of the file is held beside them, and a shrunken one is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bothways.checkpoints.tensors import StoredTensors, write_tensors
from bothways.errors import DamagedFileError

PROGRAM = """
import sys
from pathlib import Path
from bothways.checkpoints.tensors import StoredTensors

def peak():
    with open("/proc/self/status") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))

StoredTensors([Path(sys.argv[2])]).read_weight("small")
before = peak()
stored = StoredTensors([Path(sys.argv[1])])
weights = [stored.read_weight(name) for name in stored]
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_reading_takes_little_more_memory_than_the_weights(tmp_path):
    write_tensors(tmp_path / "large", {f"{number}": torch.randn(2**22) for number in range(4)})
    write_tensors(tmp_path / "small", {"small": torch.randn(2**10)})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), str(tmp_path / "small")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 1.2 * (tmp_path / "large").stat().st_size


@pytest.mark.parametrize(
    "kind",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int8,
        torch.bool,
        torch.float8_e4m3fn,
    ],
)
def test_tensors_of_all_kinds_come_back(tmp_path, kind):
    tensors = {
        "a": torch.arange(6).reshape(2, 3).to(kind),
        "b": torch.zeros(0, 4).to(kind),
        "c": torch.tensor(1).to(kind),
    }
    write_tensors(tmp_path / "file", tensors)
    stored = StoredTensors([tmp_path / "file"])
    for name, tensor in tensors.items():
        assert stored.read(name).dtype == kind
        assert torch.equal(stored.read(name).double(), tensor.double())
        assert stored.read(name).shape == tensor.shape


def test_what_was_read_does_not_change_with_the_file_and_a_shorter_one_is_noticed(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.ones(2**16), "b": torch.ones(2**16)})
    stored = StoredTensors([tmp_path / "file"])
    read = stored.read("a")
    os.truncate(tmp_path / "file", 2**10)
    assert torch.equal(read, torch.ones(2**16))
    with pytest.raises(DamagedFileError, match="ends within the tensor 'b'"):
        stored.read("b")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_undefined_and_infinite_weights_are_refused(tmp_path, wrong):
    weight = torch.ones(5, 5)
    weight[3, 2] = wrong
    write_tensors(tmp_path / "file", {"a": weight, "b": torch.zeros(0)})
    stored = StoredTensors([tmp_path / "file"])
    assert stored.read_weight("b").shape == (0,)
    with pytest.raises(DamagedFileError, match="infinite or undefined"):
        stored.read_weight("a")
