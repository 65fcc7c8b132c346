import os
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import constants

from bothways.checkpoints.checkpoint import load, resolve
from bothways.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_run_is_its_best_then_its_last_then_its_newest_checkpoint(tmp_path, save):
    run = tmp_path / "run"
    for name in ("checkpoints/step-1", "checkpoints/step-2", "last", "best"):
        save(run / name)
    for expected in ("best", "last", "checkpoints/step-2", "checkpoints/step-1"):
        assert resolve(run) == run / expected
        assert load(str(run)).folder == run / expected
        shutil.rmtree(run / expected)
    with pytest.raises(UserError, match="has no complete checkpoint"):
        resolve(run)


def test_a_checkpoint_is_itself(tmp_path, save):
    save(tmp_path / "x")
    assert resolve(tmp_path / "x") == tmp_path / "x"
    (tmp_path / "x" / "manifest.json").unlink()
    assert resolve(str(tmp_path / "x")) == tmp_path / "x"


def test_what_is_no_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, complaint in {
        "empty": "is no model",
        "file": "is a file; a model is a folder",
        "./nowhere": "there is no folder './nowhere'",
        "/no/such/folder": "there is no folder",
        "a/b/c": "there is no folder",
        "../up": "there is no folder",
        "": "is no model",
        "name with spaces": "there is no folder",
    }.items():
        with pytest.raises(UserError, match=complaint):
            resolve(name)
    with pytest.raises(UserError, match="there is no folder"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(UserError, match="a local folder, which has no revision 'v1'"):
        resolve(tmp_path / "empty", "v1")


@pytest.fixture
def cache(tmp_path, save, monkeypatch):
    """Lay one of our checkpoints out as the cache of the Hub has it, and go offline."""
    save(tmp_path / "x")
    repository = tmp_path / "hub" / "models--someone--tiny"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted((tmp_path / "x").iterdir())):
        shutil.move(file, repository / "blobs" / f"blob{number}")
        (snapshot / file.name).symlink_to(os.path.join("..", "..", "blobs", f"blob{number}"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_cached_model_of_the_hub_is_found_offline(cache):
    assert resolve("someone/tiny") == cache
    assert resolve("someone/tiny", COMMIT) == cache
    loaded = load("someone/tiny", revision="main")
    assert list(loaded.model.heads) == ["language_model"]
    assert loaded.tokenizer is not None


@pytest.mark.usefixtures("cache")
def test_a_name_that_is_not_cached_is_refused_with_what_is():
    with pytest.raises(UserError, match=r"cannot be reached.*cached: someone/tiny"):
        resolve("someone/tinny")
    with pytest.raises(UserError, match="cannot be reached"):
        resolve("someone/tiny", "no-such-branch")


def test_a_link_out_of_the_cache_is_not_followed(cache, tmp_path):
    outside = tmp_path / "outside.json"
    shutil.copy(cache / "state.json", outside)
    (cache / "state.json").unlink()
    (cache / "state.json").symlink_to(outside)
    with pytest.raises(Exception, match=r"state\.json' is not a regular file"):
        load("someone/tiny")


def test_a_cached_model_without_its_weights_is_refused(cache):
    for name in ("model.safetensors", "manifest.json", "state.json", "training.safetensors"):
        (cache / name).unlink()
    with pytest.raises(UserError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\), and its cache .* only a part"):
        resolve("someone/tiny")


def test_the_environment_says_where_the_cache_is(cache):
    code = "from bothways.checkpoints.hub import resolve; print(resolve('someone/tiny'))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HF_HOME", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    environment["HF_HOME"] = str(cache.parents[3])
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(cache)
