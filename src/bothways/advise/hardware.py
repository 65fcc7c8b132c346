"""Named GPUs, and what a training would take on each: computed, not run.

Peaks are those of dense matrix products in bfloat16 with sums in float32, from the makers' data sheets. Prices are what
clouds asked for one GPU and one hour on demand when they were noted down; prices vary by provider, region and week.
"""

from dataclasses import dataclass
from typing import Literal

from bothways.advise.memory import compute_memory
from bothways.advise.workload import Workload
from bothways.experiment import Experiment
from bothways.training.cost import gpu_watts

PRICES_NOTED = "May 2026"
UTILISATION = {"eager": 0.4, "compiled": 0.5}  # share of the peak that training reaches where the GPU is kept busy
LAUNCHES_PER_LAYER = {"eager": 250, "compiled": 60}  # kernels of a forward and a backward pass and an update, roughly
LAUNCH_SECONDS = 5e-6  # that a kernel takes at least: a small model cannot keep a large GPU busy
RESERVED = 0.08  # of a GPU's memory: CUDA's own, and what lies between tensors
ELECTRICITY = (0.10, 0.35)  # US dollars per kWh


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as it is sold and rented.

    Attributes:
        name: of the product.
        peak: FLOP/s of dense matrix products in ``precision``.
        memory: bytes.
        bandwidth: bytes per second of its memory.
        price: US dollars per hour, from cheap to dear.
        precision: what products are computed in: float32 where bfloat16 is not in the hardware.
    """

    name: str
    peak: float
    memory: int
    bandwidth: float
    price: tuple[float, float]
    precision: Literal["bf16", "fp32"] = "bf16"


def _gpu(name: str, teraflops: float, gibibytes: int, gigabytes_a_second: int, low: float, high: float) -> Gpu:
    return Gpu(
        name=name,
        peak=teraflops * 1e12,
        memory=gibibytes * 2**30,
        bandwidth=gigabytes_a_second * 1e9,
        price=(low, high),
        precision="fp32" if name == "T4" else "bf16",
    )


GPUS = (
    _gpu("T4", 8.1, 15, 320, 0.15, 0.60),
    _gpu("L4", 121, 22, 300, 0.40, 1.00),
    _gpu("A10G", 70, 22, 600, 0.60, 1.30),
    _gpu("RTX 3090", 71, 24, 936, 0.15, 0.50),
    _gpu("RTX 4090", 165, 24, 1008, 0.30, 0.80),
    _gpu("A100 40 GB", 312, 40, 1555, 0.70, 3.00),
    _gpu("A100 80 GB", 312, 80, 2039, 0.80, 3.50),
    _gpu("H100", 989, 80, 3350, 2.00, 5.00),
    _gpu("H200", 989, 141, 4800, 2.50, 7.00),
    _gpu("B200", 2250, 180, 8000, 3.50, 9.00),
)


@dataclass(frozen=True, kw_only=True)
class OnGpu:
    """A run on a GPU, computed.

    Attributes:
        gpu: its name.
        memory: bytes that the run takes there.
        fits: whether they are there.
        seconds: of training, compiled and eager.
        price: US dollars: the quicker at the lower price, the slower at the higher.
        kwh: of electricity, at most.
        busy: whether the GPU is kept busy; else the launches of kernels take the time, and larger batches cost nothing.
    """

    gpu: str
    memory: int
    fits: bool
    seconds: tuple[float, float]
    price: tuple[float, float]
    kwh: float
    busy: bool


def on_gpu(gpu: Gpu, experiment: Experiment, workload: Workload, *, steps: int) -> OnGpu:
    """Return what a run of so many steps would take on a GPU."""
    memory = compute_memory(experiment, workload, precision=gpu.precision, device="cuda", program=0).total
    layers = experiment.model.num_hidden_layers
    compiled, eager = (steps * gpu_step_seconds(gpu, layers, workload, mode) for mode in ("compiled", "eager"))
    return OnGpu(
        gpu=gpu.name,
        memory=memory,
        fits=memory <= gpu.memory * (1 - RESERVED),
        seconds=(compiled, eager),
        price=(compiled / 3600 * gpu.price[0], eager / 3600 * gpu.price[1]),
        kwh=eager / 3.6e6 * gpu_watts(gpu.name),
        busy=_computing(gpu, workload, "eager") >= _launching(layers, workload, "eager"),
    )


def gpu_step_seconds(gpu: Gpu, layers: int, workload: Workload, mode: str) -> float:
    """Return the seconds of a step, computed: products at a share of the peak or the launches, whichever is more.

    Args:
        gpu: where.
        layers: of the model.
        workload: of the step.
        mode: ``"eager"`` or ``"compiled"``.
    """
    working = max(_computing(gpu, workload, mode), _launching(layers, workload, mode))
    return working + workload.optimizer_bytes / gpu.bandwidth


def _computing(gpu: Gpu, workload: Workload, mode: str) -> float:
    return workload.flops / (UTILISATION[mode] * gpu.peak)


def _launching(layers: int, workload: Workload, mode: str) -> float:
    passes = -(-workload.tokens // workload.micro_tokens)
    return passes * (layers + 1) * LAUNCHES_PER_LAYER[mode] * LAUNCH_SECONDS


def electricity_price(kwh: float) -> tuple[float, float]:
    """Return what electricity costs in US dollars, where it is cheap and where it is dear."""
    low, high = ELECTRICITY
    return kwh * low, kwh * high
