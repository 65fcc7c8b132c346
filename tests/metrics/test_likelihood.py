"""Bits per byte and perplexity, by hand."""

import math

import pytest

from bothways.errors import UserError
from bothways.metrics.bits_per_byte import bits_per_byte
from bothways.metrics.perplexity import perplexity


def test_a_model_without_knowledge_needs_eight_bits_a_byte():
    assert bits_per_byte(nats=100 * math.log(256), num_bytes=100) == pytest.approx(8)


def test_bits_per_byte_does_not_depend_on_the_tokenizer():
    text = "床前明月光"  # 15 bytes, one nat for each of five tokens
    assert bits_per_byte(nats=5.0, num_bytes=len(text.encode())) == pytest.approx(5 / 15 / math.log(2))


def test_perplexity_is_the_number_of_equal_choices():
    assert perplexity(nats=7 * math.log(50), num_tokens=7) == pytest.approx(50)
    assert perplexity(nats=1e6, num_tokens=1) == math.inf
    assert perplexity(nats=math.inf, num_tokens=3) == bits_per_byte(nats=math.inf, num_bytes=3) == math.inf
    assert math.isnan(perplexity(nats=math.nan, num_tokens=3))


@pytest.mark.parametrize("count", [0, -1])
def test_an_empty_text_is_refused(count):
    with pytest.raises(UserError, match=f"at least one byte of text, and num_bytes is {count}"):
        bits_per_byte(nats=1.0, num_bytes=count)
    with pytest.raises(UserError, match=f"at least one predicted token, and num_tokens is {count}"):
        perplexity(nats=1.0, num_tokens=count)
