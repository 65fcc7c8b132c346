import json
import os
import socket
import subprocess
import sys
import time

import pytest

from bothways.training.cost import (
    GRID_KG_PER_KWH,
    WATTS_OF_UNKNOWN_GPU,
    WATTS_PER_CORE,
    PowerMeter,
    cost_here,
    gpu_watts,
    in_words,
    training_cost,
)


def test_a_core_hour_has_its_assumed_power_and_the_worlds_emissions():
    cost = training_cost(seconds=7200, flops=3e15, cpu="A CPU", threads=4)
    assert cost.hours == 2
    assert cost.kwh == pytest.approx(2 * 4 * WATTS_PER_CORE / 1000)
    assert cost.kg_co2 == pytest.approx(cost.kwh * GRID_KG_PER_KWH)
    assert cost.hardware == "A CPU, 4 cores"
    assert "12 W a core, with 4 cores at work" in cost.basis[0]
    assert "the world's average" in cost.basis[1]
    assert in_words(cost)["computation"] == "3e+15 FLOPs"


def test_what_was_measured_takes_the_place_of_what_is_assumed():
    cost = training_cost(seconds=3600, threads=4, measured_watts=90.0, grid_kg_per_kwh=0.1)
    assert cost.kwh == pytest.approx(0.09)
    assert cost.kg_co2 == pytest.approx(0.009)
    assert "90 W on average" in cost.basis[0]
    assert not any("world" in sentence or "12 W" in sentence for sentence in cost.basis)


def test_each_gpu_counts_beside_the_cpu():
    cost = training_cost(seconds=3600, cpu="A CPU", threads=1, gpus=["NVIDIA H100 80GB HBM3"] * 2)
    assert cost.kwh == pytest.approx((2 * 700 + WATTS_PER_CORE) / 1000)
    assert cost.hardware == "2 × NVIDIA H100 80GB HBM3, A CPU, 1 core"
    assert [sentence for sentence in cost.basis if "700 W" in sentence] == [cost.basis[1]]


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("NVIDIA A100-SXM4-80GB", 400.0),
        ("NVIDIA A100-PCIE-40GB", 250.0),
        ("NVIDIA A10", 150.0),
        ("NVIDIA A10G", 300.0),
        ("NVIDIA H100 PCIe", 350.0),
        ("NVIDIA A100 80GB PCIe", 300.0),
        ("NVIDIA GH200 480GB", 900.0),
        ("NVIDIA L4", 72.0),
        ("NVIDIA L40", 300.0),
        ("NVIDIA RTX A1000 Laptop GPU", WATTS_OF_UNKNOWN_GPU),
        ("NVIDIA RTX A4000", WATTS_OF_UNKNOWN_GPU),
        ("NVIDIA T400 4GB", WATTS_OF_UNKNOWN_GPU),
        ("NVIDIA L40S", 350.0),
        ("Tesla T4", 70.0),
        ("Something Else", WATTS_OF_UNKNOWN_GPU),
    ],
)
def test_a_gpu_is_known_by_the_longest_name_in_its_own(name, watts):
    assert gpu_watts(name) == watts


@pytest.mark.parametrize(("seconds", "said"), [(25, "25 seconds"), (600, "10 minutes"), (9000, "2.5 hours")])
def test_time_is_told_in_the_unit_that_people_use(seconds, said):
    assert in_words(training_cost(seconds=seconds))["time"] == said


def test_this_machine_has_a_cost():
    cost = cost_here(seconds=3600)
    assert cost.kwh > 0
    assert cost.flops is None
    assert "computation" not in in_words(cost)
    assert set(cost.to_dict()) == {"hours", "flops", "kwh", "kg_co2", "hardware", "basis"}


def zone(folder, name, *, microjoules, most=10**9, kind="package-0"):
    (folder / name).mkdir(parents=True)
    for file, content in (("energy_uj", microjoules), ("max_energy_range_uj", most), ("name", kind)):
        (folder / name / file).write_text(f"{content}\n")
    return folder / name / "energy_uj"


def test_a_meter_adds_packages_and_memory_and_leaves_out_what_is_counted_twice(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", microjoules=5_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", microjoules=0, kind="dram")
    core = zone(tmp_path, "intel-rapl:0:0", microjoules=0, kind="core")
    platform = zone(tmp_path, "intel-rapl:1", microjoules=0, kind="psys")
    start = time.monotonic()
    with PowerMeter(folder=tmp_path) as meter:
        package.write_text("7000000")
        memory.write_text("1000000")
        core.write_text("900000000")
        platform.write_text("900000000")
        time.sleep(0.05)
    seconds = time.monotonic() - start
    assert meter.watts is not None
    assert 3 / seconds <= meter.watts <= 3 / 0.05  # two joules of the package, one of the memory


def test_a_counter_that_comes_round_goes_on(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", microjoules=900_000, most=1_000_000)
    with PowerMeter(folder=tmp_path) as meter:
        package.write_text("99999")
        time.sleep(0.02)
    assert meter.watts is not None
    assert meter.watts * (meter._read - meter._started) == pytest.approx(0.2)


TOGETHER = """
import json, sys, time
from pathlib import Path
from bothways.training.cost import PowerMeter, cost_here
from bothways.training.distributed import joined

folder = Path(sys.argv[1])
with joined() as group:
    with PowerMeter(folder=folder) as meter:
        if group.first:
            (folder / "intel-rapl:0" / "energy_uj").write_text("3000000")
        time.sleep(0.05)
    cost = cost_here(seconds=3600, meter=meter)
    if group.first:
        print(json.dumps({"watts": meter.watts, **cost.to_dict()}))
"""


@pytest.mark.parametrize("machines", [1, 2])
def test_processes_share_the_counters_of_their_machine_and_other_machines_draw_as_much(tmp_path, machines):
    zone(tmp_path, "intel-rapl:0", microjoules=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": str(2 // machines),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path)],
            env={**os.environ, **told, "RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in started]
    found = json.loads(said[0])
    assert [process.returncode for process in started] == [0, 0]
    assert found["watts"] > 0
    assert found["kwh"] == pytest.approx(machines * found["watts"] / 1000)
    basis = "; ".join(found["basis"])
    assert "for all processes together" in basis
    assert ("each of the other machines is taken to draw as much" in basis) == (machines == 2)
    assert found["hardware"].endswith(" on 2 machines") == (machines == 2)
    cores = os.cpu_count() or 1
    assert f"{min(2 // machines, cores) * machines} core" in found["hardware"]  # each process has one thread


@pytest.mark.parametrize("content", [None, "no number"])
def test_a_counter_that_cannot_be_read_measures_nothing(tmp_path, content):
    if content:
        zone(tmp_path, "intel-rapl:0", microjoules=content)
    with PowerMeter(folder=tmp_path) as meter:
        time.sleep(0.01)
    assert meter.watts is None


def test_a_counter_that_vanishes_measures_no_further(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", microjoules=0)
    with PowerMeter(folder=tmp_path) as meter:
        package.unlink()
    assert meter.watts is None
