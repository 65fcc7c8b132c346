"""Damage is always noticed, and a crash at any moment never costs what was there before."""

import errno
import hashlib
import json
import os
import random
import shutil

import pytest
import torch
from safetensors import SafetensorError

from bothways.checkpoints import folders, tensors
from bothways.checkpoints.checkpoint import (
    checkpoints_in,
    clean,
    load,
    load_checkpoint,
    newest_complete,
    save_checkpoint,
)
from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.progress import display

FILES = (
    "config.json",
    "manifest.json",
    "model.safetensors",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.safetensors",
)


def embeddings(model):
    return model.transformer.embed_tokens.weight.detach().clone()


def test_what_is_set_aside_is_whole_and_takes_the_place_of_nothing(tmp_path, save):
    names = []
    for _ in range(3):
        save(tmp_path / "best")
        names.append(folders.set_aside(tmp_path / "best", "best-until-step-7").name)
    assert names == ["best-until-step-7", "best-until-step-7-2", "best-until-step-7-3"]
    assert sorted(folder.name for folder in tmp_path.iterdir()) == names
    for name in names:
        load_checkpoint(tmp_path / name)


# Damage


@pytest.fixture
def whole(tmp_path, save):
    save(tmp_path / "step-7")
    load_checkpoint(tmp_path / "step-7")
    return tmp_path / "step-7"


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_noticed(whole, name):
    draw = random.Random(name)
    content = (whole / name).read_bytes()
    for _ in range(40):
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        (whole / name).write_bytes(changed)
        with pytest.raises(DamagedFileError):
            load_checkpoint(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_length_is_noticed(whole, name):
    content = (whole / name).read_bytes()
    for wrong in (b"", content[:1], content[: len(content) // 2], content[:-1], content + b"x"):
        (whole / name).write_bytes(wrong)
        with pytest.raises(DamagedFileError, match=name.replace(".", r"\.")):
            load_checkpoint(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_or_no_file_is_noticed(whole, name):
    file, away = whole / name, whole.parent / "away"
    file.rename(away)
    with pytest.raises(DamagedFileError, match=name.replace(".", r"\.")):
        load_checkpoint(whole)
    for make in (file.mkdir, lambda: file.symlink_to(away), lambda: os.mkfifo(file)):
        make()
        with pytest.raises(DamagedFileError, match=name.replace(".", r"\.")):
            load_checkpoint(whole)
        file.rmdir() if file.is_dir() else file.unlink()
    away.rename(file)
    assert load_checkpoint(whole)


def test_the_message_tells_what_was_expected_and_what_is_there(whole):
    expected = json.loads((whole / "manifest.json").read_text())["files"]["state.json"]
    content = (whole / "state.json").read_bytes()
    (whole / "state.json").write_bytes(content.replace(b"7", b"8"))
    with pytest.raises(
        DamagedFileError, match=rf"state\.json' is damaged: expected SHA-256 {expected['sha256']}, it has"
    ):
        load_checkpoint(whole)
    (whole / "state.json").write_bytes(content + b" ")
    size = expected["size"]
    with pytest.raises(DamagedFileError, match=rf"state\.json' is damaged: expected {size} bytes, it has {size + 1}"):
        load_checkpoint(whole)


def test_two_files_that_changed_places_are_noticed(whole):
    (whole / "model.safetensors").rename(whole / "x")
    (whole / "training.safetensors").rename(whole / "model.safetensors")
    (whole / "x").rename(whole / "training.safetensors")
    with pytest.raises(DamagedFileError):
        load_checkpoint(whole)


def test_a_file_that_was_slipped_in_is_noticed_and_a_stranger_is_not_read(whole):
    (whole / "README.md").write_text("a model card")
    assert load_checkpoint(whole)
    (whole / "vocab.txt").write_text("[UNK]")
    with pytest.raises(DamagedFileError, match=r"vocab\.txt' is not in manifest\.json"):
        load_checkpoint(whole)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../state.json", "a/b/c", "a/../b", "a/", "..", ".", "", ".hidden", "a\\b", "a\x00b", "é"]
)
def test_a_manifest_reaches_nothing_outside_its_folder(whole, name):
    values = json.loads((whole / "manifest.json").read_text())
    values["files"][name] = {"size": 1, "sha256": "0" * 64}
    (whole / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DamagedFileError, match="names of files in its own folder"):
        load_checkpoint(whole)


def test_a_checkpoint_may_be_had_through_a_link_to_its_folder(whole, tmp_path):
    (tmp_path / "link").symlink_to(whole)
    assert load_checkpoint(tmp_path / "link")


def test_a_folder_below_is_checked_too_and_must_be_no_link(whole, tmp_path):
    values = json.loads((whole / "manifest.json").read_text())
    (tmp_path / "elsewhere").mkdir()
    for place in (whole / "below", tmp_path / "elsewhere"):
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text("{}")
    entry = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    values["files"]["below/config.json"] = entry
    (whole / "manifest.json").write_text(json.dumps(values))
    assert load_checkpoint(whole)
    (whole / "below" / "config.json").write_text("[]")
    with pytest.raises(DamagedFileError, match=r"below/config\.json' is damaged"):
        load_checkpoint(whole)
    shutil.rmtree(whole / "below")
    (whole / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedFileError, match=r"below/config\.json' is not a regular file"):
        load_checkpoint(whole)


@pytest.mark.parametrize(
    "values",
    [{}, {"version": 1}, {"version": 1, "files": []}, {"version": 1, "files": {"state.json": 3}}, {"version": 2}, []],
)
def test_a_manifest_that_makes_no_sense_is_refused(whole, values):
    (whole / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DamagedFileError):
        load_checkpoint(whole)


def test_without_verification_a_changed_file_is_taken(whole):
    (whole / "state.json").write_text('{"step": 9}')
    assert load_checkpoint(whole, verify=False).state == {"step": 9}


def test_loading_without_verification_is_said_aloud(whole, capsys):
    with display():
        load(whole)
        assert capsys.readouterr().err == ""
        load(whole, verify=False)
    assert capsys.readouterr().err == f"{whole} is not verified: damage to its files goes unnoticed\n"


# Crashes


class Killed(BaseException):
    """What no handler of errors catches."""


def count_calls(monkeypatch, fail_at, fault):
    """Let the n-th of the calls that change the disk fail."""
    calls = []

    def wrap(function):
        def wrapped(*arguments, **options):
            calls.append(function)
            if len(calls) == fail_at:
                fault()
            return function(*arguments, **options)

        return wrapped

    for owner, name in ((os, "replace"), (os, "fsync"), (os, "mkdir"), (tensors, "save_file"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    monkeypatch.setattr(folders, "write_manifest", wrap(folders.write_manifest))
    return calls


def throw(error):
    raise error


def total_calls(monkeypatch, folder, model):
    with monkeypatch.context() as patch:
        calls = count_calls(patch, 0, None)
        save_checkpoint(folder, model)
    return len(calls)


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "bad file descriptor"), Killed()])
def test_a_save_that_fails_anywhere_leaves_the_old_or_the_new(tmp_path, make_model, monkeypatch, error):
    old, new = make_model(), make_model()
    save_checkpoint(tmp_path / "best", old)
    total = total_calls(monkeypatch, tmp_path / "best", old)
    assert total > 8
    for at in range(1, total + 1):
        save_checkpoint(tmp_path / "best", old)
        with monkeypatch.context() as patch:
            count_calls(patch, at, lambda: throw(error))
            with pytest.raises(type(error)):
                save_checkpoint(tmp_path / "best", new)
        found = embeddings(load_checkpoint(tmp_path / "best").model)
        assert torch.equal(found, embeddings(old)) or torch.equal(found, embeddings(new)), at
        clean(tmp_path)
        assert [folder.name for folder in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("name", ["best", "checkpoints/step-2"])
def test_a_process_killed_anywhere_leaves_the_old_or_the_new(tmp_path, make_model, monkeypatch, name):
    old, new = make_model(), make_model()
    total = total_calls(monkeypatch, tmp_path / name, old)
    total = total_calls(monkeypatch, tmp_path / name, old)  # the second time, the folder is replaced
    outcomes = set()
    for at in range(1, total + 1):
        save_checkpoint(tmp_path / name, old)
        child = os.fork()
        if child == 0:
            count_calls(monkeypatch, at, lambda: os._exit(9))
            save_checkpoint(tmp_path / name, new)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        clean(tmp_path)
        found = embeddings(load_checkpoint(tmp_path / name).model)
        outcomes.add("old" if torch.equal(found, embeddings(old)) else "new")
        assert torch.equal(found, embeddings(old)) or torch.equal(found, embeddings(new)), at
        assert not list(tmp_path.rglob(".*"))
    assert outcomes == {"old", "new"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "no space"), "no room to write"),
        (OSError(errno.EDQUOT, "quota"), "no room to write"),
        (OSError(errno.EFBIG, "too large"), "no room to write"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "no room to write",
        ),
        (OSError(errno.EIO, "input/output error"), "the disk fails to write"),
        (OSError(errno.EROFS, "read-only"), "the disk fails to write"),
    ],
)
def test_a_full_or_failing_disk_is_said_and_costs_nothing(tmp_path, make_model, monkeypatch, error, words):
    old = make_model()
    save_checkpoint(tmp_path / "best", old)
    total = total_calls(monkeypatch, tmp_path / "best", old)
    for at in range(1, total):  # the last call removes the old folder, which nothing depends on
        with monkeypatch.context() as patch:
            count_calls(patch, at, lambda: throw(error))
            with pytest.raises(OutOfDiskError, match=rf"{words} .*best.*; what was saved before is whole"):
                save_checkpoint(tmp_path / "best", old)
        assert torch.equal(embeddings(load_checkpoint(tmp_path / "best").model), embeddings(old))
        clean(tmp_path)
        assert [folder.name for folder in tmp_path.iterdir()] == ["best"]


def test_a_place_that_cannot_be_written_is_said(tmp_path, make_model, monkeypatch):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "best", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"is not a folder|cannot be written"):
            save_checkpoint(place, make_model())
    monkeypatch.setattr(os, "mkdir", lambda *_, **__: throw(PermissionError(errno.EACCES, "denied")))
    with pytest.raises(UserError, match=r"cannot be written: Permission denied"):
        save_checkpoint(tmp_path / "best", make_model())


def test_what_is_no_checkpoint_is_never_replaced(tmp_path, make_model):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("five years of work")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    for name in ("thesis", "link"):
        with pytest.raises(UserError):
            save_checkpoint(tmp_path / name, make_model())
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "five years of work"
    (tmp_path / "empty").mkdir()
    save_checkpoint(tmp_path / "empty", make_model())
    assert load_checkpoint(tmp_path / "empty")


def test_a_damaged_checkpoint_of_a_run_is_replaced_whatever_it_lost(tmp_path, make_model, save):
    step = tmp_path / "checkpoints" / "step-3"
    for spoil in (lambda file: file.unlink(), lambda file: file.unlink() or file.mkdir()):
        save(step)
        spoil(step / "manifest.json")
        save_checkpoint(step, make_model())
        assert load_checkpoint(step)
    (step / "manifest.json").unlink()
    (step / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than a checkpoint"):
        save_checkpoint(step, make_model())
    assert (step / "notes.txt").read_text() == "mine"


# The checkpoints of a run


def test_checkpoints_are_found_by_number_and_only_whole_ones(tmp_path, save):
    steps = tmp_path / "checkpoints"
    for step in (2, 10, 9, 30, 40, 50):
        save(steps / f"step-{step}")
    (steps / "step-30" / "manifest.json").unlink()
    (steps / "step-40" / "model.safetensors").write_bytes(b"")
    (steps / "step-60").mkdir()
    for name in ("step-010", "step-10-copy", "step--3", "step-", "Step-70", "step-7.5", "step-" + "9" * 30):
        shutil.copytree(steps / "step-2", steps / name)
    (steps / "step-80").symlink_to(steps / "step-2")
    (steps / "step-90").write_text("a file")
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["step-2", "step-9", "step-10", "step-50"]
    assert newest_complete(tmp_path).name == "step-50"


def test_the_newest_whole_one_is_taken_and_the_damaged_are_named(tmp_path, save, capsys):
    for step in (1, 2):
        save(tmp_path / "checkpoints" / f"step-{step}")
    (tmp_path / "checkpoints" / "step-2" / "state.json").write_text("{}")
    with display():
        assert newest_complete(tmp_path) == tmp_path / "checkpoints" / "step-1"
    assert "step-2 is passed over" in capsys.readouterr().err
    (tmp_path / "checkpoints" / "step-1" / "config.json").unlink()
    assert newest_complete(tmp_path) is None
    assert newest_complete(tmp_path / "nowhere") is None
    assert checkpoints_in(tmp_path / "nowhere") == []


def test_clean_removes_left_overs_and_nothing_else(tmp_path, save):
    save(tmp_path / "checkpoints" / "step-1")
    hexadecimal = "0123456789abcdef" * 2
    save(tmp_path / f".tmp-last-{hexadecimal}")
    save(tmp_path / "checkpoints" / f".tmp-step-2-{hexadecimal}")
    (tmp_path / f".tmp-loss.svg-{hexadecimal}").write_text("half of a picture")
    for innocent in (".tmp-mine", ".old-last-1", ".git", "notes"):
        (tmp_path / innocent).mkdir()
    (tmp_path / f".tmp-link-{hexadecimal}").symlink_to(tmp_path / "notes")
    clean(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".git", ".old-last-1", ".tmp-link-" + hexadecimal, ".tmp-mine", "checkpoints", "notes"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-1"]
    clean(tmp_path / "nowhere")


def test_clean_puts_back_what_was_moved_away_for_nothing(tmp_path, save):
    model = save(tmp_path / "best")
    (tmp_path / "best").rename(tmp_path / f".old-best-{'0' * 32}")
    clean(tmp_path)
    assert torch.equal(embeddings(load_checkpoint(tmp_path / "best").model), embeddings(model))
