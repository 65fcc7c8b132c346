import pytest

from bothways.errors import UserError
from bothways.tasks.summarization import CUE, Summarization, first_sentence
from bothways.text.tokenizing.tokenizer import Tokenizer

LONG = "the river moves under an old mountain " * 60


@pytest.fixture
def loaded(make_loaded):
    return make_loaded("causal", {"language_model": 0})


def test_the_summary_follows_the_separator_and_is_all_that_is_learnt(loaded):
    tokenizer = loaded.tokenizer
    example = {"text": " the old river\n", "summary": " a river "}
    row = Summarization().render(example, tokenizer, loaded.model.config)
    passage, summary = tokenizer.encode("the old river"), tokenizer.encode("a river")
    special = tokenizer.special_ids
    assert row.input_ids.tolist() == [special["bos"], *passage, special["sep"], *summary]
    assert row.targets["language_model"].value.tolist() == [*summary, special["eos"]]


def test_without_a_separator_words_ask_for_the_summary(loaded, monkeypatch):
    tokenizer = loaded.tokenizer
    roles = {role: index for role, index in tokenizer.special_ids.items() if role != "sep"}
    monkeypatch.setattr(Tokenizer, "special_ids", roles)
    prompt = Summarization().prompt("the old river", tokenizer, loaded.model.config)
    assert tokenizer.decode(prompt.ids) == f"the old river{CUE}"


@pytest.mark.parametrize(("positions", "most_new"), [(48, 24), (16, 8), (200, 48)])
def test_the_beginning_of_a_long_passage_is_read_and_half_the_room_is_left(make_loaded, positions, most_new):
    loaded = make_loaded("causal", {"language_model": 0}, max_position_embeddings=positions)
    tokenizer, config = loaded.tokenizer, loaded.model.config
    prompt = Summarization().prompt(LONG, tokenizer, config)
    whole = tokenizer.encode(LONG.strip())
    assert len(prompt.ids) == positions - most_new
    assert prompt.ids[1:-1] == whole[: len(prompt.ids) - 2]
    row = Summarization().render({"text": LONG, "summary": LONG}, tokenizer, config)
    assert len(row) == positions
    assert row.input_ids.tolist()[: len(prompt.ids)] == prompt.ids
    assert row.targets["language_model"].value.tolist() == whole[: most_new + 1]  # it goes on, and no end is learnt
    assert row.omitted == 2 * len(whole) - (len(prompt.ids) - 2) - (most_new + 1)


def test_max_length_bounds_the_passage_with_its_frame(make_loaded):
    loaded = make_loaded("causal", {}, max_position_embeddings=400)
    assert len(Summarization(max_length=20).prompt(LONG, loaded.tokenizer, loaded.model.config).ids) == 20


def test_a_model_that_reads_too_little_is_refused(make_loaded):
    loaded = make_loaded("causal", {}, max_position_embeddings=4)
    with pytest.raises(UserError, match="4 tokens, all that this model reads, hold no passage"):
        Summarization().prompt(LONG, loaded.tokenizer, loaded.model.config)


def test_a_summary_has_no_space_around_it_and_is_the_same_for_every_seed(loaded):
    found = [Summarization().predict(loaded, [{"text": LONG}], seed=seed) for seed in (0, 1)]
    assert found[0] == found[1]
    assert found[0][0]["summary"] == found[0][0]["summary"].strip()


def test_the_baseline_is_the_first_sentence():
    assert Summarization().baseline([{"text": "One river. Two rivers."}]) == [{"summary": "One river."}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  One river. Two. ", "One river."),
        ("no stop at all", "no stop at all"),
        ("一条河。两条河。", "一条河。"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_the_first_sentence(text, expected):
    assert first_sentence(text) == expected
