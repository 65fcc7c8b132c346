import json
import platform

import pytest
import torch

from bothways.training.machine import (
    autocast,
    default_device,
    describe_machine,
    has_bf16,
    keep_freed_memory,
    measured_peak,
    resolve_precision,
)

CPU = torch.device("cpu")


def test_keeping_freed_memory_is_possible_where_glibc_is():
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


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
