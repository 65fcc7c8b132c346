"""Loading by name from a hub on this machine: what is asked for, how often, and what happens when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

import bothways
from bothways import progress
from bothways.auto import AutoTokenizer
from bothways.checkpoints import downloading
from bothways.checkpoints.checkpoint import load
from bothways.checkpoints.hub import resolve, tokenizer_place
from bothways.checkpoints.tensors import INDEX, WEIGHTS, read_tensors
from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.exports import gguf

NAME = "someone/tiny"
BYTES = 3_000_000  # of weights that are downloaded and never opened
BROKEN = 1_000_000


@pytest.fixture
def files(tmp_path, save):
    """Return the files of a small model as others publish it: no manifest and no training state."""
    save(tmp_path / "model")
    names = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json")
    return {name: (tmp_path / "model" / name).read_bytes() for name in names}


@pytest.fixture
def large(hub):
    """Put a model on the hub whose weights are large and never opened, and return them."""
    content = os.urandom(BYTES)
    hub.add(NAME, {"config.json": b"{}", WEIGHTS: content})
    return content


def same_weights(one, other):
    expected = one.state_dict()
    assert expected.keys() == other.state_dict().keys()
    return all(torch.equal(weight, expected[name]) for name, weight in other.state_dict().items())


def refused(name, kind=UserError, **options):
    """Return the sentence by which a name is refused."""
    with pytest.raises(kind) as caught:
        resolve(name, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_by_name_branch_tag_and_commit(hub, files):
    repository = hub.add(NAME, files)
    first = repository.branches["main"]
    repository.tags["v1"] = first
    config = json.loads(files["config.json"])
    other = {**files, "config.json": json.dumps({**config, "note": "second"}).encode()}
    second = repository.commit(other)
    repository.commit({**files, "config.json": json.dumps({**config, "note": "branch"}).encode()}, branch="pr/7")
    assert load(NAME).config["note"] == "second"
    assert load(f"{NAME}@v1").folder.name == load(NAME, revision="v1").folder.name == first
    assert "note" not in load(f"{NAME}@{first}").config
    assert resolve(f"{NAME}@{second}", second).name == second
    assert load(f"{NAME}@pr/7").config["note"] == "branch"
    assert hub.sent(WEIGHTS) == len(files[WEIGHTS]), "the same bytes came once for three commits"


def test_only_what_is_needed_is_fetched(hub, files):
    useless = [
        "pytorch_model.bin",
        "model.fp16.safetensors",
        "modeling.py",
        "onnx/model.onnx",
        "README.md",
        "state.json",
    ]
    hub.add(
        NAME, {**files, "vocab.txt": b"a\n", **dict.fromkeys([*useless, "onnx/config.json", "notes.txt"], b"useless")}
    )
    folder = resolve(NAME)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == sorted([*files, "vocab.txt"])
    asked = {request.path.rpartition("/")[2] for request in hub.requests if "/resolve/" in request.path}
    assert asked == {*files, "vocab.txt"}


def test_what_is_cached_is_not_asked_for_again(hub, files):
    commit = hub.add(NAME, files).branches["main"]
    first = load(NAME)
    hub.requests.clear()
    assert same_weights(load(NAME, revision=commit).model, first.model)
    assert hub.requests == []
    assert same_weights(load(NAME).model, first.model)
    assert dict(hub.counted()) == {f"GET /api/models/{NAME}/revision/main": 1}
    hub.stop()
    assert load(NAME).folder == load(NAME, revision=commit).folder == first.folder


def in_another_process(environment, *names):
    """Load models in a fresh process and return what it printed of their folders."""
    code = "import sys; from bothways.checkpoints.checkpoint import load; [print(load(n).folder.name) for n in sys.argv[1:]]"
    words = [sys.executable, "-c", code, *names]
    finished = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout.split()


def test_the_environment_names_the_hub_and_turns_it_off(hub, files, environment, tmp_path):
    commit = hub.add(NAME, files).branches["main"]
    assert in_another_process(environment, NAME) == [commit]
    assert (tmp_path / "home" / "hub" / "models--someone--tiny" / "snapshots" / commit / WEIGHTS).exists()
    assert len(hub.requests) > 3, "the endpoint of the environment was asked"
    hub.requests.clear()
    assert in_another_process({**environment, "HF_HUB_OFFLINE": "1"}, NAME, f"{NAME}@{commit}") == [commit] * 2
    assert hub.requests == []


def test_a_broken_connection_goes_on_where_it_stopped(hub, large):
    hub.break_off[WEIGHTS] = BROKEN
    assert (resolve(NAME) / WEIGHTS).read_bytes() == large
    asked = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert [(request.range, request.sent) for request in asked] == [
        (None, BROKEN),
        (f"bytes={BROKEN}-", BYTES - BROKEN),
    ]


def test_a_killed_download_goes_on_in_another_process(hub, large, environment, tmp_path):
    hub.hang[WEIGHTS] = BROKEN
    words = [sys.executable, "-c", f"from bothways.checkpoints.hub import resolve; resolve('{NAME}')"]
    with subprocess.Popen(words, env=environment) as process:
        blobs = tmp_path / "home" / "hub" / "models--someone--tiny" / "blobs"
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size == BROKEN for path in blobs.glob("*.incomplete")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert (resolve(NAME) / WEIGHTS).read_bytes() == large
    assert hub.sent(WEIGHTS) == BYTES
    assert not list(blobs.glob("*.incomplete"))


def test_a_server_that_cannot_go_on_in_the_middle_begins_again(hub, large):
    hub.break_off[WEIGHTS] = BROKEN
    hub.ranges = False
    assert (resolve(NAME) / WEIGHTS).read_bytes() == large
    assert hub.sent(WEIGHTS) == BROKEN + BYTES


def test_errors_of_a_server_pass(hub, large):
    hub.answers["/cdn/"] = [503, 429, 503]
    assert (resolve(NAME) / WEIGHTS).read_bytes() == large


@pytest.mark.usefixtures("large")
def test_a_server_that_fails_on_the_way_leaves_what_came(hub, tmp_path, monkeypatch):
    hub.break_off[WEIGHTS] = BROKEN
    monkeypatch.setattr(downloading, "note", lambda _: hub.answers.update({"/cdn/": [500] * downloading.TRIES}))
    assert "answers 500, an error of its own; try again later, and its cache on this machine holds only" in refused(
        NAME
    )
    (partial,) = (tmp_path / "home" / "hub" / "models--someone--tiny" / "blobs").glob("*.incomplete")
    assert partial.stat().st_size == BROKEN
    hub.answers.clear()
    resolve(NAME)
    assert hub.sent(WEIGHTS) == BYTES


def test_bytes_that_differ_from_their_hash_are_deleted(hub, large, tmp_path):
    hub.corrupt.add(WEIGHTS)
    said = refused(NAME, DamagedFileError)
    assert said.startswith(f"{WEIGHTS} of '{NAME}' did not come as the Hugging Face Hub says it is (SHA-256 ")
    names = [path.name for path in (tmp_path / "home" / "hub" / "models--someone--tiny" / "blobs").iterdir()]
    assert not any(len(name.partition(".")[0]) == 64 for name in names), names
    hub.corrupt.clear()
    assert (resolve(NAME) / WEIGHTS).read_bytes() == large


def test_a_small_file_that_is_cut_short_is_fetched_again(hub, files):
    hub.add(NAME, files)
    hub.break_off["tokenizer.json"] = 100
    assert load(NAME).tokenizer is not None


def test_a_full_disk_is_one_sentence(hub, large, mount_disk, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(mount_disk("2m")))
    said = refused(NAME, OutOfDiskError)
    assert said == (
        f"the disk cannot take '{NAME}' (No space left on device); make room, or set HF_HOME to a folder that has it. "
        "What came so far is kept"
    )
    assert 1_000_000 < hub.sent(WEIGHTS) <= len(large)


def sharded(folder, files):
    """Return the files of a model with its weights in two files and an index."""
    (folder / WEIGHTS).write_bytes(files[WEIGHTS])
    tensors = read_tensors(folder / WEIGHTS)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = json.dumps({"weight_map": {name: file for file, part in parts.items() for name in part}})
    rest = {name: content for name, content in files.items() if name != WEIGHTS}
    return {**rest, INDEX: index.encode(), **{file: (folder / file).read_bytes() for file in parts}}


def test_weights_in_several_files(hub, files, tmp_path):
    parts = sharded(tmp_path, files)
    hub.add(NAME, {**parts, "model-00003-of-00002.safetensors": b"useless"})
    hub.add("someone/whole", files)
    loaded = load(NAME)
    assert same_weights(loaded.model, load("someone/whole").model)
    assert {path.name for path in loaded.folder.iterdir()} == set(parts)
    del parts["model-00002-of-00002.safetensors"]
    hub.add("someone/half", parts)
    assert "'someone/half' on the Hugging Face Hub at" in refused("someone/half")
    assert "has no model-00002-of-00002.safetensors; it has config.json, model-00001-of" in refused("someone/half")


def test_a_tokenizer_comes_without_the_weights(hub, files, tokenizer):
    hub.add(NAME, files)
    vocabulary = json.loads(files["tokenizer.json"])["model"]
    merges = "\n".join(" ".join(pair) if isinstance(pair, list) else pair for pair in vocabulary["merges"])
    pair = {"vocab.json": json.dumps(vocabulary["vocab"]).encode(), "merges.txt": f"#version: 0.2\n{merges}\n".encode()}
    hub.add("someone/old", {"config.json": files["config.json"], **pair})
    assert AutoTokenizer.from_pretrained(NAME).encode("the quick fox") == tokenizer.backend.encode("the quick fox").ids
    assert AutoTokenizer.from_pretrained("someone/old").encode(
        "lazy dog", add_special_tokens=False
    ) == tokenizer.encode("lazy dog")
    assert tokenizer_place("someone/old@main").name == hub.repositories["someone/old"].branches["main"]
    assert hub.sent(WEIGHTS) == 0


def test_the_verbs_take_a_tokenizer_of_the_hub(hub, files, tmp_path):
    hub.add(NAME, files)
    (tmp_path / "texts").mkdir()
    for number in range(40):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"the quick brown fox number {number} jumps over a lazy dog")
    bothways.inspect(tmp_path / "texts", tokenizer=f"{NAME}@main")
    data = bothways.prepare(tmp_path / "texts", out=tmp_path / "data", tokenizer=f"{NAME}@main", workers=1)
    assert data.manifest["vocab_size"] == 270
    assert hub.sent(WEIGHTS) == 0


def test_a_repository_of_pickles_says_how_to_convert_them(hub, files):
    bare = {name: content for name, content in files.items() if name != WEIGHTS}
    old = {"pytorch_model.bin": b"\x80", "training_args.bin": b"\x80", "tf_model.h5": b"", "sub/x.gguf": b""}
    commit = hub.add(NAME, {**bare, **old}).branches["main"]
    said = refused(NAME)
    assert f"has no {WEIGHTS}, only pytorch_model.bin: a pickle, which may run code when it is opened. " in said
    fetched = (
        f'`hf download {NAME} --revision {commit} --include "*.json" --include "*.txt" --include "pytorch_model.bin"'
    )
    assert f"{fetched} --local-dir FOLDER`" in said
    assert "`bothways convert-pickle FOLDER --out MODEL`" in said
    hub.add("someone/other", {**bare, "tf_model.h5": b""})
    assert "; it has config.json, tf_model.h5, tokenizer.json" in refused("someone/other")
    assert hub.sent(".bin") == 0


def test_a_gguf_file_is_named_after_a_colon(hub):
    hub.add("someone/quants", {"README.md": b"", "a-q4.gguf": b"GGUF 4", "a-q8.gguf": b"GGUF 8"})
    assert f"has no {WEIGHTS}, but a-q4.gguf, a-q8.gguf; name one, as in someone/quants:a-q4.gguf" in refused(
        "someone/quants"
    )
    file = resolve("someone/quants:a-q8.gguf@main")
    assert (file.name, file.read_bytes()) == ("a-q8.gguf", b"GGUF 8")
    assert hub.sent("a-q4.gguf") == 0
    assert "has no a-q2.gguf; it has README.md, a-q4.gguf, a-q8.gguf" in refused("someone/quants:a-q2.gguf")


def test_a_gguf_file_of_the_hub_is_loaded(hub, tmp_path, save):
    pytest.importorskip("gguf")
    save(tmp_path / "model")
    gguf.write(load(tmp_path / "model"), tmp_path, "fp32")
    hub.add("someone/quants", {"model.gguf": (tmp_path / gguf.FILE).read_bytes()})
    found = load("someone/quants:model.gguf")
    assert same_weights(found.model, load(tmp_path / "model").model)
    assert found.tokenizer is not None


@pytest.fixture
def guarded(hub, files):
    """Put models on the hub that not everybody may load."""
    repository = hub.add(NAME, files)
    repository.tags["v1"] = repository.branches["main"]
    hub.add("someone/gated", files, gated=True)
    hub.add("someone/private", files, private=True)
    return hub


@pytest.mark.parametrize(
    ("name", "token", "complaint"),
    [
        (f"{NAME}@v9", None, "has no revision 'v9'; it has main, v1"),
        (
            "someone/none",
            None,
            "there is no folder 'someone/none', and no model of that name on the Hugging Face Hub at ",
        ),
        ("someone/none", "hf_valid", "that you may see; for a private one, `hf auth login` or set HF_TOKEN"),
        ("someone/private", None, "that you may see; for a private one, `hf auth login` or set HF_TOKEN"),
        ("someone/gated", None, "'someone/gated' asks for consent on the Hugging Face Hub at "),
        (NAME, "hf_wrong", "does not accept your token; `hf auth login`, or set HF_TOKEN to a valid one"),
    ],
)
@pytest.mark.usefixtures("guarded")
def test_what_may_not_be_loaded_is_one_sentence(monkeypatch, name, token, complaint):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert complaint in refused(name)


@pytest.mark.usefixtures("guarded")
def test_a_token_opens_what_is_private_and_goes_to_no_other_server(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_valid")
    for name in ("someone/private", "someone/gated"):
        assert load(name).tokenizer is not None
    tokens = {request.path.startswith("/cdn/"): request.token for request in hub.requests}
    assert tokens == {False: "hf_valid", True: None}


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (
            500,
            "answers 500, an error of its own; try again later, and its cache on this machine does not hold that model",
        ),
        (429, "answers that there were too many requests; wait, or get more by `hf auth login`, and its cache"),
    ],
)
def test_a_server_in_trouble_is_one_sentence(hub, files, code, complaint):
    hub.add(NAME, files)
    hub.answers["/revision/"] = [code]
    assert complaint in refused(NAME)
    resolve(NAME)
    hub.answers["/revision/"] = [code]
    assert resolve(NAME).is_dir(), "the cache is enough"


def test_a_server_that_is_not_there_is_one_sentence(hub, files):
    hub.add(NAME, files)
    resolve(NAME, weights=False)
    hub.stop()
    assert "cannot be reached, and its cache on this machine does not hold that model; cached: someone/tiny" in refused(
        "someone/tinny"
    )
    assert "cannot be reached, and its cache on this machine holds only a part of that model, which is kept" in refused(
        NAME
    )


def test_without_a_screen_nothing_is_printed_and_with_one_the_bytes_are_counted(hub, large, capfd, monkeypatch):
    hub.break_off[WEIGHTS] = BROKEN
    resolve(NAME)
    assert capfd.readouterr() == ("", "")
    hub.add("someone/again", {"config.json": b"{}", WEIGHTS: large[::-1]})
    hub.break_off[WEIGHTS] = BROKEN
    monkeypatch.setattr(progress._Lines, "SECONDS", 0.0)
    with progress.display():
        resolve("someone/again")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"looking for someone/again on the Hugging Face Hub at {hub.url}"
    assert f"the download of {WEIGHTS} broke off at {BROKEN:,} of {BYTES:,} bytes and goes on there" in lines
    assert lines[-1] == f"Downloading someone/again (bytes): {BYTES:,} of {BYTES:,}"
    assert all(line.startswith(("looking", "the download of", "Downloading someone/again")) for line in lines)


def test_names_that_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("someone/tiny").mkdir(parents=True)
    assert refused("someone/tiny@v1") == "'someone/tiny' is a local folder, which has no revision 'v1'"
    assert refused("a/b@v1", revision="v2") == "'a/b@v1' and revision 'v2' name two revisions; give one"
    for name in ("a/b@", "a/b@-x", "a/b@x/../y", "a/b:x.bin", "a/b:../x.gguf", "@v1"):
        assert refused(name) == f"there is no folder {name!r}"
    assert "did not give it: Cannot have -- or .. in repo_id" in refused("a--b/c")
    Path("odd@name").mkdir()
    assert "'odd@name' is no model" in refused("odd@name")
