"""Where compiled code is kept."""

import os
from pathlib import Path

import pytest

from bothways.model.compiled_code import FOLDER, keep_compiled_apart


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty home, where no folder has been named yet."""
    monkeypatch.setenv(FOLDER, "")  # so that it is as before afterwards
    monkeypatch.delenv(FOLDER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def kept():
    keep_compiled_apart()
    return Path(os.environ[FOLDER])


def test_it_is_kept_in_the_users_cache_readable_by_nobody_else(home):
    folder = kept()
    assert folder.parent == home / ".cache" / "bothways"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kept() == folder


def test_or_where_the_user_says(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert kept().parent == home / "elsewhere" / "bothways"
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert kept().parent == home / ".cache" / "bothways"
    monkeypatch.setenv(FOLDER, "mine")
    assert kept() == Path("mine")


def to_a_link(folder):
    (folder.parent / "target").mkdir(mode=0o700)
    folder.rmdir()
    folder.symlink_to("target")


@pytest.mark.parametrize("change", [lambda folder: folder.chmod(0o777), to_a_link], ids=["open to all", "a link"])
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are those of POSIX")
def test_a_folder_that_others_can_change_is_not_used(home, monkeypatch, change):
    folder = kept()
    change(folder)
    monkeypatch.delenv(FOLDER)
    other = kept()
    try:
        assert home not in other.parents
        assert other.stat().st_mode & 0o777 == 0o700
    finally:
        other.rmdir()


def test_without_a_home_it_is_kept_for_this_process_alone(home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("HOME", str(home / "file"))
    other = kept()
    assert other.is_dir()
    other.rmdir()
