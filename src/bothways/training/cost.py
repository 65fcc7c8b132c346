"""What a training cost: hours, operations, and an estimate of its energy and emissions with all that it assumes.

Estimates follow Lannelongue et al. 2021, "Green Algorithms" (Advanced Science 8, 2100707): hours times the power of the
cores that computed, times the emissions of the grid. Memory, cooling and making the machine are not counted.
"""

import math
import os
import platform
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WATTS_PER_CORE = 12.0  # of any CPU: the default of Green Algorithms
WATTS_OF_UNKNOWN_GPU = 300.0
# Most power that a board draws, by its maker's data sheet; the longest one that a device's name has as words counts.
WATTS_OF_GPUS = {
    "A10": 150.0,
    "A10G": 300.0,
    "A100": 400.0,
    "A100-PCIE": 250.0,
    "A100 80GB PCIe": 300.0,
    "A40": 300.0,
    "A6000": 300.0,
    "B200": 1000.0,
    "GB200": 1200.0,
    "GH200": 900.0,
    "GTX 1080 Ti": 250.0,
    "H100": 700.0,
    "H100 PCIe": 350.0,
    "H200": 700.0,
    "L4": 72.0,
    "L40": 300.0,
    "L40S": 350.0,
    "MI250X": 560.0,
    "MI300X": 750.0,
    "P100": 250.0,
    "RTX 2080 Ti": 250.0,
    "RTX 3060": 170.0,
    "RTX 3090": 350.0,
    "RTX 4090": 450.0,
    "RTX 5090": 575.0,
    "T4": 70.0,
    "V100": 300.0,
}
GRID_KG_PER_KWH = (
    0.475  # kg CO2 equivalent, the world's average: International Energy Agency, as Green Algorithms has it
)
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training cost.

    Attributes:
        hours: of training.
        flops: floating point operations of the model; None: not counted.
        kwh: energy.
        kg_co2: emissions, in kilograms of CO2 equivalent.
        hardware: what computed.
        basis: what the last two rest on, in sentences.
    """

    hours: float
    flops: float | None
    kwh: float
    kg_co2: float
    hardware: str
    basis: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "hours": self.hours,
            "flops": self.flops,
            "kwh": self.kwh,
            "kg_co2": self.kg_co2,
            "hardware": self.hardware,
            "basis": list(self.basis),
        }


def training_cost(
    *,
    seconds: float,
    flops: float | None = None,
    cpu: str = "",
    threads: int = 1,
    gpus: Sequence[str] = (),
    measured_watts: float | None = None,
    machines: int = 1,
    grid_kg_per_kwh: float = GRID_KG_PER_KWH,
) -> Cost:
    """Return what a training cost.

    Args:
        seconds: that it took.
        flops: operations of the model.
        cpu: name of the CPU.
        threads: cores that computed, on all machines.
        gpus: name of each GPU that computed, on all machines.
        measured_watts: what the CPU's own counters said meanwhile (``PowerMeter``) on one of the machines; None: the power
            of a core is assumed.
        machines: that computed together; each is taken to draw what was measured on one.
        grid_kg_per_kwh: emissions of the grid, in kilograms of CO2 equivalent for a kilowatt hour.
    """
    hours = seconds / 3600
    cores = f"{threads} core{'s' if threads != 1 else ''}"
    boards = {name: gpu_watts(name) for name in gpus}
    watts = machines * measured_watts if measured_watts is not None else threads * WATTS_PER_CORE
    watts += sum(boards[name] for name in gpus)
    kwh = hours * watts / 1000
    if measured_watts is None:
        basis = [f"The CPU is taken to draw {WATTS_PER_CORE:g} W a core, with {cores} at work"]
    else:
        where = f" of the first of {machines} machines" if machines > 1 else ""
        basis = [
            f"The CPU{where} drew {measured_watts:.0f} W on average, by its own counters, for all processes together, other "
            "programs included"
        ]
        basis += ["each of the other machines is taken to draw as much"] if machines > 1 else []
    basis += [f"{name} is taken to draw {power:g} W, the most that its board may" for name, power in boards.items()]
    basis += [
        f"the grid is taken to emit {grid_kg_per_kwh:g} kg of CO2 equivalent for a kWh"
        + (", the world's average" if grid_kg_per_kwh == GRID_KG_PER_KWH else ""),
        "memory, cooling, evaluation and saving are not counted",
    ]
    hardware = f"{cpu or 'CPU'}, {cores}" + (f" on {machines} machines" if machines > 1 else "")
    counted = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    return Cost(
        hours=hours,
        flops=flops,
        kwh=kwh,
        kg_co2=kwh * grid_kg_per_kwh,
        hardware=", ".join([*counted, hardware]),
        basis=tuple(basis),
    )


def cost_here(*, seconds: float, flops: float | None = None, meter: "PowerMeter | None" = None) -> Cost:
    """Return what a training cost on this machine, by the device that torch chooses.

    Where several processes have been joined, all of them count, each with a GPU or with threads of its own. The processes of
    a machine share its counters of energy, so one meter measures all of these; other machines are taken to be like this one.

    Args:
        seconds: that it took.
        flops: operations of the model.
        meter: ran meanwhile; its average counts for the whole time, also for what was done before a resume.
    """
    from bothways.training.distributed import current
    from bothways.training.machine import describe_machine

    machine, group = describe_machine(), current()
    gpus = [machine["gpu"]] * group.size if machine["gpu"] else []
    here = -(-group.size // group.machines)
    threads = min(machine["threads"] * here, os.cpu_count() or 1) * group.machines
    watts = meter.watts if meter else None
    return training_cost(
        seconds=seconds,
        flops=flops,
        cpu=machine["cpu"],
        threads=threads,
        gpus=gpus,
        measured_watts=watts,
        machines=group.machines,
    )


def gpu_watts(name: str) -> float:
    """Return the most power that a GPU of this name draws."""
    known = [part for part in WATTS_OF_GPUS if re.search(rf"\b{re.escape(part)}\b", name, re.IGNORECASE)]
    return WATTS_OF_GPUS[max(known, key=len)] if known else WATTS_OF_UNKNOWN_GPU


@dataclass
class _Counter:
    """A counter of energy: it runs up to a limit, then begins again at nought."""

    file: Path
    limit: int  # microjoules
    last: int

    def gained(self) -> int:
        """Return the microjoules since it was last read."""
        now = int(self.file.read_text())
        gained = (now - self.last) % (self.limit + 1)
        self.last = now
        return gained


@dataclass
class PowerMeter:
    """Measures what the CPU and its memory draw while a ``with`` block runs, where the system lets one read it.

    It is the whole machine's, so of the processes of a training on one machine, one alone needs to be asked. That is Linux on
    Intel and AMD (RAPL), often for root alone. Where it cannot be read, ``watts`` is None.
    """

    folder: Path = POWERCAP
    every: float = 60.0  # seconds between readings: a counter must not come round between two of them
    _counters: list[_Counter] = field(default_factory=list)
    _joules: float = 0.0
    _started: float = math.nan
    _read: float = math.nan

    def __enter__(self) -> Self:
        self._counters = _counters(self.folder)
        self._started = self._read = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self._counters:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._counters:
            self._thread.join()

    @property
    def watts(self) -> float | None:
        """The average until the last reading; None: nothing was measured."""
        seconds = self._read - self._started
        return self._joules / seconds if seconds > 0 and self._joules > 0 else None

    def _watch(self) -> None:
        while True:
            stopping = self._stop.wait(self.every)
            try:
                self._joules += sum(counter.gained() for counter in self._counters) / 1e6
            except (OSError, ValueError):
                return
            self._read = time.monotonic()
            if stopping:
                return


def _counters(folder: Path) -> list[_Counter]:
    """Return the counters of each CPU package, and of the memory beside it where that is counted apart."""
    found: list[_Counter] = []
    if platform.system() != "Linux":
        return found
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            inside, kind = zone.name.count(":") > 1, (zone / "name").read_text().strip()
            if not (kind == "dram" if inside else kind.startswith("package")):
                continue  # a part of its package, or the platform with the packages in it (psys): counted already
            limit = int((zone / "max_energy_range_uj").read_text())
            found.append(_Counter(zone / "energy_uj", limit, int((zone / "energy_uj").read_text())))
        except (OSError, ValueError):
            continue
    return found


def in_words(cost: Cost) -> Mapping[str, str]:
    """Return the figures of a cost as a person reads them."""
    minutes = cost.hours * 60
    spent = f"{cost.hours:.3g} hours" if minutes >= 90 else f"{minutes:.3g} minutes"
    if minutes < 1.5:
        spent = f"{minutes * 60:.2g} seconds"
    words = {"time": spent, "hardware": cost.hardware}
    if cost.flops is not None:
        words["computation"] = f"{cost.flops:.3g} FLOPs"
    return {**words, "energy": f"about {cost.kwh:.2g} kWh", "emissions": f"about {cost.kg_co2:.2g} kg CO2 equivalent"}
