"""Scores of sentences against Hugging Face's models and against plain loops; outcomes against counting by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
import transformers
from transformers.utils import logging

from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.errors import UserError
from bothways.metrics.bootstrap import bootstrap
from bothways.tasks.minimal_pairs import MinimalPairs, outcome, same_words
from bothways.tasks.task import check_examples
from bothways.text.reading.documents import Record
from bothways.text.tokenizing.tokenizer import Tokenizer

SENTENCE = "the river moves under an old mountain and a small engine reads one large kernel with every signal"
LM = {"language_model": 0}
SENTENCES = [
    "the river moves under an old mountain",
    "a small engine reads one kernel",
    "signals rivermountain",
    "every old river.",
]
WORDS = SENTENCE.split()


def pairs_of(rng, count):
    """Return pairs whose two sentences are random words: nothing makes one of them the better one."""
    draws = (" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) for _ in itertools.count())
    return [{"good": next(draws), "bad": next(draws)} for _ in range(count)]


@torch.no_grad()
def shake(model):
    for weight in model.parameters():
        weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.2)
    return model.eval()


def reopened(loaded, kind, folder):
    """Save a model of ours and open it as Hugging Face's."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shake(loaded.model)
    save_checkpoint(folder, loaded.model, tokenizer=loaded.tokenizer)
    return kind.from_pretrained(folder).eval()


GPT2 = {"position": "learned", "norm": "layer", "activation": "gelu_tanh", "bias": True, "norm_eps": 1e-5}
BERT = GPT2 | {
    "norm_position": "post",
    "activation": "gelu",
    "head_transform": True,
    "type_vocab_size": 2,
    "pooling": "first",
    "pooler": "tanh",
}


@torch.no_grad()
def causal_score(model, ids):
    logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[at, token]) for at, token in enumerate(ids[1:]))


@torch.no_grad()
def masked_score(model, ids, words, mask, *, until_end_of_word):
    """Score all but the first and the last token; ``words`` gives each token the number of its word."""
    total = 0.0
    for at in range(1, len(ids) - 1):
        stop = max(other for other, word in enumerate(words) if word == words[at]) if until_end_of_word else at
        hidden = [mask if at <= other <= stop else token for other, token in enumerate(ids)]
        total += float(model(input_ids=torch.tensor([hidden])).logits[0, at].log_softmax(-1)[ids[at]])
    return total


# Scores


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize(("settings", "kind"), [(GPT2, "GPT2LMHeadModel"), ({}, "LlamaForCausalLM")])
def test_a_gpt_s_score_is_that_of_hugging_face_s(make_loaded, tmp_path, settings, kind, end):
    loaded = make_loaded("causal", LM, **settings)
    published = reopened(loaded, getattr(transformers, kind), tmp_path / "saved")
    special = loaded.tokenizer.special_ids
    last = [special["eos"]] if end else []
    expected = [causal_score(published, [special["bos"], *loaded.tokenizer.encode(text), *last]) for text in SENTENCES]
    found = MinimalPairs(end=end, precision="fp32").scores(load_checkpoint(tmp_path / "saved"), SENTENCES)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("masking", ["word", "token"])
@pytest.mark.parametrize(("settings", "kind"), [(BERT, "BertForMaskedLM"), ({}, "EuroBertForMaskedLM")])
def test_a_bert_s_score_is_that_of_hugging_face_s(make_loaded, tmp_path, settings, kind, masking):
    loaded = make_loaded("bidirectional", LM, **settings)
    published = reopened(loaded, getattr(transformers, kind), tmp_path / "saved")
    tokenizer, special = loaded.tokenizer, loaded.tokenizer.special_ids
    expected, longest = [], 0
    for text in SENTENCES:
        encoding = tokenizer.encodings([text])[0]
        ids = [special["cls"], *encoding.ids, special["sep"]]
        words = [-1, *encoding.word_ids, -2]
        longest = max(longest, len(words) - len(set(words)))
        expected.append(masked_score(published, ids, words, special["mask"], until_end_of_word=masking == "word"))
    assert longest > 1, "without words of several tokens nothing is tested"
    found = MinimalPairs(masking=masking, precision="fp32").scores(load_checkpoint(tmp_path / "saved"), SENTENCES)
    assert found == pytest.approx(expected, abs=1e-4)


def test_hiding_words_whole_makes_a_difference(make_loaded):
    loaded = make_loaded("bidirectional", LM)
    by_word, by_token = (MinimalPairs(masking=each).scores(loaded, SENTENCES) for each in ("word", "token"))
    assert max(abs(one - other) for one, other in zip(by_word, by_token, strict=True)) > 0.01


def test_chinese_characters_are_words_of_their_own(make_loaded):
    texts = ["张三喜欢李四", "李四不喜欢张三", "小明读书"] * 20
    loaded = make_loaded(
        "bidirectional", LM, tokenizer=Tokenizer.train(texts, kind="wordpiece", vocab_size=30, exact=False)
    )
    by_word, by_token = (MinimalPairs(masking=each).scores(loaded, texts[:3]) for each in ("word", "token"))
    assert by_word == by_token


def test_a_hybrid_is_scored_as_it_is_told(make_loaded, tokenizers):
    hybrid = make_loaded("causal", LM, hybrid=True)
    for attention in ("causal", "bidirectional"):
        alone = make_loaded("bidirectional", LM, tokenizer=tokenizers["causal"])
        alone = alone if attention == "bidirectional" else make_loaded("causal", LM)
        alone.model.load_state_dict(hybrid.model.state_dict())
        assert MinimalPairs(attention=attention).scores(hybrid, SENTENCES) == MinimalPairs().scores(alone, SENTENCES)
    one, other = (MinimalPairs(attention=each).scores(hybrid, SENTENCES) for each in ("causal", "bidirectional"))
    assert MinimalPairs().scores(hybrid, SENTENCES) == one
    sums = [first + second for first, second in zip(one, other, strict=True)]
    assert MinimalPairs(attention="both").scores(hybrid, SENTENCES) == pytest.approx(sums, abs=1e-9)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_model_of_one_way_is_not_read_in_the_other(make_loaded, attention):
    other = {"causal": "bidirectional", "bidirectional": "causal"}[attention]
    with pytest.raises(UserError, match=r"this model reads .* only"):
        MinimalPairs(attention=other).scores(make_loaded(attention, LM), SENTENCES)
    with pytest.raises(UserError, match="only"):
        MinimalPairs(attention="both").scores(make_loaded(attention, LM), SENTENCES)


def test_a_shifted_model_is_read_at_the_position_before(make_loaded):
    loaded = make_loaded("bidirectional", LM)
    plain = MinimalPairs().scores(loaded, SENTENCES)
    loaded.model.shifted = True
    shifted = MinimalPairs().scores(loaded, SENTENCES)
    assert all(abs(one - other) > 0.01 for one, other in zip(plain, shifted, strict=True))


def test_what_is_the_same_in_tokens_ties_exactly(make_loaded):
    """The lowercase tokenizer cannot tell them apart, and neither may the place in a batch."""
    loaded, read = make_loaded("bidirectional", LM), []
    loaded.model.transformer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].num_tokens))
    MinimalPairs().scores(loaded, ["the river", "The River", "THE RIVER"])
    once = sum(read)
    MinimalPairs().scores(loaded, ["the river"])
    assert sum(read) == 2 * once
    others = [{"good": text, "bad": f"{text} river"} for text in SENTENCES]
    [*_, made] = MinimalPairs().predict(loaded, [*others, {"good": "The River moves", "bad": "the river Moves"}])
    assert made["good"] == made["bad"]
    assert outcome(made) == 0.5


def test_a_model_that_says_the_same_everywhere_gets_half(make_loaded):
    """A sum over words in another order is another sum to a computer, and no knowledge of grammar."""
    loaded = make_loaded("causal", LM, tie_word_embeddings=False)
    with torch.no_grad():
        loaded.model.transformer.norm.weight.zero_()
    rng = np.random.default_rng(0)
    examples = [{"good": " ".join(rng.permutation(WORDS)), "bad": " ".join(rng.permutation(WORDS))} for _ in range(20)]
    task = MinimalPairs(precision="fp32")
    lengths = {len(loaded.tokenizer.encode(each[side])) for each in examples for side in each}
    if len(lengths) > 1:  # the first word of a text has no space before it, and may be cut into more tokens
        examples = [{side: f"the {each[side]}" for side in each} for each in examples]
    found = task.measure(task.predict(loaded, examples), examples)
    assert found == {"accuracy": 0.5, "pair_accuracy": 0.5, "decided": 0.0, "same_words_accuracy": 0.5}


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_random_model_wins_about_half(make_loaded, attention):
    task, loaded = MinimalPairs(precision="fp32"), make_loaded(attention, LM, initializer_range=0.1)
    examples = pairs_of(np.random.default_rng(1), 300)
    found = task.intervals(task.predict(loaded, examples), examples)["accuracy"]
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(300), rel=0.15)


def test_nothing_is_cut(make_loaded):
    loaded = make_loaded("causal", LM, max_position_embeddings=10)
    with pytest.raises(
        UserError, match=r"'the river moves.*' has .* tokens, and the model reads at most 8 with their frame"
    ):
        MinimalPairs().scores(loaded, ["the", " ".join(WORDS)])
    ids = loaded.tokenizer.encode(" ".join(WORDS))
    fitting = loaded.tokenizer.decode(ids[:8])
    assert len(loaded.tokenizer.encode(fitting)) == 8
    assert len(MinimalPairs(end=True).scores(loaded, [fitting])) == 1
    with pytest.raises(UserError, match="has no tokens"):
        MinimalPairs().scores(make_loaded("bidirectional", LM), ["\u200b\u0007"])


def test_a_diverged_model_is_refused(make_loaded):
    loaded = make_loaded("causal", LM)
    with torch.no_grad():
        loaded.model.transformer.norm.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        MinimalPairs().scores(loaded, SENTENCES)


# Outcomes and figures


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [(-1.0, -2.0, 1.0), (-2.0, -1.0, 0.0), (-1.0, -1.0, 0.5), (-1.0, -1.000009, 0.5), (-1.0, -1.00002, 1.0)],
)
def test_a_tie_is_half_won(good, bad, expected):
    assert outcome({"good": good, "bad": bad}) == expected


def made(outcomes):
    return [{"good": 0.0, "bad": {1: -1.0, 0: 1.0, 0.5: 0.0}[each]} for each in outcomes]


def example(paradigm, phenomenon, good="one", bad="two"):
    return {"good": good, "bad": bad, "paradigm": paradigm, "phenomenon": phenomenon}


EXAMPLES = [
    *[example("a1", "a")] * 4,
    *[example("a2", "a", "is it", "it is")] * 2,
    *[example("b1", "b")] * 1,
]
OUTCOMES = [1, 1, 1, 0, 0, 0.5, 1]


def test_figures_are_those_counted_by_hand():
    assert MinimalPairs().measure(made(OUTCOMES), EXAMPLES) == pytest.approx(
        {
            "accuracy": (0.75 + 0.25 + 1) / 3,
            "pair_accuracy": 4.5 / 7,
            "decided": 6 / 7,
            "same_words_accuracy": 0.25,
            "other_words_accuracy": 4 / 5,
            "accuracy/a": (0.75 + 0.25) / 2,
            "accuracy/b": 1.0,
            "accuracy/a/a1": 0.75,
            "accuracy/a/a2": 0.25,
            "accuracy/b/b1": 1.0,
        }
    )


def test_pairs_without_names_have_the_figures_of_all():
    plain = [{"good": "one", "bad": "two"}] * 3
    found = MinimalPairs().measure(made([1, 0, 1]), plain)
    assert found == pytest.approx({"accuracy": 2 / 3, "pair_accuracy": 2 / 3, "decided": 1.0})


def test_a_paradigm_without_a_phenomenon_has_its_place():
    found = MinimalPairs().measure(made([1, 0]), [{"good": "one", "bad": "two", "paradigm": name} for name in "xy"])
    assert found.keys() == {"accuracy", "pair_accuracy", "decided", "accuracy/-/x", "accuracy/-/y"}


def test_the_order_of_the_pairs_changes_nothing():
    task, order = MinimalPairs(), [6, 2, 5, 0, 4, 1, 3]
    one = task.intervals(made(OUTCOMES), EXAMPLES, seed=2)
    other = task.intervals(made([OUTCOMES[at] for at in order]), [EXAMPLES[at] for at in order], seed=2)
    assert one == other
    assert list(one) == list(other)


def test_intervals_are_those_of_the_plain_bootstrap():
    rng = np.random.default_rng(0)
    outcomes = rng.choice([0, 0.5, 1], p=[0.3, 0.1, 0.6], size=400).tolist()
    task, one = MinimalPairs(), [example("a1", "a")] * 400
    found = task.intervals(made(outcomes), one)["accuracy"]
    plain = bootstrap(outcomes)
    assert found.value == pytest.approx(plain.value)
    assert [found.low, found.high] == pytest.approx([plain.low, plain.high], abs=0.01)
    # Four paradigms of a hundred, all won or all lost: what is drawn within them cannot change anything.
    sure = task.intervals(made([1] * 200 + [0] * 200), [example(f"a{at // 100}", "a") for at in range(400)])
    assert sure["accuracy"].low == sure["accuracy"].value == sure["accuracy"].high == 0.5
    assert sure["pair_accuracy"].low < 0.5 < sure["pair_accuracy"].high
    assert found != task.intervals(made(outcomes), one, seed=1)["accuracy"]


def test_one_pair_of_each_paradigm_is_no_certainty():
    many = [example(f"a{at}", "a") for at in range(100)]
    found = MinimalPairs().intervals(made([1, 0] * 50), many)
    assert found["accuracy"].low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert found["accuracy"].high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    plain = bootstrap([1.0, 0.0] * 50)
    assert [found["accuracy"].low, found["accuracy"].high] == pytest.approx([plain.low, plain.high], abs=0.02)


def test_all_won_and_all_lost_are_no_certainty():
    unlike = [example("a1", "a")] * 30 + [example("a2", "a")] * 12
    won, lost = (MinimalPairs().intervals(made([outcome] * 42), unlike) for outcome in (1, 0))
    assert (won["accuracy"].low, won["accuracy"].high) == pytest.approx((0.025 ** (1 / 24), 1))
    assert (won["pair_accuracy"].low, won["pair_accuracy"].high) == pytest.approx((0.025 ** (1 / 42), 1))
    assert (lost["accuracy"].low, lost["accuracy"].high) == pytest.approx((0, 1 - 0.025 ** (1 / 24)))


@pytest.mark.parametrize("few", [15, 30])
def test_an_unlike_number_of_pairs_does_not_weigh(few):
    unlike = [example("a1", "a")] * 300 + [example("a2", "a")] * few
    found = MinimalPairs().intervals(made([1, 0, 1] * 100 + [0, 1, 0] * (few // 3)), unlike)["accuracy"]
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    spread = 1.96 * math.sqrt(2 / 9 / 300 + 2 / 9 / few) / 2
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.25)


def test_the_baseline_prefers_what_is_shorter():
    task = MinimalPairs()
    examples = [{"good": good, "bad": bad} for good, bad in (("ab", "abc"), ("abc", "ab"), ("ab", "ba"))]
    assert [outcome(each) for each in task.baseline(examples)] == [1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Who should Ann hug?", "Ann should hug who?", True),
        ("Who should Ann hug?", "Who should Ann hugs?", False),
        ("the cat the dog", "the cat dog", False),
        ("The cat sleeps.", "the cat sleeps", False),
        ("你们在喝一杯红茶。", "你们一杯红茶在喝。", True),
        ("何太太把王五奖励了一下。", "何太太把王五奖励了她一下。", False),
    ],
)
def test_permutations_are_known(first, second, same):
    assert same_words(first, second) is same


def test_columns_may_have_the_names_of_the_benchmarks():
    values = {"sentence_good": "a b", "sentence_bad": "b a", "UID": "order", "linguistics_term": "word_order", "n": 1}
    [found] = check_examples(MinimalPairs(), [Record(values=values, source="x:1")], answers=True)
    assert found == {"good": "a b", "bad": "b a", "paradigm": "order", "phenomenon": "word_order", "n": 1}
    both = {"good": "ours", "sentence_good": "theirs", "bad": "b"}
    assert check_examples(MinimalPairs(), [Record(values=both, source="x:1")], answers=True)[0]["good"] == "ours"
