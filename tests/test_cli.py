"""The command line: the main job end to end, exit codes, and every mistake answered by one sentence that names it."""

import contextlib
import fcntl
import inspect
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bothways
from bothways.cli import command, main
from bothways.evaluation.run_summary import SORTABLE
from bothways.training import fitting

TINY = (
    "--set model.hidden_size=16 --set model.num_hidden_layers=1 --set model.num_attention_heads=2 "
    "--set model.intermediate_size=32 --set model.max_position_embeddings=64 --set training.row_length=64 "
    "--set training.batch_tokens=256 --set training.micro_batch_tokens=256"
)
GPT = f"gpt-tiny --data data {TINY} --set training.steps=5"
BERT = f"bert-tiny --data data-bert {TINY} --set training.steps=5 --set objective.sequence_length=32"
VERBS = list(command.commands)

# The main job, in order; what each gave is kept for the tests.
MAIN_JOB = {
    "prepare": "prepare texts --out data --vocab-size 300 --validation-share 0.1",
    "prepare as JSON": "prepare texts --out data-bert --tokenizer wordpiece --vocab-size 90 --json",
    "pretrain": f"pretrain {GPT} --out gpt --json",
    "pretrain a BERT": f"pretrain {BERT} --out bert",
    "finetune": "finetune classification --model bert --train train.jsonl --validation test.csv --out sorter --json",
    "evaluate": "evaluate classification --model sorter --test test.csv --out scores.json",
    "evaluate as JSON": "evaluate classification --model sorter --test test.csv --json",
    "predict": "predict classification --model sorter --input test.csv",
    "predict as JSON": "predict classification --model sorter --input test.csv --json",
    "predict to a file": "predict classification --model sorter --input test.csv --out predictions.jsonl",
    "generate": 'generate --model gpt "The river" --max-new-tokens 8',
    "generate as JSON": 'generate --model gpt "The river" --max-new-tokens 8 --json',
}


class Said:
    """What a command line printed, and its exit code."""

    def __init__(self, words):
        streams = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            self.code = main(shlex.split(words) if isinstance(words, str) else words)
        self.out, self.err = (stream.getvalue() for stream in streams)


def process(words, **options):
    """Start the command line as a user does."""
    options.setdefault("env", {**os.environ, "OMP_NUM_THREADS": "1"})
    return subprocess.Popen(
        [sys.executable, "-m", "bothways", *shlex.split(words)],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **options,
    )


def sentence(rng):
    things = ["river", "mountain", "engine", "kernel", "garden", "tensor", "window", "letter", "signal", "forest"]
    return f"The {rng.choice(things)} {rng.choice(['moves', 'holds', 'reads'])} the {rng.choice(things)}."


def write_texts(folder):
    rng = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(60):
        text = " ".join(sentence(rng) for _ in range(10))
        (folder / "texts" / f"{number:02}.txt").write_text(text, encoding="utf-8")
    rows = [(f"{sentence(rng)} {word}.", label) for word, label in [("wonderful", "good"), ("awful", "bad")] * 12]
    train = [json.dumps({"text": text, "label": label}) for text, label in rows]
    (folder / "train.jsonl").write_text("\n".join(train), encoding="utf-8")
    test = [f'"{text}",{label}' for text, label in rows[:8]]
    (folder / "test.csv").write_text("text,label\n" + "\n".join(test), encoding="utf-8")


BAD_FILES = {
    "empty.txt": b"",
    "blank.txt": b" \n\t\r\n",
    "binary.txt": b"PK\x03\x04\x00\x00",
    "latin.txt": b"a good line\nbad \xff here\n",
    "few.txt": b"one two three",
    "key.jsonl": b'{"body": "x", "label": "good"}\n',
    "cut.jsonl": b'{"text": "x"}\n{"text": "y',
    "null.jsonl": b'{"text": null, "label": "good"}\n',
    "header.csv": b"text,label\n",
    "column.csv": b"body,label\na,b\n",
    "one-class.jsonl": b'{"text": "a", "label": "good"}\n{"text": "b", "label": "good"}\n',
    "no-label.jsonl": b'{"text": "a"}\n',
    "new-label.jsonl": b'{"text": "a", "label": "fine"}\n',
    "surrogate.jsonl": b'{"text": "\\ud800"}\n',
    "pictures/a.png": b"\x89PNG",
    "twice.json": b'{"seed": 1, "seed": 2}',
    "unknown.json": b'{"modle": {}}',
}


def flip(file):
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def write_bad_files(folder):
    for name, content in BAD_FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for source, copy in [("gpt", "flipped"), ("data", "edited"), ("gpt/best", "cut-short"), ("gpt/best", "bare")]:
        shutil.copytree(folder / source, folder / copy)
    flip(folder / "flipped" / "best" / "model.safetensors")
    flip(folder / "edited" / "train-00000.bin")
    (folder / "cut-short" / "manifest.json").unlink()
    os.truncate(folder / "cut-short" / "model.safetensors", 1000)
    (folder / "bare" / "config.json").unlink()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Return a folder in which the main job was done, and what was said on the way."""
    folder = tmp_path_factory.mktemp("workshop")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_texts(folder)
    with contextlib.chdir(folder):
        said = {name: Said(words) for name, words in MAIN_JOB.items()}
    write_bad_files(folder)
    yield folder, said
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def inside(workshop, monkeypatch):
    monkeypatch.chdir(workshop[0])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def said(workshop):
    return workshop[1]


# The main job


@pytest.mark.parametrize("name", MAIN_JOB)
def test_the_main_job_is_done_and_only_the_result_is_on_stdout(said, name):
    assert said[name].code == 0, said[name].err
    assert said[name].out
    if "--json" in MAIN_JOB[name]:
        assert isinstance(json.loads(said[name].out), dict)
        assert said[name].out.count("\n") == 1
    assert "\x1b" not in said[name].out, "no colours where there is no terminal"


def test_prepare_says_what_it_made(said):
    assert "train" in said["prepare"].out
    assert "Next: bothways pretrain" in said["prepare"].out
    values = json.loads(said["prepare as JSON"].out)
    assert values["data"] == "data-bert"
    assert values["vocab_size"] == 90
    assert values["splits"]["train"]["documents"] + values["splits"]["validation"]["documents"] == 60


def test_prepare_says_how_much_of_mixed_text_is_in_which_language(said, tmp_path):
    (tmp_path / "texts").mkdir()
    for number in range(40):
        english, chinese = f"Letter {number} is here. " * 9, f"第{number}封信在这里。" * 9
        (tmp_path / "texts" / f"{number:02}.txt").write_text(chinese if number % 4 else english, encoding="utf-8")
    mixed = Said(f"prepare {tmp_path}/texts --out {tmp_path}/data --vocab-size 280 --set deduplication.near=false")
    assert re.search(r"language zh [78]\d %, en [12]\d %$", mixed.out, flags=re.MULTILINE)
    looked_at = " ".join(Said(f"inspect {tmp_path}/data").out.split())
    assert re.search(r"language │ zh [78]\d %, en [12]\d %", looked_at)
    assert re.search(r"language en$", said["prepare"].out, flags=re.MULTILINE)


def test_pretrain_and_finetune_report_the_figures_of_the_run(said):
    values = json.loads(said["pretrain"].out)
    assert values["run"] == "gpt"
    assert values["steps"] == 5
    assert values["validation"]["bits_per_byte"] > 0
    assert "next sentence accuracy" in said["pretrain a BERT"].out
    assert 0 <= json.loads(said["finetune"].out)["validation"]["accuracy"] <= 1


def test_evaluate_shows_each_figure_with_its_interval_beside_the_baseline(said):
    accuracy = json.loads(said["evaluate as JSON"].out)["metrics"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert json.loads(Path("scores.json").read_text()) == json.loads(said["evaluate as JSON"].out)
    assert f"{accuracy['low']:.4g} to {accuracy['high']:.4g}" in said["evaluate"].out
    assert "baseline" in said["evaluate"].out


def test_predictions_are_lines_of_json_in_the_order_of_the_examples(said):
    lines = [json.loads(line) for line in said["predict"].out.splitlines()]
    assert len(lines) == 8
    assert all(line["label"] in ("good", "bad") for line in lines)
    assert json.loads(said["predict as JSON"].out)["predictions"] == lines
    assert [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()] == lines


def test_predict_reads_texts_and_objects_from_stdin(said, monkeypatch):
    rows = [line.rpartition(",")[0].strip('"') for line in Path("test.csv").read_text().splitlines()[1:3]]
    stdin = f"{rows[0]}\r\n\n{json.dumps({'text': rows[1]})}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    assert Said("predict classification --model sorter").out.splitlines() == said["predict"].out.splitlines()[:2]


def test_generate_goes_on_with_the_prompt_and_the_seed_decides(said):
    assert said["generate"].out.startswith("The river")
    values = json.loads(said["generate as JSON"].out)
    assert values["text"] + "\n" == said["generate"].out
    assert Said(MAIN_JOB["generate"]).out == said["generate"].out
    assert Said(MAIN_JOB["generate"] + " --seed 1").out != said["generate"].out
    assert Said("generate --model gpt --max-new-tokens 3").code == 0, "without a prompt it begins a text"


def test_a_tokenizer_and_a_model_are_taken_from_earlier_work():
    assert Said("prepare texts --out again --tokenizer data").code == 0
    assert Path("again/tokenizer.json").read_bytes() == Path("data/tokenizer.json").read_bytes()
    assert Said(f"pretrain {GPT} --out further --from gpt").code == 0


def test_an_old_model_is_converted_and_used(tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path("gpt/best") / name, tmp_path / name)
    torch.save(load_file("gpt/best/model.safetensors"), tmp_path / "pytorch_model.bin")
    refused = Said(f"generate --model {tmp_path} 'The river'")
    assert refused.code == 2
    convert = re.search(r"`bothways (convert-pickle .*)`", refused.err)[1].replace("FOLDER", str(tmp_path / "new"))
    converted = Said(convert)
    assert converted.code == 0, converted.err
    assert "It opens: llama" in converted.out
    assert "Copied: config.json, tokenizer_config.json, tokenizer.json" in converted.out
    written = Said(f"generate --model {tmp_path / 'new'} 'The river' --max-new-tokens 8")
    assert written.out == Said("generate --model gpt/best 'The river' --max-new-tokens 8").out
    values = json.loads(Said(f"convert-pickle {tmp_path} --out {tmp_path / 'again'} --json").out)
    assert values["opened"]["family"] == "llama"
    assert values["refused"] is None


# Stopping and going on


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on_to_the_very_same_weights(monkeypatch, tmp_path, number, code):
    run = f"pretrain {GPT} --set model.hidden_dropout=0.1 --out {tmp_path}"
    take_step = fitting.Fitting.take_step

    def stop_after_the_second(fitting):
        losses = take_step(fitting)
        if fitting.step == 2:
            os.kill(os.getpid(), number)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Fitting, "take_step", stop_after_the_second)
        stopped = Said(f"{run}/stopped")
    assert stopped.code == code
    assert "stopped after step 2 of 5" in stopped.err
    assert "--resume" in stopped.err
    again = Said(f"{run}/stopped")
    assert again.code == 2
    assert "holds an interrupted run; go on with it by --resume" in again.err
    assert "step 2" in Said(f"{run}/stopped --resume").err
    assert Said(f"{run}/straight").code == 0
    stopped, straight = (tmp_path / name / "last" / "model.safetensors" for name in ("stopped", "straight"))
    assert stopped.read_bytes() == straight.read_bytes()


def test_ctrl_c_in_a_real_process(tmp_path):
    run = process(f"pretrain {GPT} --out {tmp_path}/run --set training.steps=1000000 --set training.save_every=2")
    while not list(tmp_path.glob("run/checkpoints/step-*")) and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert b"goes on with --resume" in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_preparation_leaves_nothing_behind(monkeypatch, tmp_path, number):
    monkeypatch.setattr("bothways.verbs.preparing.write_manifest", lambda *_: os.kill(os.getpid(), number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        code = Said(f"prepare texts --out {tmp_path}/data --vocab-size 300").code
    except SystemExit as stop:
        code = stop.code
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = Said(f"pretrain {GPT} --out {tmp_path}")
    assert second.code == 2
    assert f"another run is writing to '{tmp_path}'" in second.err
    assert Said(f"pretrain {GPT} --out {tmp_path}").code == 0


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("--set training.learning_rate=0.1", "training.learning_rate was 0.006 and is now 0.1"),
        ("--set training.steps=6", "training.steps was 5 and is now 6"),
        ("--set seed=1", "seed was 0 and is now 1"),
        ("--from gpt", "from was None and is now 'gpt'"),
        ("--data again", "data was ['data'] and is now ['data', 'again']"),
    ],
)
def test_a_run_is_not_resumed_as_something_else(change, difference):
    if "again" in change and not Path("again").exists():
        assert Said("prepare texts --out again --tokenizer data").code == 0
    before = Path("gpt/experiment.json").read_bytes()
    words = shlex.split(f"pretrain {GPT} --out gpt --resume {change}")
    refused = Said(words)
    assert refused.code == 2
    assert difference in refused.err
    assert Path("gpt/experiment.json").read_bytes() == before


# Mistakes: the command line, what its one sentence must say, and the exit code where it is not 2

NEW = "--out new"
MISTAKES = [
    # corpora
    (f"prepare missing.txt {NEW}", "'missing.txt' does not exist"),
    (f"prepare empty.txt {NEW}", "there is no text"),
    (f"prepare blank.txt {NEW}", "there is no text"),
    (f"prepare binary.txt {NEW}", "'binary.txt' holds .zip data"),
    (f"prepare latin.txt {NEW}", "latin.txt, line 2, byte 16: byte 0xff is not valid UTF-8"),
    (f"prepare key.jsonl {NEW}", "key.jsonl, line 1, byte 0: unknown column 'text'; legal: body, label"),
    (f"prepare cut.jsonl {NEW}", "cut.jsonl, line 2, byte 14"),
    (f"prepare surrogate.jsonl {NEW}", "half of a surrogate pair"),
    (f"prepare header.csv {NEW}", "there is no text"),
    (f"prepare column.csv {NEW}", "column.csv, line 2, byte 11: unknown column 'text'"),
    (f"prepare train.jsonl {NEW} --text-column txt", "Did you mean 'text'? Name another with --text-column, or"),
    (f"prepare pictures {NEW}", "'pictures' holds .png (1)"),
    (f"prepare /dev/zero {NEW}", "'/dev/zero'"),
    (f"prepare few.txt {NEW} --vocab-size 300", "lower --vocab-size or give more text"),
    (f"prepare texts {NEW} --vocab-size 100000", "fewer than the 100000 asked for"),
    (f"prepare texts {NEW} --vocab-size 1", "1 were asked for; raise --vocab-size"),
    (f"prepare texts {NEW} --vocab-size 99999999999999999999", "--vocab-size must be at most"),
    (f"prepare texts {NEW} --vocab-size many", "'--vocab-size': 'many' is not a valid integer"),
    (f"prepare texts {NEW} --tokenizer wordpeice", "'wordpeice'"),
    (f"prepare texts {NEW} --tokenizer twice.json", "the key 'seed' is repeated"),
    (f"prepare texts {NEW} --validation-share 2", "--validation-share must be in [0, 1), not 2.0"),
    (f"prepare texts {NEW} --test-share nan", "--test-share must be in [0, 1), not nan"),
    (f"prepare texts {NEW} --on-bad ignore", "'ignore' is not one of 'error', 'replace', 'skip'"),
    (f"prepare texts {NEW} --language fr", "'fr' is not one of 'auto', 'en', 'zh'"),
    ("prepare texts --out data", "the folder 'data' is not empty"),
    ("prepare texts --out train.jsonl", "'train.jsonl' is a file"),
    ("prepare texts --out train.jsonl/data", "'train.jsonl' is no folder"),
    ("prepare texts", "Missing option '--out'"),
    (f"prepare {NEW}", "Missing argument 'PATH...'"),
    # pretraining
    (f"pretrain gpt-tinny --data data {NEW}", "unknown recipe 'gpt-tinny'", "Did you mean 'gpt-tiny'?"),
    (f"pretrain gpt-tiny --data nowhere {NEW}", "'nowhere' is not a prepared corpus"),
    (f"pretrain gpt-tiny --data texts {NEW}", "'texts' is not a prepared corpus", "bothways prepare"),
    (f"pretrain gpt-tiny --data edited {NEW}", "'edited/train-00000.bin' is damaged", 3),
    (f"pretrain {GPT} --data data-bert {NEW}", "'data-bert' was prepared with another tokenizer", "--tokenizer data "),
    (f"pretrain {GPT} --data ./data {NEW}", "'data' is given twice"),
    (f"pretrain gpt-tiny --data data:0 {NEW}", "the weight of 'data' must be above 0 and finite, not 0"),
    (f"pretrain gpt-tiny --data data:half {NEW}", "the weight of 'data' must be a number above 0, not 'half'"),
    (f"pretrain gpt-tiny --data nowhere:2 {NEW}", "'nowhere' is not a prepared corpus"),
    (f"pretrain {GPT} {NEW} --allow-change data", "give --resume, too"),
    (f"pretrain {GPT} {NEW} --resume --allow-change date", "--allow-change: 'date'", "Did you mean 'data'?"),
    (f"pretrain none.json --data data {NEW}", "there is no file 'none.json'"),
    (f"pretrain twice.json --data data {NEW}", "the key 'seed' is repeated"),
    (f"pretrain unknown.json --data data {NEW}", "unknown setting 'modle'", "Did you mean 'model'?"),
    (f"pretrain {GPT} {NEW} --set training", "'training' has no '='"),
    (f"pretrain {GPT} {NEW} --set training.lerning_rate=1", "Did you mean 'training.learning_rate'?"),
    (f"pretrain {GPT} {NEW} --set steps=9", "unknown setting 'steps'", "Did you mean 'training.steps'?"),
    (f"pretrain {GPT} {NEW} --set training.steps=abc", "training.steps must be a whole number, not 'abc'"),
    (f"pretrain {GPT} {NEW} --set training.steps=1.5", "training.steps must be a whole number, not 1.5"),
    (f"pretrain {GPT} {NEW} --set training.steps=-1", "training.steps must be between", "not -1"),
    (f"pretrain {GPT} {NEW} --set training.steps=9999999999999999999", "not 9999999999999999999"),
    (f"pretrain {GPT} {NEW} --set training.steps=0", "training.steps is 0"),
    (f"pretrain {GPT} {NEW} --set training.learning_rate=nan", "training.learning_rate must be a finite number"),
    (f"pretrain {GPT} {NEW} --set training.learning_rate=inf", "training.learning_rate must be a finite number"),
    (f"pretrain {GPT} {NEW} --set training.learning_rate=-1", "training.learning_rate must be above 0"),
    (f"pretrain {GPT} {NEW} --set training.learning_rate=1e-400", "training.learning_rate must be above 0"),
    (f"pretrain {GPT} {NEW} --set training.batch_tokens=0", "training.batch_tokens must be between 1"),
    (f"pretrain {GPT} {NEW} --set training.schedule=cosin", "Did you mean 'cosine'?"),
    (f"pretrain {GPT} {NEW} --set training.learning_rate=1e30", "not finite", 4),
    (f"pretrain {GPT} {NEW} --set model.num_attention_heads=3", "must be a multiple of model.num_attention_heads (3)"),
    (f"pretrain {GPT} {NEW} --set model.max_position_embeddings=1", "exceed model.max_position_embeddings (1)"),
    (f"pretrain {GPT} {NEW} --set model.vocab_size=7", "model.vocab_size is 7", "tokenizer has 300"),
    ("plan gpt --data data --minutes 1 --set model.vocab_size=7", "model.vocab_size is 7", "leave it out"),
    (f"pretrain {GPT} {NEW} --set model.hidden_size=9000000000000", "not enough memory"),
    (f"pretrain {GPT} {NEW} --set seed=-1", "seed must be between 0 and", "not -1"),
    (f"pretrain {GPT} {NEW} --minutes 1", "--minutes and --set training.steps both"),
    (f"pretrain gpt-tiny --data data {NEW} --minutes 0", "--minutes must be above 0, not 0.0"),
    (f"pretrain gpt-tiny --data data {NEW} --minutes nan", "--minutes must be above 0, not nan"),
    (f"pretrain gpt-tiny --data data {NEW} --minutes soon", "'--minutes': 'soon' is not a valid float"),
    (f"pretrain gpt-tiny --data data-bert {NEW}", "no bos token", "--tokenizer bpe"),
    (f"pretrain {GPT} {NEW} --from bert", "'bert' has a vocabulary of 90 tokens", "--tokenizer bert"),
    (
        f"pretrain bert-tiny --data data {NEW} --from gpt",
        "'gpt' reads causal",
        "start from such a model, or from a hybrid",
    ),
    (f"pretrain {GPT} {NEW} --from gpt --set model.norm_eps=0.1", "--set model.norm_eps=0.1 does not go with --from"),
    (f"pretrain {GPT} {NEW} --from flipped", "'flipped/best/model.safetensors' is damaged", 3),
    (f"pretrain {GPT} --out gpt", "the folder 'gpt' is not empty"),
    (f"pretrain {GPT} --out scores.json", "'scores.json' is a file"),
    (f"pretrain {GPT} {NEW} extra", "unexpected extra argument (extra)"),
    # fine-tuning
    (f"finetune clasification --model bert --train train.jsonl {NEW}", "Did you mean 'classification'?"),
    (f"finetune classification --model bert --train one-class.jsonl {NEW}", "at least two labels", "'good'"),
    (f"finetune classification --model bert --train no-label.jsonl {NEW}", "no-label.jsonl, line 1", "'label'"),
    (f"finetune classification --model bert --train null.jsonl {NEW}", "null.jsonl, line 1", "null"),
    (f"finetune classification --model bert --train header.csv {NEW}", "not one example", "text, label"),
    (f"finetune classification --model bert --train few.txt {NEW}", "'few.txt' has the suffix '.txt'"),
    (f"finetune classification --model bert --train gone.csv {NEW}", "'gone.csv' does not exist"),
    (
        f"finetune classification --model bert --train train.jsonl --validation new-label.jsonl {NEW}",
        "--validation has labels that --train has not: fine",
    ),
    (f"finetune classification --model bert --train train.jsonl {NEW} --set epochs=0", "epochs must be above 0"),
    (f"finetune classification --model bert --train train.jsonl {NEW} --set epoch=1", "Did you mean 'epochs'?"),
    (f"finetune classification --model bert --train train.jsonl {NEW} --seed -1", "'--seed': -1 is not in the range"),
    (f"finetune classification --model bert --train train.jsonl {NEW} --set seed=-1", "seed must be between 0 and"),
    (f"finetune classification --model bert --train train.jsonl {NEW} --set max_length=1", "max_length must be at"),
    (f"finetune classification --model nobody/nothing --train train.jsonl {NEW}", "'nobody/nothing'"),
    (f"finetune classification --model texts --train train.jsonl {NEW}", "'texts' is no model"),
    (f"finetune classification --model bare --train train.jsonl {NEW}", "config.json"),
    (f"finetune classification --model cut-short --train train.jsonl {NEW}", "'cut-short/model.safetensors'", 3),
    (
        f"finetune summarization --model bert --train train.jsonl {NEW}",
        "unknown column 'summary'",
        "rename a column of the file to the one that is needed",
    ),
    ("finetune classification --model bert --train train.jsonl --out sorter", "the folder 'sorter' is not empty"),
    (f"finetune classification --train train.jsonl {NEW}", "Missing option '--model'"),
    # evaluation and prediction
    ("evaluate classification --model bert --test test.csv", "fine-tune it first"),
    ("evaluate summarization --model sorter --test test.csv", "summarization needs a GPT"),
    ("evaluate classification --model sorter --test no-label.jsonl", "unknown column 'label'"),
    ("evaluate classification --model sorter --test test.csv --out gone/s.json", "there is no folder 'gone'"),
    ("evaluate classification --model sorter --test test.csv --out texts", "'texts' is a folder"),
    ("predict classification --model sorter --input gone.csv", "'gone.csv' does not exist"),
    ("predict classification --model sorter --input key.jsonl", "key.jsonl, line 1", "'text'"),
    ("predict classification --model sorter --input test.csv --out test.csv", "the file that --input reads"),
    # generation
    ("generate --model bert Hello", "GPT generates, BERT cannot"),
    ("generate --model flipped Hello", "'flipped/best/model.safetensors' is damaged", 3),
    ("generate --model scores.json Hello", "'scores.json' is a file"),
    (f"generate --model gpt '{'word ' * 100}'", "the model reads at most 64"),
    ("generate --model gpt Hello --temperature -1", "temperature must be 0", "not -1.0"),
    ("generate --model gpt Hello --temperature nan", "temperature must be 0", "not nan"),
    ("generate --model gpt Hello --top-p 2", "top_p must be above 0 and at most 1, not 2.0"),
    ("generate --model gpt Hello --top-k -1", "top_k must be 0", "not -1"),
    ("generate --model gpt Hello --repetition-penalty 0", "repetition_penalty must be from"),
    ("generate --model gpt Hello --max-new-tokens 0", "max_new_tokens must be at least 1, not 0"),
    ("generate --model gpt Hello --seed 18446744073709551616", "'--seed': 18446744073709551616 is not in the range"),
    # conversion
    (f"convert-pickle gone.bin {NEW}", "there is no file 'gone.bin'"),
    (f"convert-pickle gpt/best {NEW}", "'gpt/best' has neither pytorch_model.bin nor"),
    (f"convert-pickle gpt/best/model.safetensors {NEW}", "'gpt/best/model.safetensors' is no pickle"),
    (f"convert-pickle few.txt {NEW}", "'few.txt' is not a file of weights that torch.save wrote", 3),
    ("convert-pickle few.txt --out gpt", "the folder 'gpt' is not empty"),
    # the demonstration
    (f"demo --text missing {NEW}", "'missing' does not exist"),
    (f"demo --text few.txt {NEW}", "characters"),
    (f"demo --minutes 0 {NEW}", "--minutes must be above 0", "not 0.0"),
    (f"demo --minutes nan {NEW}", "--minutes must be above 0", "not nan"),
    (f"demo --language de {NEW}", "'de' is not one of 'en', 'zh'"),
    ("demo --out scores.json", "scores.json"),
    # the command line itself
    ("pretrian gpt-tiny", "unknown verb 'pretrian'", "Did you mean 'pretrain'?"),
    ("--verzion", "unknown flag '--verzion'", "Did you mean '--version'?"),
    ("-x", "unknown flag '-x'", "--help"),
    (f"pretrain gpt-tiny --data data {NEW} --minuts 3", "unknown flag '--minuts'", "Did you mean '--minutes'?"),
    (f"pretrain gpt-tiny --data data {NEW} --lerning-rate 1", "'--lerning-rate'", "--set training.learning_rate"),
    ("generate --modle gpt Hello", "unknown flag '--modle'", "Did you mean '--model'?"),
    ("pretrain", "Missing argument 'RECIPE'", "bothways pretrain --help"),
]


def mistake(words, expected, code=2):
    """Check that a command line ends with one sentence that says what is expected."""
    answer = Said(words)
    *_, last = answer.err.splitlines()
    assert answer.code == code, answer.err
    assert last.startswith("Error: ")
    for part in expected:
        assert part in last
    assert answer.out == ""
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: " ".join(case[0].replace(TINY, "").split())[:90])
def test_a_mistake_is_answered_by_one_sentence(case):
    words, *expected = case
    code = expected.pop() if isinstance(expected[-1], int) else 2
    mistake(words, expected, code)
    written = {path.name for path in Path("new").glob("**/*")} if Path("new").exists() else set()
    shutil.rmtree("new", ignore_errors=True)
    if code == 2:
        assert written <= {".lock"}, "the same --out can be used again"


def test_there_are_enough_mistakes():
    assert len({words for words, *_ in MISTAKES}) > 100


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        (b"", "not one example"),
        (b"fine\n\xff\n", "standard input, line 2, byte 0 of the line is not UTF-8"),
        (b'{"text": "a"}\n{"text": \n', "standard input, line 2 begins as a JSON object and is no valid one"),
        (b'{"text": "\\ud800"}\n', "standard input, line 1 begins as a JSON object and is no valid one"),
        (b'{"body": "a"}\n', "'text'"),
        (None, "standard input is closed"),
    ],
)
def test_mistakes_on_stdin(monkeypatch, stdin, expected):
    monkeypatch.setattr(sys, "stdin", stdin and io.TextIOWrapper(io.BytesIO(stdin)))
    if stdin == b"":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    mistake("predict classification --model sorter", [expected])


def test_a_prompt_that_is_not_utf8():
    mistake(["generate", "--model", "gpt", os.fsdecode(b"caf\xe9")], ["is not valid Unicode"])


def test_no_arguments_show_the_usage_on_stderr():
    answer = Said([])
    assert (answer.code, answer.out) == (2, "")
    assert all(verb in answer.err for verb in VERBS)


# What is not a user's mistake


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "data/train.bin"), 5, "data/train.bin"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_system_refuses_has_its_exit_code(monkeypatch, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(bothways, "prepare", fail, raising=False)
    mistake("prepare texts --out new", [message], code)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "Input/output error"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(bothways, "prepare", fail, raising=False)
    with pytest.raises(type(error)):
        main(["prepare", "texts", "--out", "new"])


def test_a_reader_that_has_gone_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    run = process("--help", stdout=writing)
    os.close(writing)
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout():
    with open("/dev/full", "w") as full:
        run = process("--help", stdout=full)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 5
    assert errors.startswith(b"Error: there is no room left")


def test_a_bare_environment_changes_nothing(tmp_path):
    """No locale, no width, no standard input, no home: the result is the same."""
    (tmp_path / "文.txt").write_bytes(("一个很短的句子。" * 400).encode())
    words = f"prepare {tmp_path}/文.txt --out {tmp_path}/数据 --vocab-size 261"
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "COLUMNS": "0"}
    run = process(words, env=bare, preexec_fn=lambda: os.close(0))
    out, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert b"train" in out
    assert f"pretrain RECIPE --data '{tmp_path}/数据'".encode() in out
    assert (tmp_path / "数据" / "manifest.json").exists()


@pytest.mark.parametrize("flag", ["", "--json"])
def test_without_any_encoding_nothing_crashes(flag):
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = process(f"generate --model gpt 文 --max-new-tokens 1 {flag}", env=bare)
    out, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert b"\\u6587" in out, "what cannot be printed is escaped"


# Help


def test_help_is_quick_because_it_imports_little():
    check = "import sys; from bothways.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert all(verb in run.stdout for verb in VERBS)
    for library in ("torch", "numpy", "rich", "tokenizers"):
        assert f"'{library}'" not in run.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(verb):
    shown = Said([verb, "--help"])
    assert shown.code == 0
    assert "{" not in shown.out
    example = command.commands[verb].epilog
    assert f"Example:\n  {example}\n" in shown.out
    program, name, *words = shlex.split(example)
    assert (program, name) == ("bothways", verb)
    assert command.commands[verb].make_context(verb, words).params


def test_help_names_the_recipes_and_tasks_that_exist():
    text = " ".join(Said("pretrain --help").out.split())
    assert all(name in text for name in bothways.recipe_names())
    for verb in ("finetune", "evaluate", "predict"):
        text = " ".join(Said(f"{verb} --help").out.split())
        assert "TASK is one of classification, generation," in text
        assert ("minimal_pairs" in text) == (verb != "finetune"), "nothing can be trained for it"


def test_help_names_what_runs_can_be_sorted_by():
    text = " ".join(Said("runs --help").out.split())
    assert f"Sort by one of {', '.join(SORTABLE)}." in text


def test_version():
    assert bothways.__version__ in Said("--version").out


@pytest.mark.parametrize("verb", VERBS)
def test_the_flags_are_those_of_the_python_function_with_its_defaults(verb):
    there = inspect.signature(getattr(bothways, verb.replace("-", "_"))).parameters
    required = [parameter for parameter in command.commands[verb].params if parameter.required]
    words = [
        word for parameter in required for word in ([parameter.opts[0]] if "-" in parameter.opts[0] else []) + ["x"]
    ]
    here = command.commands[verb].make_context(verb, words).params
    assert here.pop("as_json") is False
    if verb == "demo":
        here["open_page"] = not here.pop("no_open")
    if verb == "predict":
        here["examples"] = here.pop("source")
        assert here.pop("out") == Path("-")
    if verb == "generate":
        here["prompts"] = here.pop("prompt")
    assert here.keys() == there.keys()
    for name, parameter in there.items():
        if parameter.default is not inspect.Parameter.empty:
            assert here[name] in (parameter.default, Path(str(parameter.default)), parameter.default or ())


@pytest.mark.parametrize(
    "words", ["--train a.csv b.csv --model m --out r", "--train a.csv --train=b.csv --out r --model m"]
)
def test_a_flag_for_files_takes_what_a_shell_makes_of_a_star(words):
    parsed = command.commands["finetune"].make_context("finetune", ["classification", *words.split()]).params
    assert parsed["train"] == (Path("a.csv"), Path("b.csv"))
    assert parsed["task"] == "classification"
    assert parsed["out"] == Path("r")


def test_after_two_dashes_all_words_are_arguments():
    parsed = command.commands["prepare"].make_context("prepare", ["--out", "d", "--", "-odd.txt", "b.txt"]).params
    assert parsed["paths"] == (Path("-odd.txt"), Path("b.txt"))
