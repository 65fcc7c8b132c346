"""The options of our test suite: ``--slow`` runs the long tests too, ``--engines`` other programs, ``--data-dir`` real data."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--engines", action="store_true", help="run models in other programs, too")
    parser.addoption("--data-dir", type=Path, metavar="DIR", help="run the tests on real data, which lies in DIR")


def pytest_configure(config):
    os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors are fastest so, in this process and in those that tests start
    # A shell that starts the tests in its background has them ignore Ctrl-C, and all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = config.getoption("--data-dir")
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(f"--data-dir: there is no folder {str(folder)!r}")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
    left_out = {name for name in ("slow", "engines") if not config.getoption(f"--{name}")}
    if any(item.get_closest_marker("gpu") for item in items) and not has_gpu():
        left_out.add("gpu")
    deselected = [item for item in items if left_out & {marker.name for marker in item.iter_markers()}]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


def has_gpu():
    """Return whether torch finds a GPU."""
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def data_dir(request):
    """Return the folder of real data sets, or skip the test where none is given."""
    folder = request.config.getoption("--data-dir")
    if folder is None:
        pytest.skip("needs real data: give its folder with --data-dir")
    return folder.resolve()


@pytest.fixture
def as_loaded(tmp_path):
    """Return what makes of a model and its tokenizer what loading a checkpoint returns."""
    from bothways.checkpoints.checkpoint import Loaded

    def make(model, tokenizer):
        nothing = {"labels": None, "config": {}, "new_heads": (), "unused": (), "state": None}
        return Loaded(folder=tmp_path, model=model, tokenizer=tokenizer, **nothing)

    return make


@pytest.fixture
def mount_disk(tmp_path):
    """Return what mounts a disk of so many bytes and returns its folder, where this system lets us."""
    mounted = []

    def mount(size):
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small disk can be mounted by root alone, on Linux")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
