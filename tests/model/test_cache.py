"""Reading a text in steps gives what reading it at once gives."""

import pytest
import torch

from bothways.batch import Batch, collate, row
from bothways.model.cache import Cache

TRUNKS = {
    "rotary": {},
    "grouped": {"num_key_value_heads": 2, "qk_norm": True, "head_size": 6},
    "learned": {"position": "learned", "norm": "layer", "activation": "gelu", "bias": True, "num_key_value_heads": 1},
    "local": {"local_window": 2, "global_every": 2},
    "post": {"position": "learned", "norm_position": "post", "type_vocab_size": 2},
}


def part_of(batch, start, stop):
    names = ("input_ids", "position_ids", "sequence_ids", "reach")
    return Batch(**{name: getattr(batch, name)[:, start:stop] for name in names})


def make_cache(model, rows, capacity):
    return Cache(model.config, rows, capacity, device=model.device, dtype=torch.float64)


def continuation(cache, tokens, positions):
    """Return [B, T] more tokens of texts that have ``positions`` [B] tokens, as a batch that reads from the cache."""
    steps = torch.arange(tokens.shape[1])
    return Batch(
        input_ids=tokens,
        position_ids=positions[:, None] + steps,
        sequence_ids=torch.zeros_like(tokens),
        reach=(cache.length + steps).expand_as(tokens),
    )


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("trunk", TRUNKS)
@torch.no_grad()
def test_steps_give_what_the_whole_gives(make_model, trunk, step):
    model = make_model(**TRUNKS[trunk])
    batch = collate([row(torch.randint(23, (11,)).tolist(), "causal") for _ in range(3)])
    cache = make_cache(model, 3, 11)
    parts = [model(part_of(batch, start, start + step), cache) for start in range(0, 11, step)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(batch), atol=1e-10, rtol=0)
    assert cache.length == 11


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("trunk", TRUNKS)
@torch.no_grad()
def test_prompts_of_unequal_length_continue_as_if_alone(make_model, trunk, prefix, step):
    model = make_model(**TRUNKS[trunk])
    lengths = torch.tensor([7, 1, 4])
    texts = [torch.randint(23, (int(length) + 4,)).tolist() for length in lengths]
    prefixes = [int(length) if prefix else 0 for length in lengths]
    alone = [model(collate([row(text, "causal", prefix=many)]))[0] for text, many in zip(texts, prefixes, strict=True)]

    cache = make_cache(model, 3, 7 + 4)
    prompts = collate([row(text[:-4], "causal", prefix=many) for text, many in zip(texts, prefixes, strict=True)])
    states = model(prompts, cache)
    for number, length in enumerate(lengths):
        torch.testing.assert_close(states[number, :length], alone[number][:length], atol=1e-10, rtol=0)
    new = torch.tensor([text[-4:] for text in texts])
    for done in range(0, 4, step):
        states = model(continuation(cache, new[:, done : done + step], lengths + done), cache)
        for number, length in enumerate(lengths):
            expected = alone[number][length + done : length + done + step]
            torch.testing.assert_close(states[number], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kept", [[2], [0, 2], [2, 1, 0], [1, 1, 1, 1]], ids=["leave", "stay", "reorder", "branch"])
@torch.no_grad()
def test_rows_leave_reorder_and_branch(make_model, kept):
    model = make_model(num_key_value_heads=2)
    lengths = torch.tensor([5, 3, 6])
    texts = [torch.randint(23, (int(length),)).tolist() for length in lengths]
    cache = make_cache(model, 3, 8)
    model(collate([row(text, "causal") for text in texts]), cache)
    cache.keep(torch.tensor(kept))
    new = torch.randint(23, (len(kept), 2))
    states = model(continuation(cache, new, lengths[kept]), cache)
    for number, origin in enumerate(kept):
        whole = model(collate([row(texts[origin] + new[number].tolist(), "causal")]))[0]
        torch.testing.assert_close(states[number], whole[-2:], atol=1e-10, rtol=0)


def test_a_full_cache_takes_no_more(make_model):
    cache = make_cache(make_model(), 2, 3)
    cache.extend(*torch.zeros(2, 2, 3, dtype=torch.int64))
    with pytest.raises(AssertionError, match="full"):
        cache.extend(*torch.zeros(2, 2, 1, dtype=torch.int64))
