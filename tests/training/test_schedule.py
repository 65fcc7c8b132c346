import math
from itertools import pairwise

import pytest

from bothways.training.config import TrainingConfig
from bothways.training.schedule import batch_tokens_at, done_at, row_length_at, share_at, total_tokens

SCHEDULES = ["warmup_stable_decay", "cosine", "linear", "constant"]


def shares(**settings):
    config = TrainingConfig(**settings)
    return [share_at(step, config) for step in range(config.steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("decay_share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("final_share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 97])
def test_a_share_is_never_nothing_and_never_more_than_all(schedule, warmup_share, decay_share, final_share, steps):
    found = shares(
        steps=steps, schedule=schedule, warmup_share=warmup_share, decay_share=decay_share, final_share=final_share
    )
    assert all(0 < share <= 1 for share in found)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_rises_in_a_line_to_the_peak(schedule):
    found = shares(steps=100, schedule=schedule, warmup_share=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10] == max(found) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_a_warm_up_it_begins_at_the_peak(schedule):
    assert shares(steps=100, schedule=schedule, warmup_share=0)[0] == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("final_share", [0.0, 0.2])
def test_after_the_peak_it_never_rises(schedule, final_share):
    found = shares(steps=100, schedule=schedule, warmup_share=0.1, final_share=final_share)
    assert all(after <= before for before, after in pairwise(found[10:]))
    if schedule != "constant":
        assert final_share < found[-1] < final_share + 0.03


def test_warmup_stable_decay_is_level_and_then_falls_in_a_line():
    found = shares(steps=100, schedule="warmup_stable_decay", warmup_share=0.1, decay_share=0.4, final_share=0.2)
    assert found[10:61] == [1] * 51
    assert found[61:] == pytest.approx([0.2 + 0.8 * left / 40 for left in range(39, 0, -1)])


def test_cosine_is_half_a_cosine():
    found = shares(steps=100, schedule="cosine", warmup_share=0.2, final_share=0.1)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * done / 80)) / 2 for done in range(80)]
    assert found[20:] == pytest.approx(expected)
    assert found[60] == pytest.approx(0.55)


def test_linear_is_a_line():
    found = shares(steps=50, schedule="linear", warmup_share=0.2, final_share=0.0)
    assert found[10:] == pytest.approx([left / 40 for left in range(40, 0, -1)])


def test_constant_stays():
    assert shares(steps=50, schedule="constant", warmup_share=0.2, final_share=0.0)[10:] == [1] * 40


def test_batches_and_rows_are_as_large_as_asked_for():
    config = TrainingConfig(steps=10, batch_tokens=512, row_length=128)
    assert {batch_tokens_at(step, config) for step in range(12)} == {512}
    assert {row_length_at(step, config) for step in range(12)} == {128}
    assert total_tokens(config) == 5120
    assert total_tokens(TrainingConfig(steps=10, batch_tokens=500, row_length=128)) == 3840  # whole rows


def test_batches_grow_in_a_line_from_a_quarter():
    config = TrainingConfig(steps=100, batch_tokens=4000, row_length=128, batch_ramp_share=0.6)
    found = [batch_tokens_at(step, config) for step in range(100)]
    assert found[:61] == [round(1000 + 3000 * step / 60) for step in range(61)]
    assert set(found[60:]) == {4000}
    assert total_tokens(config) == sum(tokens // 128 * 128 for tokens in found)


def test_rows_are_a_quarter_then_half_then_whole():
    config = TrainingConfig(steps=100, row_length=256, length_ramp_share=0.8)
    found = [row_length_at(step, config) for step in range(100)]
    assert found == [64] * 40 + [128] * 40 + [256] * 20


@pytest.mark.parametrize(("row_length", "first"), [(256, 64), (64, 32), (32, 32), (20, 20)])
def test_rows_are_never_too_short_to_learn_from(row_length, first):
    assert row_length_at(0, TrainingConfig(steps=100, row_length=row_length, length_ramp_share=1.0)) == first


def test_what_is_done_is_a_share():
    config = TrainingConfig(steps=4)
    assert [done_at(step, config) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
