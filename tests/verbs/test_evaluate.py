"""Measuring and answering from Python; the command line's share is in test_cli."""

import io
import json
import random

import pytest
import torch

from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.cli import main
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.progress import display
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.evaluate import evaluate, load_trained, predict, read_lines
from bothways.verbs.finetune import finetune

WORDS = ("river", "mountain", "forest", "engine", "kernel", "signal", "lovely", "awful", "moves", "holds")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with a tiny BERT, GPT and hybrid, examples, and a sorter that reads eight tokens of a text."""
    folder = tmp_path_factory.mktemp("workshop")
    torch.set_num_threads(1)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=8)) for _ in range(60)]
    tokenizers = {
        "gpt": Tokenizer.train(texts, kind="bpe", vocab_size=300),
        "bert": Tokenizer.train(texts, kind="wordpiece", vocab_size=60),
    }
    tokenizers["hybrid"] = tokenizers["gpt"]
    for name, tokenizer in tokenizers.items():
        torch.manual_seed(0)
        config = TransformerConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=64,
            attention="bidirectional" if name == "bert" else "causal",
            hybrid=name == "hybrid",
            initializer_range=0.3,
        )
        save_checkpoint(folder / name, Model(config, {"language_model": 0}), tokenizer=tokenizer)
    lines = [json.dumps({"text": text, "label": rng.choice(["good", "bad"])}) for text in texts]
    (folder / "examples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    finetune(
        "classification",
        model=folder / "bert",
        train=folder / "examples.jsonl",
        out=folder / "sorter",
        settings=["training.steps=2", "max_length=8"],
    )
    return folder


@pytest.fixture
def sorter(workshop):
    return workshop / "sorter"


# Examples


def test_texts_mappings_and_files_are_all_examples(workshop, sorter):
    lines = [json.loads(line) for line in (workshop / "examples.jsonl").read_text().splitlines()]
    texts = [line["text"] for line in lines]
    expected = predict("classification", model=sorter, examples=workshop / "examples.jsonl")
    assert len(expected) == 60
    for examples in (str(workshop / "examples.jsonl"), texts, lines, [{"text": text} for text in texts]):
        assert predict("classification", model=sorter, examples=examples) == expected
    mixed = predict("classification", model=sorter, examples=(texts[0], lines[1]))
    assert [each["label"] for each in mixed] == [each["label"] for each in expected[:2]]


def test_a_single_string_is_a_path_and_never_a_text(sorter):
    with pytest.raises(UserError, match=r"'exampels\.jsonl' does not exist"):
        predict("classification", model=sorter, examples="exampels.jsonl")


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (["fine", ""], "example 2: the column 'text'"),
        (["fine", None], "example 2: the column 'text'"),
        ([{"body": "fine"}], "example 1: the column 'text' .* is missing; there are: body"),
        ([], "not one example"),
    ],
)
def test_a_bad_example_is_named_by_its_number(sorter, examples, message):
    with pytest.raises(UserError, match=message):
        predict("classification", model=sorter, examples=examples)


def test_the_callers_examples_are_left_as_they_are(sorter):
    examples = [{"text": "a river", "label": 1}]
    predict("classification", model=sorter, examples=examples)
    assert examples == [{"text": "a river", "label": 1}]


# The model


def test_a_run_reads_as_much_of_a_text_as_it_was_trained_to(sorter):
    task, loaded = load_trained("classification", sorter)
    assert task.max_length == 8
    assert load_trained("classification", sorter / "last")[0].max_length == 8
    text = "river mountain forest engine kernel signal"
    one, other = predict("classification", model=sorter, examples=[text, f"{text} lovely awful"])
    assert len(loaded.tokenizer.encode(text)) > 6
    assert one == other


def test_without_its_run_a_model_reads_what_the_task_says(workshop, tmp_path):
    bare = (workshop / "sorter" / "last").rename(tmp_path / "model")
    try:
        assert load_trained("classification", bare)[0].max_length == 256
        (tmp_path / "experiment.json").write_text("[1]")
        assert load_trained("classification", bare)[0].max_length == 256
        (tmp_path / "experiment.json").write_text('{"task": "generation", "max_length": 9}')
        assert load_trained("classification", bare)[0].max_length == 256
    finally:
        bare.rename(workshop / "sorter" / "last")


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("classification", "bert", "no classes; fine-tune it first"),
        ("generation", "bert", r"generation needs a GPT \(causal\) model, and this one is bidirectional"),
        ("summarization", "sorter", "needs a GPT"),
        ("clasification", "sorter", "Did you mean 'classification'"),
    ],
)
def test_a_model_that_was_not_trained_for_a_task_is_refused(workshop, task, model, message):
    with pytest.raises(UserError, match=message):
        predict(task, model=workshop / model, examples=["x"])


def test_a_model_without_the_head_of_a_task_is_refused(workshop, tmp_path):
    torch.manual_seed(0)
    _, loaded = load_trained("retrieval", workshop / "gpt")
    save_checkpoint(tmp_path / "headless", Model(loaded.model.config, {}), tokenizer=loaded.tokenizer)
    with pytest.raises(UserError, match="was not trained for generation: it has no language_model head"):
        predict("generation", model=tmp_path / "headless", examples=["x"])


def test_any_model_can_retrieve_since_that_needs_no_weights_of_its_own(workshop):
    examples = [{"query": "river", "document": "a river moves"}, {"query": "engine", "document": "an engine"}]
    for model in ("gpt", "bert"):
        found = predict("retrieval", model=workshop / model, examples=examples)
        assert [sorted(each["ranking"]) for each in found] == [[0, 1]] * 2


def test_the_seed_decides_what_is_written(workshop):
    texts = [
        predict("generation", model=workshop / "gpt", examples=["river"], seed=seed)[0]["text"] for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


# Going on with a fine-tuning


def test_with_other_examples_of_the_same_number_it_does_not_go_on(workshop, tmp_path):
    train = workshop / "examples.jsonl"
    options = {"model": workshop / "bert", "out": tmp_path / "run", "settings": ["training.steps=2"], "resume": True}
    first = finetune("classification", train=train, **options)
    again = finetune("classification", train=train, **options)
    assert again.trained.steps == first.trained.steps == 2
    (tmp_path / "other.jsonl").write_text(train.read_text().replace("river", "brook"))
    with pytest.raises(UserError, match=r"cannot be resumed, because examples was '.*' and is now"):
        finetune("classification", train=tmp_path / "other.jsonl", **options)


# Scores


def test_labels_that_were_never_learnt_are_told_and_count_as_wrong(sorter, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("text,label\nriver,good\nengine,fine\nsignal,poor\n")
    with display():
        scores = evaluate("classification", model=sorter, test=tmp_path / "new.csv")
    assert "not learnt and can only get wrong: fine, poor" in capsys.readouterr().err
    assert scores.metrics["accuracy"].value <= 1 / 3
    assert scores.n == 3


def test_where_scores_cannot_be_written_nothing_is_computed(sorter, workshop):
    with pytest.raises(UserError, match="no folder"):
        evaluate("classification", model=sorter, test=workshop / "missing.csv", out=workshop / "nowhere" / "s.json")


def test_several_files_are_one_test(sorter, workshop, tmp_path):
    (tmp_path / "more.csv").write_text("text,label\nriver,good\nengine,bad\n")
    scores = evaluate("classification", model=sorter, test=[workshop / "examples.jsonl", tmp_path / "more.csv"])
    assert scores.n == 62
    assert scores.model == str(sorter)


# Overlap with what was trained on


def test_scores_say_how_much_of_the_test_was_trained_on(sorter, workshop, tmp_path):
    seen = json.loads((workshop / "examples.jsonl").read_text().splitlines()[4])
    new = [{"text": f"{word} {word}s quite new and not seen", "label": "good"} for word in ("tea", "cup", "jam")]
    lines = [json.dumps(each) for each in [*new, {**seen, "text": seen["text"].upper()}]]
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    out = tmp_path / "scores.json"
    for model in (sorter, sorter / "last"):
        scores = evaluate("classification", model=model, test=tmp_path / "test.jsonl", out=out)
        assert json.loads(out.read_text())["overlap"] == {
            "exact": 1,
            "ngram": 0,
            "near": 0,
            "share": 0.25,
            "of": 4,
            "train": [str(workshop / "examples.jsonl")],
        }
        assert scores.seen.report.examples[0].test.endswith("test.jsonl:4")
    with pytest.raises(UserError, match=r"1 of 4 examples \(25.0%: 1 the same\).*take them out"):
        evaluate("classification", model=sorter, test=tmp_path / "test.jsonl", fail_on_overlap=True)
    (tmp_path / "test.jsonl").write_text("\n".join(lines[:3]))
    scores = evaluate("classification", model=sorter, test=tmp_path / "test.jsonl", fail_on_overlap=True)
    assert scores.seen.found == 0
    assert scores.n == 3


def test_the_command_line_shows_overlap_and_fails_on_it_if_asked_to(sorter, workshop, capsys):
    words = ["evaluate", "classification", "--model", str(sorter), "--test", str(workshop / "examples.jsonl")]
    assert main(words) == 0
    assert "Overlap with the training files: 60 of 60 examples (100.0%: 60 the same)" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main([*words, "--fail-on-overlap"]) == 2
    said = capsys.readouterr()
    assert "60 of 60 examples" in said.err
    assert said.out == ""


def test_what_is_not_known_cannot_be_ruled_out(workshop, tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"query": "river", "document": "a river moves"}\n' * 2)
    scores = evaluate("retrieval", model=workshop / "bert", test=tmp_path / "pairs.jsonl")
    values = scores.to_dict()
    assert values["overlap"] is None
    assert "not known" in values["overlap_note"]
    assert values["queries_in_collection"] == 0
    with pytest.raises(UserError, match="overlap cannot be ruled out, since it is not known"):
        evaluate("retrieval", model=workshop / "bert", test=tmp_path / "pairs.jsonl", fail_on_overlap=True)


def test_validation_examples_that_are_trained_on_are_counted_and_told(workshop, tmp_path, capsys):
    lines = (workshop / "examples.jsonl").read_text().splitlines()
    (tmp_path / "validation.jsonl").write_text("\n".join([*lines[:2], '{"text": "tea and jam", "label": "good"}']))
    with display():
        done = finetune(
            "classification",
            model=workshop / "bert",
            train=workshop / "examples.jsonl",
            validation=tmp_path / "validation.jsonl",
            out=tmp_path / "run",
            settings=["training.steps=2"],
        )
    assert "Overlap of --validation with the training files: 2 of 3 examples" in capsys.readouterr().err
    overlap = done.to_dict()["validation_overlap"]
    assert overlap == {"exact": 2, "ngram": 0, "near": 0, "share": pytest.approx(2 / 3), "of": 3}
    assert "| validation_overlap.exact | 2 |" in (tmp_path / "run" / "README.md").read_text()


# Ways of reading


def test_of_a_hybrid_both_scores_of_a_sentence_count_together(workshop, tmp_path, capsys):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"good": "river moves", "bad": "moves awful river"}\n{"good": "engine", "bad": "awful kernel"}\n')
    found = {}
    for way in ("causal", "bidirectional", "both"):
        task, loaded = load_trained("minimal-pairs", workshop / "hybrid", attention=way)
        found[way] = task.scores(loaded, ["river moves"])[0]
    assert found["both"] == pytest.approx(found["causal"] + found["bidirectional"])
    assert (
        main(
            [
                "evaluate",
                "minimal-pairs",
                "--model",
                str(workshop / "hybrid"),
                "--test",
                str(pairs),
                "--attention",
                "both",
            ]
        )
        == 0
    )
    assert "2 examples, read from left to right and both ways" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("minimal-pairs", "gpt", "reads from left to right .* only"),
        ("classification", "sorter", "one way at a time: causal or bidirectional"),
    ],
)
def test_what_does_not_read_both_ways_at_once_says_so(workshop, tmp_path, task, model, message):
    columns = {"good": "river", "bad": "engine", "text": "river", "label": "good"}
    (tmp_path / "test.jsonl").write_text(json.dumps(columns))
    with pytest.raises(UserError, match=message):
        evaluate(task, model=workshop / model, test=tmp_path / "test.jsonl", attention="both")


# Lines of standard input


def read(content):
    return read_lines(io.TextIOWrapper(io.BytesIO(content)))


def test_a_line_is_a_text_or_an_object():
    lines = 'a text\r\n\n  \n {"text": "b", "id": 3}\n[1, 2]\n"quoted"\n中文'.encode()
    assert read(lines) == ["a text", {"text": "b", "id": 3}, "[1, 2]", '"quoted"', "中文"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\n\xff\n", "standard input, line 2, byte 0 of the line is not UTF-8"),
        (b'{"text": \n', "standard input, line 1 begins as a JSON object and is no valid one"),
        (b'\n\n{"text": "\\udc00"}', "standard input, line 3 begins as a JSON object"),
        (b'{"a": ' * 100_000, "standard input, line 1 begins as a JSON object"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(content, message):
    with pytest.raises(UserError, match=message):
        read(content)


def test_closed_standard_input_is_refused():
    with pytest.raises(UserError, match="standard input is closed; name a file with --input"):
        read_lines(None)
