"""What is generated is what the model says one token at a time, however many prompts there are and however long."""

import numpy as np
import pytest
import torch

from bothways import progress
from bothways.batch import collate, row
from bothways.errors import NonFiniteError, UserError
from bothways.inference.generate import Generated, decode_one_token, generate, prefill
from bothways.inference.reading import evaluating
from bothways.inference.sampling import Sampling
from bothways.model.cache import Cache

TRUNKS = {
    "rotary": {},
    "learned": {"position": "learned", "norm": "layer", "activation": "gelu", "bias": True},
    "post": {"norm_position": "post", "type_vocab_size": 2, "qk_norm": True},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": None},
}
LENGTHS = (5, 1, 9, 3, 9, 2)
SAMPLED = Sampling(temperature=1.0, top_k=12, top_p=0.95, repetition_penalty=1.1)


@torch.no_grad()
def greedy_without_cache(model, prompt, steps, *, prefix=False):
    """Return the likeliest continuation by reading the whole text anew for every token."""
    model.eval()
    ids = list(prompt)
    for _ in range(steps):
        batch = collate([row(ids, "causal", prefix=len(prompt) if prefix else 0)])
        logits = model.read("language_model", model(batch), batch, torch.tensor([len(ids) - 1]))
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def ids_of(results):
    return [result.ids for result in results]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_greedy_is_what_whole_passes_say(make_model, make_texts, trunk, prefix, dtype):
    model, prompts = make_model(dtype=dtype, **TRUNKS[trunk]), make_texts(*LENGTHS)
    results = generate(model, prompts, max_new_tokens=10, prefix=prefix)
    assert ids_of(results) == [greedy_without_cache(model, prompt, 10, prefix=prefix) for prompt in prompts]
    assert {result.finish_reason for result in results} == {"length"}
    assert len({tuple(ids) for ids in ids_of(results)}) > 2, "the prompts matter"


def test_a_prefix_is_read_differently(make_model, make_texts):
    model, prompts = make_model(), make_texts(9, 9, 9)
    assert generate(model, prompts, max_new_tokens=8) != generate(model, prompts, max_new_tokens=8, prefix=True)


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 8192])
def test_the_batch_changes_nothing(make_model, make_texts, sampling, batch_tokens):
    model, prompts = make_model(), make_texts(*LENGTHS)
    stop_ids = {3, 11, 20}  # rows leave the batch at different times
    alone = [
        generate(model, [prompt], max_new_tokens=12, sampling=sampling, stop_ids=stop_ids)[0] for prompt in prompts
    ]

    def together(order):
        texts = [prompts[index] for index in order]
        return generate(
            model, texts, max_new_tokens=12, sampling=sampling, stop_ids=stop_ids, batch_tokens=batch_tokens
        )

    assert together(range(6)) == alone
    assert together([4, 2, 0, 5, 3, 1]) == [alone[index] for index in [4, 2, 0, 5, 3, 1]]
    assert len({len(ids) for ids in ids_of(alone)}) > 1, "some stop early"


def test_the_seed_decides_and_a_repeated_prompt_gets_another_sample(make_model, make_texts):
    model, (prompt, other) = make_model(initializer_range=0.1), make_texts(4, 4)
    first = generate(model, [prompt] * 4 + [other], max_new_tokens=10, sampling=SAMPLED, seed=5)
    assert len({tuple(ids) for ids in ids_of(first)}) == 5
    assert generate(model, [other, prompt, prompt], max_new_tokens=10, sampling=SAMPLED, seed=5) == [
        first[4],
        first[0],
        first[1],
    ]
    assert generate(model, [prompt], max_new_tokens=10, sampling=SAMPLED, seed=6)[0] != first[0]
    assert generate(model, [prompt], max_new_tokens=10, sampling=SAMPLED, seed=2**80)


def test_different_prompts_draw_independently(make_model):
    model = make_model()
    torch.nn.init.zeros_(model.heads["language_model"].decoder.weight)  # all tokens are equally likely
    prompts = [[first, second] for first in range(12) for second in range(12)]
    drawn = ids_of(generate(model, prompts, max_new_tokens=1, sampling=Sampling(temperature=1.0)))
    assert len({ids[0] for ids in drawn}) > 20


def test_samples_have_the_probabilities_of_the_model(make_model, make_texts):
    model, (prompt,) = make_model(initializer_range=0.15, vocab_size=29), make_texts(4)
    batch = collate([row(prompt, "causal")])
    with evaluating(model, "fp32"):
        expected = model.read("language_model", model(batch), batch, torch.tensor([3])).softmax(-1)[0].numpy()
    many = 2000
    drawn = ids_of(generate(model, [prompt] * many, max_new_tokens=1, sampling=Sampling(temperature=1.0)))
    share = np.bincount([ids[0] for ids in drawn], minlength=29) / many
    assert (np.abs(share - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / many)).all()


def test_a_stop_token_ends_its_own_row_and_is_left_out(make_model, make_texts):
    model, prompts = make_model(), make_texts(*LENGTHS)
    free = generate(model, prompts, max_new_tokens=10)
    stop = free[0].ids[4]
    stopped = generate(model, prompts, max_new_tokens=10, stop_ids=[stop])
    for whole, part in zip(free, stopped, strict=True):
        if stop in whole.ids:
            assert part == Generated(ids=whole.ids[: whole.ids.index(stop)], finish_reason="stop")
        else:
            assert part == whole


def test_a_text_may_end_before_it_begins(make_model, make_texts):
    model, prompts = make_model(), make_texts(5, 2)
    firsts = [ids[0] for ids in ids_of(generate(model, prompts, max_new_tokens=1))]
    assert generate(model, prompts, stop_ids=firsts) == [Generated(ids=[], finish_reason="stop")] * 2


def test_a_continuation_ends_with_the_token_after_which_it_is_said_to_end(make_model, make_texts):
    model, prompts = make_model(), make_texts(5, 9, 2)
    whole = [each.ids for each in generate(model, prompts, max_new_tokens=10)]
    asked = []

    def ended(ids):
        asked.append(list(ids))
        return ids[:4] == whole[1][:4] or len(ids) == 7

    stopped = generate(model, prompts, max_new_tokens=10, ended=ended)
    assert [each.ids for each in stopped] == [whole[0][:7], whole[1][:4], whole[2][:7]]
    assert {each.finish_reason for each in stopped} == {"stop"}
    assert all(any(ids == text[: len(ids)] for text in whole) for ids in asked)


def test_the_context_is_the_limit(make_model, make_texts):
    model, prompts = make_model(max_position_embeddings=12, position="learned"), make_texts(12, 11, 4)
    results = generate(model, prompts, max_new_tokens=100)
    assert [len(result.ids) for result in results] == [0, 1, 8]
    assert [result.finish_reason for result in results] == ["length"] * 3
    assert ids_of(results)[2] == greedy_without_cache(model, prompts[2], 8)
    assert generate(model, prompts[:1]) == [Generated(ids=[], finish_reason="length")]


def test_a_prompt_beyond_the_context_is_refused_with_numbers(make_model, make_texts):
    with pytest.raises(UserError, match=r"prompts\[1\] has 41 tokens, but the model reads at most 40"):
        generate(make_model(), make_texts(40, 41))


def test_forbidden_tokens_never_come(make_model, make_texts):
    model, prompts = make_model(), make_texts(*LENGTHS)
    unwanted = {token for ids in ids_of(generate(model, prompts, max_new_tokens=6)) for token in ids[:2]}
    for sampling in (Sampling(), Sampling(temperature=2.0)):
        results = generate(model, prompts, max_new_tokens=6, forbidden_ids=unwanted, sampling=sampling)
        assert not unwanted & {token for ids in ids_of(results) for token in ids}


def test_processors_see_each_text_so_far_and_may_change_what_comes(make_model, make_texts):
    model, prompts = make_model(), make_texts(3, 6)
    seen = []

    def successor(logits, history):
        seen.append([list(ids) for ids in history])
        wanted = torch.tensor([(ids[-1] + 1) % 29 for ids in history])
        return logits.scatter_add(-1, wanted[:, None], torch.full_like(logits[:, :1], 1e4))

    results = generate(model, prompts, max_new_tokens=4, processors=[successor])
    for prompt, result in zip(prompts, results, strict=True):
        assert result.ids == [(prompt[-1] + step) % 29 for step in range(1, 5)]
        assert any(prompt in histories for histories in seen)
        assert any(prompt + result.ids[:3] in histories for histories in seen)


def test_a_generated_token_costs_one_token(make_model, make_texts, watch):
    model, prompts = make_model(), make_texts(9, 4, 6)
    shapes = watch(model)
    generate(model, prompts, max_new_tokens=5)
    assert shapes == [(3, 9)] + [(3, 1)] * 4, "the last token is not read any more"


def test_finished_rows_cost_nothing(make_model, make_texts, watch):
    model, prompts = make_model(max_position_embeddings=12), make_texts(10, 4)
    shapes = watch(model)
    generate(model, prompts, max_new_tokens=5)
    assert shapes == [(2, 10), (2, 1), (1, 1), (1, 1), (1, 1)]


def test_batches_are_of_like_length_and_within_the_budget(make_model, make_texts, watch):
    model, prompts = make_model(), make_texts(2, 9, 3, 10, 2)
    shapes = watch(model)
    generate(model, prompts, max_new_tokens=1, batch_tokens=21)
    assert shapes == [(2, 10), (3, 3)]


def test_the_two_steps_by_hand(make_model, make_texts):
    model, (first, second) = make_model(), make_texts(4, 2)
    with evaluating(model, "fp32"):
        cache = Cache(model.config, 2, 5, device=model.device, dtype=torch.float64)
        logits = prefill(model, cache, [first, second])
        tokens = logits.argmax(-1)
        after = decode_one_token(model, cache, tokens, torch.tensor([4, 2]))
    expected = [greedy_without_cache(model, prompt, 2) for prompt in (first, second)]
    assert torch.stack([tokens, after.argmax(-1)], dim=1).tolist() == expected


@pytest.mark.parametrize("trunk", TRUNKS)
def test_bf16_says_nearly_the_same(make_model, make_texts, trunk):
    model, prompts = make_model(dtype=torch.float32, initializer_range=0.2, **TRUNKS[trunk]), make_texts(*LENGTHS)
    logits = {}
    for precision in ("fp32", "bf16"):
        cache_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        with evaluating(model, precision):
            cache = Cache(model.config, 6, 10, device=model.device, dtype=cache_dtype)
            prefill(model, cache, prompts)
            logits[precision] = decode_one_token(model, cache, torch.arange(6), torch.tensor(LENGTHS)).float()
    difference = (logits["bf16"] - logits["fp32"]).abs().max()
    assert 0 < difference < 0.05 * logits["fp32"].abs().max()
    results = generate(model, prompts, max_new_tokens=6, precision="bf16")
    assert [len(ids) for ids in ids_of(results)] == [6] * 6


def test_the_model_is_left_as_it_was_found(make_model, make_texts):
    model = make_model(hidden_dropout=0.5, attention_dropout=0.5).train()
    model.heads.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    generate(model, make_texts(5, 3), max_new_tokens=5, sampling=SAMPLED)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state), "the user's random numbers are the user's"
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_has_no_part_in_it(make_model, make_texts):
    model, prompts = make_model(hidden_dropout=0.5), make_texts(5, 3)
    expected = generate(model.eval(), prompts, max_new_tokens=8)
    assert generate(model.train(), prompts, max_new_tokens=8) == expected


def test_the_model_is_left_as_it_was_even_after_an_error(make_model, make_texts):
    model = make_model().train()

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, make_texts(3), processors=[fail])
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


def test_it_can_be_trained_afterwards(make_model, make_texts):
    model, prompts = make_model(), make_texts(4)
    generate(model, prompts, max_new_tokens=3)
    batch = collate([row(prompts[0], "causal")])
    model.read("language_model", model(batch), batch, torch.tensor([2])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_many_prompts_show_progress(make_model, make_texts):
    moves = []

    class Reporter:
        def begin(self, description, total):
            moves.append((description, total))
            return 0

        def advance(self, _key, amount, _detail):
            moves.append(amount)

        def end(self, _key):
            moves.append("end")

    token = progress._reporter.set(Reporter())
    try:
        generate(make_model(), make_texts(4, 4, 4), max_new_tokens=2, batch_tokens=12)
    finally:
        progress._reporter.reset(token)
    assert moves == [("generating", 3), 2, 1, "end"]


def test_ids_may_come_as_arrays(make_model, make_texts):
    model, prompts = make_model(), make_texts(5, 3)
    arrays = [np.array(prompts[0], dtype=np.uint16), torch.tensor(prompts[1])]
    results = generate(model, arrays, max_new_tokens=4)
    assert results == generate(model, prompts, max_new_tokens=4)
    assert all(type(token) is int for ids in ids_of(results) for token in ids)


def test_no_prompts_give_no_texts(make_model):
    assert generate(make_model(), []) == []


def test_it_works_whatever_the_default_dtype(make_model, make_texts):
    model, prompts = make_model(dtype=torch.float32), make_texts(5, 3)
    expected = generate(model, prompts, max_new_tokens=5, sampling=SAMPLED)
    torch.set_default_dtype(torch.float64)
    try:
        assert generate(model, prompts, max_new_tokens=5, sampling=SAMPLED) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_bert_cannot_generate(make_model, make_texts):
    with pytest.raises(UserError, match="GPT generates, BERT cannot"):
        generate(make_model(attention="bidirectional"), make_texts(3))


def test_a_model_without_the_head_is_refused(make_model, make_texts):
    with pytest.raises(UserError, match="unknown head of this model: 'language_model'; legal: classification"):
        generate(make_model({"classification": 2}), make_texts(3))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1, 2], []], r"prompts\[1\] has no tokens"),
        ([[1, 29]], r"prompts\[0\] holds token id 29, but the model knows only 0 to 28"),
        ([[-1]], "holds token id -1"),
        ([[2**40]], "holds token id 1099511627776"),
        ([[1.5, 2.0]], "whole numbers"),
        ([["a", 1]], "whole numbers"),
        ([[True]], "whole numbers"),
        ([[None]], "whole numbers"),
        ([[2**70]], "whole numbers"),
        (["text"], "whole numbers"),
        ([[[1, 2]]], "whole numbers"),
        ([[[1], [2, 3]]], "whole numbers"),
        ([1, 2, 3], r"prompts\[0\] must be a list of token ids"),
    ],
)
def test_what_is_no_prompt_is_refused(make_model, prompts, message):
    with pytest.raises(UserError, match=message):
        generate(make_model(), prompts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_new_tokens": -5}, "max_new_tokens must be at least 1, not -5"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, not 0"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; legal: bf16, fp32"),
        ({"forbidden_ids": [29]}, "only 0 to 28"),
        ({"forbidden_ids": range(29)}, "nothing to generate"),
    ],
)
def test_settings_out_of_range_are_refused(make_model, make_texts, settings, message):
    with pytest.raises(UserError, match=message):
        generate(make_model(), make_texts(3), **settings)


def test_a_broken_model_says_so(make_model, make_texts):
    model = make_model()
    with torch.no_grad():
        model.transformer.norm.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="damaged"):
        generate(model, make_texts(3))
