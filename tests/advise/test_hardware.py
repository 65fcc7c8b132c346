from dataclasses import replace

import pytest

from bothways.advise.hardware import (
    GPUS,
    LAUNCH_SECONDS,
    LAUNCHES_PER_LAYER,
    UTILISATION,
    electricity_price,
    gpu_step_seconds,
    on_gpu,
)
from bothways.advise.workload import workload_of
from bothways.experiment import Experiment
from bothways.model.config import TransformerConfig
from bothways.objectives.causal_lm import CausalLM
from bothways.training.config import TrainingConfig
from bothways.training.cost import WATTS_OF_GPUS, WATTS_OF_UNKNOWN_GPU, gpu_watts

OBJECTIVE = CausalLM(bos_id=1, eos_id=2)
BY_NAME = {gpu.name: gpu for gpu in GPUS}


def make(hidden_size, layers, batch_tokens=2**17):
    model = TransformerConfig(
        vocab_size=1000,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden_size,
    )
    training = TrainingConfig(batch_tokens=batch_tokens, micro_batch_tokens=batch_tokens, row_length=512)
    experiment = Experiment(model=model, training=training)
    return experiment, workload_of(experiment, OBJECTIVE, 1.0)


LARGE, TINY = make(1024, 12), make(64, 2, batch_tokens=4096)


def test_the_table_has_the_gpus_that_people_rent():
    assert list(BY_NAME) == [
        "T4",
        "L4",
        "A10G",
        "RTX 3090",
        "RTX 4090",
        "A100 40 GB",
        "A100 80 GB",
        "H100",
        "H200",
        "B200",
    ]
    for gpu in GPUS:
        assert 0 < gpu.price[0] < gpu.price[1]
        assert gpu_watts(gpu.name) in WATTS_OF_GPUS.values()
        assert gpu_watts(gpu.name) != WATTS_OF_UNKNOWN_GPU or gpu.name == "A10G"
    assert BY_NAME["T4"].precision == "fp32"  # no bfloat16 in its hardware


def test_a_large_model_takes_the_time_of_its_products():
    h100 = BY_NAME["H100"]
    expected = LARGE[1].flops / (UTILISATION["eager"] * h100.peak) + LARGE[1].optimizer_bytes / h100.bandwidth
    assert gpu_step_seconds(h100, 12, LARGE[1], "eager") == pytest.approx(expected)
    found = on_gpu(h100, *LARGE, steps=100)
    assert found.busy
    assert found.seconds[1] == pytest.approx(100 * expected)
    assert found.seconds[0] < found.seconds[1]
    assert found.price == pytest.approx((found.seconds[0] / 3600 * 2.0, found.seconds[1] / 3600 * 5.0))
    assert found.kwh == pytest.approx(found.seconds[1] / 3600 * 0.7)


def test_a_tiny_model_takes_the_time_of_its_launches():
    launching = 3 * LAUNCHES_PER_LAYER["eager"] * LAUNCH_SECONDS
    for gpu in (BY_NAME["H100"], BY_NAME["B200"]):
        moved = TINY[1].optimizer_bytes / gpu.bandwidth
        assert gpu_step_seconds(gpu, 2, TINY[1], "eager") == pytest.approx(launching + moved)
        assert not on_gpu(gpu, *TINY, steps=1).busy
    many_passes = replace(TINY[1], micro_tokens=TINY[1].tokens // 4)
    once, four_times = (gpu_step_seconds(BY_NAME["H100"], 2, each, "eager") for each in (TINY[1], many_passes))
    assert four_times - once == pytest.approx(3 * launching)


def test_what_does_not_fit_is_said():
    fits = {gpu.name: on_gpu(gpu, *LARGE, steps=1).fits for gpu in GPUS}
    needed = on_gpu(BY_NAME["H200"], *LARGE, steps=1).memory
    assert needed > 24 * 2**30
    assert not any(fits[name] for name in ("T4", "L4", "A10G", "RTX 3090", "RTX 4090"))
    assert fits["H200"]
    assert all(on_gpu(gpu, *TINY, steps=1).fits for gpu in GPUS)


def test_a_little_memory_is_never_free():
    needed = on_gpu(BY_NAME["H200"], *LARGE, steps=1).memory
    just_as_large = replace(BY_NAME["H200"], memory=needed)
    assert not on_gpu(just_as_large, *LARGE, steps=1).fits
    assert on_gpu(replace(just_as_large, memory=round(needed * 1.1)), *LARGE, steps=1).fits


def test_float32_takes_more_memory_for_what_is_kept():
    in_float32 = on_gpu(replace(BY_NAME["H100"], precision="fp32"), *LARGE, steps=1)
    assert in_float32.memory > on_gpu(BY_NAME["H100"], *LARGE, steps=1).memory


def test_electricity_has_a_price():
    low, high = electricity_price(10)
    assert 0 < low < high < 10
    assert electricity_price(20) == (2 * low, 2 * high)
