"""Corpora that go wrong after they have been read: too long, unknown, too small, edited, and disks that are full."""

import json
import os
import random
import stat
import subprocess
import sys

import pytest
from tokenizers import Tokenizer as Reference

import bothways
from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.text.shards import Shards
from bothways.text.tokenizing.tokenizer import Tokenizer

TINY = ["training.steps=2", "training.batch_tokens=256", "training.row_length=64"]


def words(count, seed=0):
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("aeioukmnst", k=rng.randint(2, 6))) for _ in range(count))


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.mark.parametrize("tokens", [65, 200_000])
def test_a_document_longer_than_the_context_loses_no_token(tmp_path, tokens):
    """Item 146: a row ends, and the document goes on in the next."""
    texts = [words(100, seed) for seed in range(120)]
    data = bothways.prepare(write(tmp_path / "t.jsonl", texts), out=tmp_path / "first", vocab_size=300)
    tokenizer = Tokenizer.load(tmp_path / "first")
    long = words(tokens, seed=1000)
    long = tokenizer.decode(tokenizer.encode(long)[:tokens])
    assert len(tokenizer.encode(long)) == tokens
    data = bothways.prepare(
        write(tmp_path / "long.jsonl", [long, *texts]), out=tmp_path / "data", tokenizer=tmp_path / "first"
    )
    corpora = [data.corpus(split) for split in ("train", "validation")]
    total = sum(corpus.num_tokens for corpus in corpora)
    pieces = [corpus.document(index) for corpus in corpora for index in range(len(corpus))]
    assert total == sum(map(len, pieces))
    assert total >= sum(len(tokenizer.encode(text)) for text in [long, *texts])
    bothways.pretrain("gpt-tiny", data=tmp_path / "data", out=tmp_path / "run", settings=TINY)


def test_a_corpus_of_characters_that_the_tokenizer_does_not_know_is_told(tmp_path):
    """Item 147."""
    known = write(tmp_path / "known.jsonl", [words(50, seed) for seed in range(30)])
    bothways.prepare(known, out=tmp_path / "known", tokenizer="wordpiece", vocab_size=60)
    strange = write(tmp_path / "strange.jsonl", [f"ѲѲѲ ѪѪѪ {'Ѯ' * number}" for number in range(1, 120)])
    data = bothways.prepare(strange, out=tmp_path / "strange", tokenizer=tmp_path / "known")
    report = json.loads((tmp_path / "strange" / "ingest_report.json").read_text())
    assert report["tokenizer"]["unknown_rate"] == 1
    unknown = Reference.from_file(str(tmp_path / "strange" / "tokenizer.json")).token_to_id("[UNK]")
    assert set(data.corpus("train").document(0).tolist()) == {unknown}
    findings = bothways.inspect(tmp_path / "strange").to_dict()["findings"]
    assert any("unknown" in finding["fact"] for finding in findings)


@pytest.mark.parametrize("count", [1, 20])
def test_a_corpus_smaller_than_a_row_is_refused_before_training(tmp_path, count):
    """Item 148."""
    bothways.prepare(write(tmp_path / "t.jsonl", [words(count)] * 3), out=tmp_path / "data", vocab_size=262)
    with pytest.raises(UserError, match=r"the training text has \d+ tokens, fewer than one row of 256; give more text"):
        bothways.pretrain("gpt-tiny", data=tmp_path / "data", out=tmp_path / "run", settings=["training.steps=2"])
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00000.idx", "tokenizer.json"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:40] + b"\1" + data[41:]])
def test_a_file_changed_after_preparing_stops_training(tmp_path, name, change):
    """Item 149."""
    texts = [words(100, seed) for seed in range(20)]
    bothways.prepare(write(tmp_path / "t.jsonl", texts), out=tmp_path / "data", vocab_size=300)
    file = tmp_path / "data" / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DamagedFileError, match=f"{name}' is damaged: expected"):
        bothways.pretrain("gpt-tiny", data=tmp_path / "data", out=tmp_path / "run", settings=TINY)


@pytest.fixture
def small_disk(mount_disk):
    return mount_disk(300_000)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_leaves_nothing_half_made(tmp_path, small_disk, workers):
    """Item 150."""
    texts = write(tmp_path / "t.jsonl", [words(2000, seed) for seed in range(200)])
    with pytest.raises(OutOfDiskError, match="there is no room left to write"):
        bothways.prepare(
            texts, out=small_disk / "data", vocab_size=300, workers=workers, settings=["part_bytes=500000"]
        )
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def read_only(request, tmp_path):
    """Return a folder that this user may not write to; root may write anywhere but on a disk that is read-only."""
    if os.geteuid() == 0:
        folder = request.getfixturevalue("small_disk")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        return folder
    folder = tmp_path / "locked"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    return folder


def test_a_folder_that_may_not_be_written_is_told(tmp_path, read_only):
    """Item 150."""
    texts = write(tmp_path / "t.jsonl", [words(50, seed) for seed in range(200)])
    with pytest.raises(UserError, match="no folder that you may write to"):
        bothways.prepare(texts, out=read_only / "data", vocab_size=300)


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    texts = write(tmp_path / "t.jsonl", [words(2000, seed) for seed in range(400)])
    settings = "workers=2, settings=['part_bytes=100000']"
    script = f"import bothways; bothways.prepare({str(texts)!r}, out={str(tmp_path / 'data')!r}, {settings})"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    for _ in range(400):
        if any(tmp_path.glob(".tmp-*/unfinished/docs-*")):
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(2)
    assert process.wait(30) != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.jsonl"]
    assert Shards(bothways.prepare(texts, out=tmp_path / "data", vocab_size=300).folder).corpus("train").num_tokens
