"""The same training gives the same checkpoint, byte for byte, whatever surrounds the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, random, sys
sys.path.insert(0, {here!r})
if {shuffled}:
    scandir, listdir = os.scandir, os.listdir
    os.listdir = lambda *path: random.sample(names := listdir(*path), len(names))
import torch
import tiny_runs as tiny
torch.set_num_threads = lambda _, keep=torch.set_num_threads: keep({threads})
result = []
for arm in ("bert 4 fp32", "hybrid 1 bf16", "classification 1 fp32"):
    tiny.fit(os.path.join({folder!r}, arm), arm)
    result.append(tiny.outcome(os.path.join({folder!r}, arm)))
print(json.dumps(result))
"""
# Environment, number of threads, and whether the system lists files in another order.
SURROUNDINGS = {
    "hash seed": ({"PYTHONHASHSEED": "4711"}, 1, False),
    "time zone": ({"TZ": "Pacific/Kiritimati"}, 1, False),
    "locale": ({"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}, 1, False),
    "plain locale": ({"LC_ALL": "C", "PYTHONUTF8": "0"}, 1, False),
    "listing": ({}, 1, True),
    "threads": ({}, 2, False),  # tensors this small are not shared out, so even these bits must agree
}


def results(folder, environment, threads, shuffled):
    program = PROGRAM.format(here=str(Path(__file__).parent), folder=str(folder), threads=threads, shuffled=shuffled)
    given = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return results(tmp_path_factory.mktemp("usual"), {"PYTHONHASHSEED": "0"}, 1, False)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "hash seed" else pytest.mark.slow) for name in SURROUNDINGS]
)
def test_what_surrounds_a_training_does_not_change_it(tmp_path, usual, name):
    found = results(tmp_path, *SURROUNDINGS[name])
    assert len(found) == 3
    for result, expected in zip(found, usual, strict=True):
        for part, value in expected.items():
            assert result[part] == value, part
