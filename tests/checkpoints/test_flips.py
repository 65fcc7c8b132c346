"""Flipped bits of stored files, one at a time: each is noticed before anything is used, named, and told by the exit code."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from bothways.checkpoints.checkpoint import load_checkpoint, newest_complete
from bothways.errors import DamagedFileError
from bothways.progress import display
from bothways.text.shards import EncodedDocument, Shards, ShardWriter, describe, write_manifest

CHECKPOINT_FILES = 7
FLIPS = 500


@pytest.fixture
def checkpoint(tmp_path, save):
    """Return a whole checkpoint, and what opens it."""
    folder = tmp_path / "run" / "checkpoints" / "step-7"
    save(folder)
    assert len(list(folder.iterdir())) == CHECKPOINT_FILES
    return folder, load_checkpoint


@pytest.fixture
def corpus(tmp_path, tokenizer):
    """Return a prepared corpus of two shards, and what opens it."""
    folder = tmp_path / "data"
    folder.mkdir()
    tokenizer.save(folder)
    draw = np.random.default_rng(0)
    files, counts = {}, {}
    with ShardWriter(folder, "train", vocab_size=270, shard_tokens=100) as writer:
        for _ in range(12):
            writer.write(
                EncodedDocument(
                    input_ids=draw.integers(4, 270, size=20), sentence_starts=np.array([0, 9]), num_bytes=40
                )
            )
    files |= writer.files
    counts["train"] = {"documents": 12, "tokens": 240}
    files |= {file.name: describe(file) for file in folder.iterdir() if file.name.startswith("tokenizer")}
    write_manifest(folder, {"vocab_size": 270, "splits": counts}, files)
    assert len(list(folder.iterdir())) >= 6

    def open_it(folder):
        return Shards(folder).corpus("train")

    open_it(folder)
    return folder, open_it


@pytest.fixture(params=["checkpoint", "corpus"])
def stored(request):
    return request.getfixturevalue(request.param)


def flips(folder, number, seed=0):
    """Yield the name of a file and the place of a bit in it: every file in turn."""
    draw = random.Random(seed)
    files = sorted(folder.iterdir())
    for at in range(number):
        file = files[at % len(files)]
        yield file, draw.randrange(8 * file.stat().st_size)


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def detected(folder, open_it, number):
    """Return how many of so many flipped bits are noticed, and by an error that names the file."""
    found = 0
    for file, bit in flips(folder, number):
        flip(file, bit)
        try:
            open_it(folder)
        except DamagedFileError as error:
            found += file.name in str(error) or file.name == "manifest.json"
        flip(file, bit)
    open_it(folder)
    return found


def test_flipped_bits_are_noticed(stored):
    assert detected(*stored, 60) == 60


@pytest.mark.slow
def test_every_flipped_bit_of_five_hundred_is_noticed(stored):
    assert detected(*stored, FLIPS) == FLIPS


def spoil_in_other_ways(folder):
    """Yield ways of harming each file, and put it right again after each."""
    files = sorted(folder.iterdir())
    for number, file in enumerate(files):
        content, away = file.read_bytes(), folder.parent / "away"
        for wrong in (b"", content[:1], content[: len(content) // 2], content[:-1], content + b"\0"):
            file.write_bytes(wrong)
            yield f"{file.name} of {len(wrong)} bytes"
        file.write_bytes(files[number - 1].read_bytes())
        yield f"{file.name} in the place of another"
        file.write_bytes(content)
        file.rename(away)
        yield f"no {file.name}"
        for make in (file.mkdir, lambda file=file, away=away: file.symlink_to(away), lambda file=file: os.mkfifo(file)):
            make()
            yield f"{file.name} is no file"
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        away.rename(file)


def test_files_that_are_cut_swapped_gone_or_no_files_are_noticed(stored):
    folder, open_it = stored
    manifest = json.loads((folder / "manifest.json").read_text())
    harms, unnoticed = 0, []
    for harm in spoil_in_other_ways(folder):
        harms += 1
        try:
            open_it(folder)
        except DamagedFileError:
            continue
        unnoticed.append(harm)
        assert json.loads((folder / "manifest.json").read_text()) == manifest, harm  # it lost its last line break
    assert harms == 10 * len(list(folder.iterdir()))
    assert len(unnoticed) <= 1
    open_it(folder)


def test_two_shards_that_changed_places_are_noticed(corpus):
    folder, open_it = corpus
    first, second = sorted(folder.glob("*.bin"))[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(DamagedFileError, match=first.name):
        open_it(folder)


def test_a_run_falls_back_to_the_checkpoint_before_and_says_so(tmp_path, save, capsys):
    for step in (3, 6):
        save(tmp_path / "checkpoints" / f"step-{step}")
    newest = tmp_path / "checkpoints" / "step-6"
    expected = json.loads((newest / "manifest.json").read_text())["files"]
    for file, bit in flips(newest, 14, seed=1):
        flip(file, bit)
        with display():
            assert newest_complete(tmp_path).name == "step-3"
        said = capsys.readouterr().err
        assert f"{newest} is passed over: " in said
        if file.name in expected:
            assert f"expected SHA-256 {expected[file.name]['sha256']}, it has " in said
        flip(file, bit)
    assert newest_complete(tmp_path) == newest


def test_the_command_tells_damage_by_its_exit_code(checkpoint):
    folder, _ = checkpoint
    flip(folder / "model.safetensors", 8 * (folder / "model.safetensors").stat().st_size - 1)
    words = [sys.executable, "-m", "bothways", "generate", "fox", "--model", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "model.safetensors' is damaged: expected SHA-256" in done.stderr
