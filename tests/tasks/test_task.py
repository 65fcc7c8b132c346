"""What the tasks share: finding them, checking examples, framing texts, writing."""

import dataclasses

import numpy as np
import pytest

from bothways.errors import UserError
from bothways.inference.generate import generate
from bothways.inference.sampling import GREEDY, Sampling
from bothways.tasks.classification import Classification
from bothways.tasks.retrieval import Retrieval
from bothways.tasks.task import Prompt, answer_row, check_examples, get_task, softmax, text_row, tokenizer_of, write
from bothways.text.reading.documents import Record

SPECIAL = {"causal": ["<|endoftext|>"], "bidirectional": ["[CLS]", "[SEP]"]}


def test_a_task_is_found_by_its_name_and_hyphens_are_underscores():
    assert get_task("classification") == Classification()
    with pytest.raises(UserError, match=r"unknown task 'clasification'; legal: .*Did you mean 'classification'"):
        get_task("clasification")


# Examples


@pytest.mark.parametrize(("label", "expected"), [(1, "1"), (0, "0"), (2.5, "2.5"), ("good", "good")])
def test_a_label_may_be_a_number(label, expected):
    [example] = check_examples(
        Classification(), [Record(values={"text": "a", "label": label}, source="x")], answers=True
    )
    assert example["label"] == expected


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (None, "must hold text, and holds null"),
        (["a"], "must hold text, and holds list"),
        (7, "must hold text, and holds int"),
    ],
)
def test_the_message_says_what_is_wrong_with_a_column(value, fault):
    with pytest.raises(UserError) as caught:
        check_examples(Classification(), [Record(values={"text": value, "label": "a"}, source="f.csv:2")], answers=True)
    assert str(caught.value) == f"f.csv:2: the column 'text' (the text to classify) {fault}"


def test_a_missing_column_is_named_beside_those_that_are_there():
    with pytest.raises(UserError) as caught:
        check_examples(Retrieval(), [Record(values={"query": "a", "text": "b"}, source="f.csv:2")], answers=True)
    assert str(caught.value).endswith("'document' (a text of the collection) is missing; there are: query, text")


def test_columns_that_no_task_asks_for_are_kept():
    values = {"text": "a", "label": "b", "id": 3}
    assert check_examples(Classification(), [Record(values=values, source="x")], answers=True) == [values]


# Rows


@pytest.mark.parametrize("attention", SPECIAL)
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_a_text_stands_in_the_frame_of_its_model_and_is_read_where_it_pools(
    tokenizers, make_loaded, attention, pooling
):
    tokenizer = tokenizers[attention]
    config = make_loaded(attention, {}, pooling=pooling).model.config
    row = text_row("the old river", tokenizer, config, max_length=20, targets={"classification": 3})
    words = tokenizer.encode("the old river")
    ids = [tokenizer.backend.token_to_id(token) for token in SPECIAL[attention]]
    assert row.input_ids.tolist() == [ids[0], *words, *ids[1:]]
    target = row.targets["classification"]
    assert target.index.tolist() == [len(row) - 1 if pooling == "last" else 0]
    assert target.value.tolist() == [3]


@pytest.mark.parametrize("attention", SPECIAL)
@pytest.mark.parametrize(("max_length", "positions", "expected"), [(5, 48, 5), (99, 12, 12), (99, 48, 48)])
def test_a_long_text_is_cut_at_its_end_and_keeps_its_frame(
    tokenizers, make_loaded, attention, max_length, positions, expected
):
    tokenizer = tokenizers[attention]
    config = make_loaded(attention, {}, max_position_embeddings=positions).model.config
    text = "river moves mountain " * 50
    row = text_row(text, tokenizer, config, max_length=max_length)
    inner = row.input_ids[1 : len(row) - len(SPECIAL[attention]) + 1]
    assert len(row) == expected
    assert inner.tolist() == tokenizer.encode(text)[: len(inner)]
    assert row.input_ids[-1] == (tokenizer.special_id("sep") if attention == "bidirectional" else inner[-1])


def test_a_text_without_tokens_needs_a_frame(make_loaded, monkeypatch):
    loaded = make_loaded("causal", {})
    assert len(text_row("", loaded.tokenizer, loaded.model.config, max_length=9)) == 1
    monkeypatch.setattr(type(loaded.tokenizer), "special_ids", {})
    with pytest.raises(UserError, match="no start token"):
        text_row("", loaded.tokenizer, loaded.model.config, max_length=9)


def test_an_answer_is_predicted_whole_with_its_end_and_the_prompt_is_not(tokenizers):
    tokenizer = tokenizers["causal"]
    begin, end = tokenizer.special_id("bos"), tokenizer.special_id("eos")
    row = answer_row(Prompt([begin, 7, 8], omitted=0), [20, 21], tokenizer, room=2)
    assert row.input_ids.tolist() == [begin, 7, 8, 20, 21]
    target = row.targets["language_model"]
    assert target.index.tolist() == [2, 3, 4]
    assert target.value.tolist() == [20, 21, end]


def test_an_answer_that_is_cut_goes_on(tokenizers):
    row = answer_row(Prompt([0, 7], omitted=5), [20, 21, 22, 23], tokenizers["causal"], room=2)
    assert row.input_ids.tolist() == [0, 7, 20, 21]
    assert row.targets["language_model"].value.tolist() == [20, 21, 22]
    assert row.omitted == 5 + 1


# Writing


def test_writing_is_generation_up_to_the_end_token(make_loaded):
    loaded = make_loaded("causal", {"language_model": 0}, max_position_embeddings=200)
    tokenizer = loaded.tokenizer
    prompts = [[tokenizer.special_id("bos"), *tokenizer.encode(text)] for text in ("the river", "a", "signal")]
    special = set(tokenizer.special_ids.values())
    texts = write(loaded, prompts, max_new_tokens=30, sampling=Sampling(temperature=3.0), seed=1)
    ids = generate(
        loaded.model,
        prompts,
        max_new_tokens=30,
        sampling=Sampling(temperature=3.0),
        stop_ids={tokenizer.special_id("eos")},
        forbidden_ids=special - {tokenizer.special_id("eos")},
        seed=1,
    )
    assert texts == [tokenizer.decode(each.ids) for each in ids]
    assert not special & {token for each in ids for token in each.ids}


def test_a_text_can_end_although_its_end_token_has_other_roles_too(make_loaded, monkeypatch):
    """Llama's </s> ends a text and is found as separator too; it must not be forbidden."""
    loaded = make_loaded("causal", {"language_model": 0})
    tokenizer = loaded.tokenizer
    prompt = [tokenizer.special_id("bos"), *tokenizer.encode("the river")]
    [first] = generate(loaded.model, [prompt], max_new_tokens=1)
    roles = {"bos": 0, "eos": first.ids[0], "sep": first.ids[0]}
    monkeypatch.setattr(type(tokenizer), "special_ids", roles)
    assert write(loaded, [prompt], max_new_tokens=5, sampling=GREEDY) == [""]


def test_a_model_without_a_tokenizer_reads_no_text(make_loaded):
    loaded = make_loaded("causal", {})
    assert tokenizer_of(loaded) is loaded.tokenizer
    with pytest.raises(UserError, match="without a tokenizer"):
        tokenizer_of(dataclasses.replace(loaded, tokenizer=None))


def test_softmax_of_huge_logits_is_a_distribution():
    found = softmax(np.array([[1e4, 0.0, -1e4], [3.0, 3.0, 3.0]], dtype=np.float32))
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found[0].tolist() == [1, 0, 0]
    assert found[1].tolist() == pytest.approx([1 / 3] * 3)
