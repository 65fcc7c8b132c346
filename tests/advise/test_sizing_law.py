import math

import pytest

from bothways.advise.law import LAWS, LEAST_BATCH, MOST_BATCH, Law, batch_for, law_of

LAW = Law(
    floor=2.0,
    size_factor=100.0,
    size_power=0.5,
    data_factor=1000.0,
    data_power=0.5,
    bytes_per_token=4.0,
    worth_of_repeats=10.0,
    source="a test",
)


def test_the_loss_falls_with_weights_and_text_to_a_floor():
    assert LAW.loss(10_000, 1_000_000) == pytest.approx(2.0 + 1.0 + 1.0)
    assert LAW.loss(40_000, 1_000_000) == pytest.approx(2.0 + 0.5 + 1.0)
    assert LAW.loss(10_000, 4_000_000) == pytest.approx(2.0 + 1.0 + 0.5)
    assert LAW.loss(1e30, 1e30) == pytest.approx(2.0)
    assert math.isfinite(LAW.loss(10_000, 0))


def test_fresh_text_counts_in_full_and_repeated_text_less_and_less():
    assert LAW.effective_tokens([(500, 1000)]) == 500
    assert LAW.effective_tokens([(1000, 1000)]) == 1000
    twice, thrice = (LAW.effective_tokens([(times * 1000, 1000)]) for times in (2, 3))
    assert twice == pytest.approx(1000 + 1000 * 10 * (1 - math.exp(-1 / 10)))
    assert thrice - twice < twice - 1000 < 1000
    assert LAW.effective_tokens([(1e9, 1000)]) == pytest.approx(11_000)  # R* more readings, and no more


def test_each_corpus_of_a_mixture_wears_out_by_itself():
    mixed = LAW.effective_tokens([(5000, 1000), (5000, 100_000)])
    assert mixed == LAW.effective_tokens([(5000, 1000)]) + 5000


def test_steps_grow_with_the_root_of_the_tokens_in_whole_rows():
    assert batch_for(6_550_000, 256) == 8192  # the better of two, measured
    assert batch_for(500_000 * 16, 256) == 4 * batch_for(500_000, 256)
    assert batch_for(1, 256) == LEAST_BATCH
    assert batch_for(1e15, 256) == MOST_BATCH
    assert batch_for(500_000, 192) % 192 == 0
    assert batch_for(1, 8192) == 8192  # one row


def test_every_family_has_constants_that_say_where_they_come_from():
    for law in (*LAWS.values(), law_of("bert")):
        assert law.source
        assert 0.05 < law.size_power < 1.2
        assert 0.05 < law.data_power < 1.2
        assert law.loss(1e6, 1e6) > law.loss(1e7, 1e7) > law.floor
    assert law_of("gpt") is LAWS["gpt"]
    assert law_of("nothing").source != LAWS["gpt"].source
    assert "nothing" in law_of("nothing").source
