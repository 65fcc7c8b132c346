"""The bootstrap interval: what theory expects, coverage, and other statistics than the mean."""

import numpy as np
import pytest

from bothways.errors import UserError
from bothways.metrics.bootstrap import Interval, bootstrap
from bothways.metrics.macro_f1 import macro_f1


def test_value_is_the_mean_and_lies_inside():
    values = np.random.default_rng(1).random(50)
    found = bootstrap(list(values))
    assert found.value == pytest.approx(values.mean())
    assert values.min() <= found.low < found.value < found.high <= values.max()


def test_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(2).normal(size=400)
    found = bootstrap(values, resamples=4000)
    expected = 1.96 * values.std() / 400**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.07)


def test_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        found = bootstrap(generator.random(40), resamples=200, seed=seed, level=0.9)
        hits += found.low <= 0.5 <= found.high
    assert 0.82 <= hits / 200 <= 0.96


def test_the_seed_decides():
    values = [0.0, 1.0, 1.0, 0.5, 0.2]
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)
    assert bootstrap(values, seed=5, resamples=20) != bootstrap(values, seed=6, resamples=20)


def test_a_higher_level_is_wider():
    values = list(np.random.default_rng(4).random(30))
    narrow, wide = bootstrap(values, level=0.5), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_values_leave_no_doubt():
    assert bootstrap([0.5, 0.5]) == bootstrap([0.5]) == Interval(value=0.5, low=0.5, high=0.5)


@pytest.mark.parametrize("items", [1, 9, 1000])
def test_all_right_and_all_wrong_have_clopper_and_pearson_s_interval(items):
    right, wrong = bootstrap([1.0] * items), bootstrap([False] * items)
    assert (right.value, right.high, wrong.value, wrong.low) == (1, 1, 0, 0)
    assert right.low**items == pytest.approx(0.025)  # so many in a row are right as rarely as this
    assert wrong.high == pytest.approx(1 - right.low)
    assert bootstrap([1.0] * items, level=0.9).low > right.low
    assert bootstrap([1.0] * items, statistic=np.mean, resamples=5) == right


def test_what_is_alike_and_no_end_of_the_scale_stays():
    assert bootstrap([7.0] * 9) == Interval(value=7.0, low=7.0, high=7.0)


def test_a_statistic_that_is_no_mean():
    predictions, references = list("aabbabab"), list("aabbbbab")
    found = bootstrap(
        list(zip(predictions, references, strict=True)),
        statistic=lambda drawn: macro_f1(*zip(*drawn, strict=True)),
        resamples=50,
    )
    assert found.value == pytest.approx(macro_f1(predictions, references))
    assert 0 <= found.low <= found.value <= found.high <= 1
    values = [0.1, 0.9, 0.4]
    assert bootstrap(values, statistic=np.mean).low == pytest.approx(bootstrap(values).low)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "values is empty"),
        ([1.0, float("nan")], {}, "values must be finite numbers"),
        ([1.0], {"resamples": 0}, "resamples must be at least 1, not 0"),
        ([1.0], {"level": 1.0}, "level must lie between 0 and 1, such as 0.95, not 1.0"),
        ([1.0], {"level": 95}, "level must lie between 0 and 1"),
    ],
)
def test_mistakes_are_refused(values, options, message):
    with pytest.raises(UserError, match=message):
        bootstrap(values, **options)
