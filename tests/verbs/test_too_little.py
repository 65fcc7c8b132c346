"""Too little data is said early and plainly: exit code 2, one sentence with numbers and a remedy, no model built."""

import contextlib
import io
import json
import random
import re
import shlex

import pytest
import torch

from bothways.cli import main
from bothways.model.heads import Model

SMALL = (
    "--set model.hidden_size=16 --set model.num_hidden_layers=1 --set model.num_attention_heads=2 "
    "--set model.intermediate_size=32 --set training.steps=2 --set training.batch_tokens=256"
)
PREPARE = "prepare {} --out new --workers 1 --vocab-size 300"
FINETUNE = "finetune classification --model bert --out new --train {}"
NOUNS = ["river", "mountain", "engine", "kernel", "garden", "tensor", "window", "letter", "signal", "forest"]


def run(words):
    """Return exit code, stdout and stderr of a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(words))
    return code, out.getvalue(), err.getvalue()


def sentence(rng):
    return f"The {rng.choice(NOUNS)} {rng.choice(['moves', 'holds', 'reads'])} the {rng.choice(NOUNS)}."


def rows(*examples):
    return "".join(json.dumps(example) + "\n" for example in examples)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder with a prepared corpus, a small BERT, and files that hold too little."""
    folder = tmp_path_factory.mktemp("little")
    rng = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(60):
        (folder / "texts" / f"{number:02}.txt").write_text(" ".join(sentence(rng) for _ in range(10)))
    some = [{"text": f"{sentence(rng)} {number}", "label": ("good", "bad")[number % 2]} for number in range(20)]
    files = {
        "empty.txt": "",
        "newline.txt": "\n",
        "blank.txt": " \n\t\r\n\u3000\n",
        "mark.txt": "\ufeff",
        "token.txt": "a",
        "few.txt": "three short words",
        "header.csv": "text,label\n",
        "broken.jsonl": "no json\n" * 30,
        "keys.jsonl": rows({"body": "x"}, {"body": "y"}),
        "sentences.jsonl": rows(*({"text": f"{number} {sentence(rng)}"} for number in range(300))),
        "some.jsonl": rows(*some),
        "nothing.jsonl": "",
        "one-class.jsonl": rows(*({**row, "label": "good"} for row in some)),
        "one-example.jsonl": rows(some[0]),
        "one-pair.jsonl": rows({"query": "which river", "document": "the old river"}),
        "pairs.jsonl": rows(*({"query": row["text"], "document": row["text"]} for row in some)),
        "single.jsonl": rows(*some, {"text": "quite another", "label": "odd"}),
        "no-label.jsonl": rows(*({"text": row["text"]} for row in some)),
        "no-text.jsonl": rows(*({**row, "text": " "} for row in some)),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "hollow").mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = [
        "prepare texts --out data --vocab-size 90 --tokenizer wordpiece --workers 1 --validation-share 0.1",
        "prepare few.txt --out few --tokenizer data --workers 1 --validation-share 0",
        "prepare token.txt --out token --tokenizer data --workers 1 --validation-share 0",
        "prepare sentences.jsonl --out lines --tokenizer data --workers 1 --set deduplication.near=false",
        f"pretrain bert-tiny --data data --out bert {SMALL}",
    ]
    with contextlib.chdir(folder):
        for words in done:
            code, _, err = run(words)
            assert code == 0, (words, err)
    yield folder
    torch.set_num_threads(threads)


# Each input, what is done with it, and what the one sentence must say: the numbers, and the remedy.
CASES = {
    "0 bytes": (PREPARE.format("empty.txt"), "there is no text .* 0 lines"),
    "one newline": (PREPARE.format("newline.txt"), "there is no text .* 1 lines? 1 "),
    "white space": (PREPARE.format("blank.txt"), "there is no text .* 3 lines 3 "),
    "a byte order mark": (PREPARE.format("mark.txt"), "there is no text"),
    "an empty folder": (
        PREPARE.format("hollow"),
        "'hollow' holds no files: nothing to read; files that can be read end in",
    ),
    "a header alone": (PREPARE.format("header.csv"), "there is no text .* 0 lines"),
    "all rejected": (PREPARE.format("broken.jsonl --on-bad skip --max-bad 0.999"), "30 of 30 lines are bad"),
    "no text column": (PREPARE.format("keys.jsonl"), "line 1.*unknown column 'text'; legal: body"),
    "all filtered": (
        PREPARE.format("texts --set cleaning.min_characters=9999"),
        r"no document of 60 is left.*\(60\); loosen",
    ),
    "one token": (PREPARE.format("token.txt"), "the text supports .* fewer than the 300 asked for; .*more text"),
    "three words": (PREPARE.format("few.txt"), "the text supports .* fewer than the 300 asked for; .*more text"),
    "fewer tokens than a row": (
        f"pretrain bert-tiny --data few --out new {SMALL}",
        r"the training text has \d+ tokens, fewer than one row of 128; give more text or set training.row_length lower",
    ),
    "one token to train on": (
        f"pretrain bert-tiny --data token --out new {SMALL}",
        "the training text has 1 tokens?, fewer than one row of 128; give more text",
    ),
    "no pair of sentences": (
        f"pretrain bert-tiny --data lines --out new {SMALL} --set objective.pairs=sentence_order",
        "yields no example: sentence pairs need documents of more than one sentence; .*objective.pairs=none",
    ),
    "no example": (FINETUNE.format("nothing.jsonl"), "there is not one example; a file needs the columns text, label"),
    "one class": (FINETUNE.format("one-class.jsonl"), "needs at least two labels, and all 20 examples have 'good'"),
    "one example": (FINETUNE.format("one-example.jsonl"), "needs at least two labels"),
    "one pair": (
        "finetune retrieval --model bert --out new --train one-pair.jsonl",
        r"compares the examples of a step .*there is 1\)",
    ),
    "one pair a step": (
        "finetune retrieval --model bert --out new --train pairs.jsonl --set batch_size=1",
        "compares the examples of a step .*batch_size of at least 2",
    ),
    "a class with one example": (
        FINETUNE.format("single.jsonl"),
        "1 of 3 labels have only one example, such as 'odd'.*; give at least two",
    ),
    "no label": (
        FINETUNE.format("no-label.jsonl"),
        "no-label.jsonl, line 1.*unknown column 'label'; legal: text; rename a column",
    ),
    "no words": (FINETUNE.format("no-text.jsonl"), "no-text.jsonl:1: the column 'text' .* is empty"),
    "an empty validation file": (FINETUNE.format("some.jsonl --validation nothing.jsonl"), "there is not one example"),
}


@pytest.mark.parametrize("name", CASES)
def test_too_little_is_said_before_any_model_is_built(workshop, monkeypatch, tmp_path, name):
    words, expected = CASES[name]
    built = []
    make = Model.__init__

    def watched(model, config, heads):
        if torch.get_default_device().type != "meta":
            built.append(config)
        make(model, config, heads)

    monkeypatch.chdir(workshop)
    monkeypatch.setattr(Model, "__init__", watched)
    code, out, err = run(words.replace("--out new", f"--out {tmp_path}/new"))
    assert code == 2, err
    assert out == ""
    said = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1, err
    assert "Traceback" not in err
    assert re.search(expected, said[0]), said[0]
    assert not built
    assert not list(tmp_path.rglob("*.safetensors"))
