import pytest

from bothways.inference.sampling import Sampling
from bothways.tasks.generation import Generation

LONG = "the river moves under an old mountain " * 60
SIZES = [(48, 128), (48, 10), (9, 128), (200, 30)]  # positions of the model, tokens it may write


@pytest.fixture
def loaded(make_loaded):
    return make_loaded("causal", {"language_model": 0})


def tokens(loaded, text):
    return loaded.tokenizer.encode(text)


def test_only_the_continuation_is_learnt(loaded):
    row = Generation().render({"prompt": "the river", "text": " moves"}, loaded.tokenizer, loaded.model.config)
    prompt, text = tokens(loaded, "the river"), tokens(loaded, " moves")
    begin, end = loaded.tokenizer.special_id("bos"), loaded.tokenizer.special_id("eos")
    assert row.input_ids.tolist() == [begin, *prompt, *text]
    assert row.targets["language_model"].value.tolist() == [*text, end]


@pytest.mark.parametrize(("positions", "new"), SIZES)
def test_the_end_of_a_long_prompt_is_what_both_training_and_writing_see(make_loaded, positions, new):
    loaded = make_loaded("causal", {"language_model": 0}, max_position_embeddings=positions)
    config, task = loaded.model.config, Generation(max_new_tokens=new)
    prompt = task.prompt(LONG, loaded.tokenizer, config)
    assert prompt.ids[0] == loaded.tokenizer.special_id("bos")
    whole = tokens(loaded, LONG)
    assert prompt.ids[1:] == whole[-len(prompt.ids) + 1 :]
    assert len(prompt.ids) == positions - min(new, positions // 2)
    row = task.render({"prompt": LONG, "text": LONG}, loaded.tokenizer, config)
    assert row.input_ids.tolist()[: len(prompt.ids)] == prompt.ids
    assert len(row) == positions
    new = positions - len(prompt.ids)
    assert row.input_ids.tolist()[len(prompt.ids) :] == whole[:new]
    assert row.targets["language_model"].value.tolist() == whole[: new + 1]  # it goes on, and no end is learnt
    assert row.omitted == 2 * len(whole) - (len(prompt.ids) - 1) - (new + 1)


@pytest.mark.parametrize(("positions", "new"), SIZES)
def test_after_any_prompt_there_is_room_to_write(make_loaded, positions, new):
    loaded = make_loaded("causal", {"language_model": 0}, max_position_embeddings=positions, initializer_range=0.02)
    sampling = Sampling(temperature=1.0)
    [made] = Generation(max_new_tokens=new, sampling=sampling).predict(loaded, [{"prompt": LONG}])
    assert made["text"]


def test_the_seed_decides(loaded):
    task = Generation(max_new_tokens=20)
    texts = [task.predict(loaded, [{"prompt": "the river"}], seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_figures_tell_likeness_and_repetition_apart():
    examples = [{"prompt": "x", "text": "the old river moves"}] * 2
    figures = Generation().measure([{"text": "the old river moves"}, {"text": "the the the the"}], examples)
    assert figures["rouge_l"] == pytest.approx((1 + 2 * 1 / 8) / 2)
    assert figures["distinct_2"] == pytest.approx((1 + 1 / 3) / 2)


def test_the_baseline_repeats_the_prompt():
    assert Generation().baseline([{"prompt": "the river", "text": "moves"}]) == [{"text": "the river"}]
