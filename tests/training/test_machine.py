import ctypes
import json
import math
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bothways.recipes.recipe import recipe
from bothways.training import machine
from bothways.training.config import TrainingConfig
from bothways.training.machine import (
    FEWEST_COMPILED_FLOPS,
    FEWEST_COMPILED_STEPS,
    autocast,
    default_device,
    describe_machine,
    has_bf16,
    keep_freed_memory,
    measured_peak,
    resolve_precision,
    wants_compiled,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_keeping_freed_memory_is_possible_where_glibc_is():
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_kept_memory_is_not_asked_for_again():
    program = (
        "import resource, sys, torch\n"
        "from bothways.training.machine import keep_freed_memory\n"
        "keep = sys.argv[1] == 'keep' and keep_freed_memory()\n"
        "def faults(times):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(times):\n"
        "        torch.empty(2**24).fill_(1.0)\n"  # 64 MiB: twice what glibc would learn to keep by itself
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(12)\n"
        "print(faults(6))\n"
    )
    faults = {
        way: int(subprocess.run([sys.executable, "-c", program, way], capture_output=True, check=True).stdout)
        for way in ("keep", "give")
    }
    assert faults["keep"] < faults["give"] / 2, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the call is glibc's")
def test_kept_memory_can_be_given_back():
    program = (
        "import torch\n"
        "from bothways.training.machine import give_back_memory, keep_freed_memory\n"
        "def resident():\n"
        "    line = next(line for line in open('/proc/self/status') if line.startswith('VmRSS'))\n"
        "    return int(line.split()[1]) // 1024\n"
        "keep_freed_memory()\n"
        "held = [torch.empty(2**20).fill_(1.0) for _ in range(200)]\n"  # 800 MiB, with one block kept above the others
        "last = held[-1]\n"
        "del held\n"
        "kept = resident()\n"
        "give_back_memory()\n"
        "print(kept - resident())\n"
    )
    given = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert given > 700


class OldLibrary:
    """A C library that refuses large thresholds, as some versions of glibc do."""

    def __init__(self, largest):
        self.largest, self.calls = largest, []

    def mallopt(self, name, value):
        taken = name != -3 or value <= self.largest
        self.calls += [(name, value)] if taken else []
        return int(taken)


@pytest.mark.parametrize(("largest", "expected"), [(2**30, 2**30), (2**25, 2**25)])
def test_the_largest_threshold_that_the_library_takes_is_set(monkeypatch, largest, expected):
    library = OldLibrary(largest)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert keep_freed_memory() is True
    assert library.calls == [(-3, expected), (-1, 2**31 - 1)]


def test_memory_is_left_alone_where_the_library_cannot_be_told(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: OldLibrary(0))
    assert keep_freed_memory() is False
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # musl has no mallopt
    assert keep_freed_memory() is False
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: OldLibrary(2**30))
    assert keep_freed_memory() is False


MODEL = recipe("gpt-tiny").model
PARAMETERS = 10**6
# On a CPU: steps of 1,000 tokens, with two threads.
ENOUGH = math.ceil(2 * FEWEST_COMPILED_FLOPS / (6 * PARAMETERS * 1000))


@pytest.fixture
def two_threads(monkeypatch):
    """A CPU with vectors of 256 bits, of which two threads compute."""
    monkeypatch.setattr(machine, "has_vectors_of_256_bits", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def wants(device, *, model=MODEL, **settings):
    training = TrainingConfig(**{"steps": ENOUGH, "batch_tokens": 1000, "row_length": 100, **settings})
    return wants_compiled(training, model, device, parameters=PARAMETERS)


@pytest.mark.parametrize(
    ("setting", "device", "steps", "expected"),
    [
        ("auto", GPU, FEWEST_COMPILED_STEPS, True),
        ("auto", GPU, FEWEST_COMPILED_STEPS - 1, False),
        ("auto", CPU, ENOUGH, True),
        ("auto", CPU, ENOUGH - 1, False),
        ("on", CPU, 1, True),
        ("off", GPU, 10**6, False),
        ("off", CPU, 10**6, False),
    ],
)
@pytest.mark.usefixtures("two_threads")
def test_when_layers_are_compiled(setting, device, steps, expected):
    assert wants(device, compile=setting, steps=steps) is expected


@pytest.mark.parametrize("changed", [{"activation": "gelu"}, {"hidden_dropout": 0.1}, {"attention_dropout": 0.1}])
@pytest.mark.usefixtures("two_threads")
def test_layers_that_become_no_quicker_are_not_compiled_on_a_cpu(changed):
    assert not wants(CPU, model=replace(MODEL, **changed))
    assert wants(GPU, model=replace(MODEL, **changed))


@pytest.mark.usefixtures("two_threads")
def test_nor_are_they_where_rows_have_many_shapes_or_vectors_another_width(monkeypatch):
    assert wants(CPU)
    assert not wants(CPU, batch_ramp_share=0.1, steps=10**6)
    assert not wants(GPU, batch_ramp_share=0.1, steps=10**6)
    monkeypatch.setattr(machine, "has_vectors_of_256_bits", lambda: False)
    assert not wants(CPU)


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({"bf16": False}, False),
    ],
)
def test_auto_is_bf16_only_where_the_hardware_multiplies_it(monkeypatch, abilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert has_bf16(CPU) is expected
    assert resolve_precision("auto", CPU) == ("bf16" if expected else "fp32")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_precision_that_is_named_is_taken(precision):
    assert resolve_precision(precision, CPU) == precision


@pytest.mark.parametrize("in_hardware", [True, False])
def test_a_gpu_that_only_emulates_bf16_does_not_have_it(monkeypatch, in_hardware):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    assert has_bf16(torch.device("cuda")) is in_hardware


def test_unknown_devices_have_no_bf16():
    assert not has_bf16(torch.device("meta"))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_sets_the_dtype_of_products(precision, dtype):
    left = torch.randn(2, 2)
    with autocast(precision, CPU):
        assert (left @ left).dtype == dtype
    assert (left @ left).dtype == torch.float32


def test_a_machine_is_described_in_plain_values():
    description = describe_machine()
    assert json.loads(json.dumps(description)) == description
    assert description["cores"] >= 1
    assert description["memory_gib"] > 0
    assert description["cpu"]
    assert description["torch"] == torch.__version__
    assert (description["gpu"] is None) == (default_device().type == "cpu")


def test_the_peak_is_measured_once():
    peak = measured_peak("fp32")
    assert 1e8 < peak < 1e16
    assert measured_peak("fp32") == peak
