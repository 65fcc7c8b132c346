"""The parts of the comparisons that can be wrong without anybody seeing it in the report."""

import pytest
import torch

from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.inference.encode import read_tokens
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.tasks.classification import Classification
from bothways.tasks.retrieval import Retrieval
from bothways.tasks.task import get_task
from bothways.text.reading.documents import Document
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.demonstration import comparisons
from bothways.verbs.demonstration.arms import ARMS, Arm, demonstrated, figures, start
from bothways.verbs.demonstration.comparisons import cloze, extracted, generation, side_by_side
from bothways.verbs.demonstration.planning import DemoPlan

PLAN = DemoPlan(
    minutes=1.0,
    seed=0,
    gpt_recipe="gpt-tiny",
    gpt_steps=10,
    gpt_tokens_per_second=1000.0,
    bert_recipe="bert-tiny",
    bert_steps=10,
    bert_tokens_per_second=1000.0,
)
HEADS = {"gpt": "language_model", "bert": "language_model", "retrieval-bert": "embedding"}
LABELLED = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)]


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Compute in float32 wherever this runs."""
    monkeypatch.setattr("bothways.training.machine.has_bf16", lambda _: False)


@pytest.fixture(scope="module")
def documents(texts):
    return [Document(text=file.read_text(), source=str(file)) for file in sorted(texts.rglob("*.txt"))[::5]]


@pytest.fixture(scope="module")
def out(documents, tmp_path_factory):
    """Return a folder with untrained models where the demonstration keeps its own."""
    folder = tmp_path_factory.mktemp("models")
    read = [document.text for document in documents]
    tokenizers = {
        "gpt": Tokenizer.train(read, kind="bpe", vocab_size=600),
        "bert": Tokenizer.train(read, kind="wordpiece", vocab_size=200),
    }
    for name, head in HEADS.items():
        family = name.rpartition("-")[2]
        torch.manual_seed(0)
        config = TransformerConfig(
            vocab_size=len(tokenizers[family]),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=256,
            attention="causal" if family == "gpt" else "bidirectional",
            initializer_range=0.3,
        )
        save_checkpoint(folder / name, Model(config, {head: 0}), tokenizer=tokenizers[family])
    return folder


@pytest.fixture(scope="module")
def tokenizers(out):
    return {family: Tokenizer.load(out / family) for family in ("gpt", "bert")}


# A hidden word


@pytest.fixture(scope="module")
def questions(documents, tokenizers):
    return comparisons._cloze_questions(documents, tokenizers["gpt"], tokenizers["bert"])


def test_a_question_is_a_word_of_the_text_that_is_one_token_for_both(documents, tokenizers, questions):
    assert len(questions) > len(documents) / 2
    for question in questions:
        assert any(question.before + question.word + question.after in document.text for document in documents)
        assert question.word.strip().isalpha()
        assert len(tokenizers["gpt"].encode(question.word)) == 1
        assert len(tokenizers["bert"].encode(question.word.strip())) == 1
    assert len({question.word for question in questions}) > 5


def test_gpt_is_asked_for_the_token_that_comes_next(tokenizers, questions):
    tokenizer = tokenizers["gpt"]
    for question in questions:
        ids, place, answer = comparisons._ask_gpt(question, tokenizer)
        assert ids[0] == tokenizer.special_id("bos")
        assert place == len(ids) - 1
        assert len(ids) <= comparisons.CLOZE_TOKENS + 1
        assert (question.before + question.word).endswith(tokenizer.decode([*ids[1:], answer]))


def test_bert_is_asked_for_the_token_that_was_hidden(tokenizers, questions):
    tokenizer = tokenizers["bert"]
    mask = tokenizer.special_id("mask")
    for question in questions:
        ids, place, answer = comparisons._ask_bert(question, tokenizer)
        assert ids.count(mask) == 1
        assert ids[place] == mask
        assert len(ids) <= comparisons.CLOZE_TOKENS + 3
        filled = [*ids[1:place], answer, *ids[place + 1 : -1]]
        assert all(index in tokenizer.encode(question.before + question.word + question.after) for index in filled)
        assert tokenizer.decode([answer]) == question.word.strip().lower()


def test_both_are_asked_the_same_questions(documents, out, questions):
    found = cloze(documents, out)
    assert found["sizes"] == {"test": len(questions)}
    assert found["arms"].keys() == {"gpt", "bert"}
    assert all(0 <= arm["accuracy"] <= 1 for arm in found["arms"].values())


def test_the_share_of_right_guesses_is_counted(out, questions, tokenizers):
    loaded = comparisons._load(out / "bert")
    asked = [comparisons._ask_bert(question, tokenizers["bert"]) for question in questions]
    said = read_tokens(
        loaded.model, "language_model", [ids for ids, _, _ in asked], positions=[[place] for _, place, _ in asked]
    )
    guesses = [int(logits[0].argmax()) for logits in said]
    half = [
        (ids, place, guess if number % 2 else -1)
        for number, ((ids, place, _), guess) in enumerate(zip(asked, guesses, strict=True))
    ]
    assert comparisons._share_right(loaded, half) == pytest.approx((len(asked) // 2) / len(asked))


@pytest.mark.parametrize("text", ["", "Too short to hide a word in.", "1 2 3 4 " * 200, "河流" * 400])
def test_without_a_word_to_hide_there_is_nothing(out, text):
    assert cloze([Document(text=text, source="x")], out) == {}


# A sentence chosen


def test_bert_chooses_the_sentence_nearest_to_its_passage(documents, out):
    examples = [{"passage": document.text[:600], "summary": document.text[:50]} for document in documents[:8]]
    found = extracted({"test": examples}, out)
    loaded, chosen = comparisons._load(out / "retrieval-bert"), []
    for example in examples:
        sentences = [f"{part}." for part in example["passage"].split(".") if part.strip()]
        parts = [part.strip() for part in sentences]
        parts[-1] = example["passage"].rpartition(".")[2].strip() or parts[-1]
        scores = Retrieval().similarity(loaded, [example["passage"]], parts)[0]
        chosen.append({"summary": parts[int(scores.argmax())]})
    expected = get_task("summarization").measure(chosen, examples)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


# Writing


def test_samples_are_what_follows_the_prompt_and_the_seed_decides(out):
    found = generation(["Ba ko", ""], PLAN, out)
    assert [sample["prompt"] for sample in found["samples"]] == ["Ba ko", ""] * 3
    assert generation(["Ba ko", ""], PLAN, out) == found
    assert len(found["arms"]) == 3


# Arms


@pytest.mark.parametrize("name", ARMS)
def test_every_pretrained_model_of_a_family_has_its_twin_or_rival(name):
    names = [arm.name for arm in ARMS[name]]
    assert len(set(names)) == len(names)
    for arm in ARMS[name]:
        assert arm.name.startswith(arm.family)
        assert arm.pretrained != arm.name.endswith("_not_pretrained")
    assert any(not arm.pretrained for arm in ARMS[name])


def test_the_twin_has_the_same_shape_and_other_weights(out):
    task = demonstrated("classification", {"train": LABELLED})
    trained = start(Arm(name="bert", family="bert"), task, PLAN, out).model
    twin = start(Arm(name="bert_not_pretrained", family="bert", pretrained=False), task, PLAN, out).model
    stored = comparisons._load(out / "bert").model
    assert torch.equal(trained.transformer.embed_tokens.weight, stored.transformer.embed_tokens.weight)
    assert not torch.equal(twin.transformer.embed_tokens.weight, stored.transformer.embed_tokens.weight)
    assert twin.config == trained.config
    assert list(twin.heads) == list(trained.heads) == ["classification"]
    assert trained.heads["classification"].output.out_features == 2


def test_a_twin_is_the_same_every_time(out):
    arm = Arm(name="gpt_not_pretrained", family="gpt", pretrained=False)
    task = demonstrated("classification", {"train": LABELLED})
    first, second = (start(arm, task, PLAN, out).model for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


def test_figures_have_both_ends_of_their_intervals():
    task = Classification().fitted_to(LABELLED)
    found = figures(task, [{"label": "a"}] * 20, LABELLED)
    assert found["accuracy"] == 0.5
    for name in ("accuracy", "macro_f1"):
        assert found["low"][name] <= found[name] <= found["high"][name]


# Side by side


def arm(metric, gpt, bert):
    return {"arms": {"gpt": {metric: gpt}, "bert": {metric: bert}}}


def test_what_both_can_do_stands_side_by_side():
    tasks = {"classification": arm("accuracy", 0.6, 0.7), "cloze": arm("accuracy", 0.1, 0.3)}
    rows = side_by_side(tasks, None)
    assert [(row["task"], row["gpt"], row["bert"]) for row in rows] == [
        ("classification", 0.6, 0.7),
        ("cloze", 0.1, 0.3),
    ]


@pytest.mark.parametrize(("extractive", "bert"), [({"rouge_l": 0.2}, 0.2), (None, None)])
def test_a_summary_is_written_by_one_and_chosen_by_the_other(extractive, bert):
    tasks = {"summarization": {"arms": {"gpt": {"rouge_l": 0.15}}}}
    [row] = side_by_side(tasks, extractive)
    assert (row["metric"], row["gpt"], row["bert"]) == ("rouge_l", 0.15, bert)
