"""Publishing to a hub on this machine: what goes there, that it comes back the same, and how the hub refuses."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from hub_server import sha256

import bothways
from bothways.auto import AutoModelForCausalLM, AutoTokenizer
from bothways.checkpoints.checkpoint import load, save_checkpoint
from bothways.checkpoints.hub import resolve
from bothways.checkpoints.manifest import write_manifest
from bothways.checkpoints.publishing import push
from bothways.checkpoints.tensors import INDEX, WEIGHTS
from bothways.errors import DamagedFileError, UserError

NAME = "someone/tiny"
CARD = b"---\nlibrary_name: bothways\n---\n\n# Tiny\n"


@pytest.fixture
def run(tmp_path, make_model, tokenizer):
    """Return the folder of a run: its best model, its card, and a checkpoint to go on from."""
    run = tmp_path / "run"
    model = make_model(hidden_size=16)
    save_checkpoint(run / "best", model, tokenizer=tokenizer)
    training = {"momentum": torch.zeros(3)}
    save_checkpoint(run / "checkpoints" / "step-1", model, tokenizer=tokenizer, training=training, state={"step": 1})
    (run / "README.md").write_bytes(CARD)
    (run / "loss.svg").write_text("<svg/>")
    for name in ("experiment.json", "metrics.jsonl", "training_texts.npz"):
        (run / name).write_text("{}")
    return run


@pytest.fixture
def writer(hub, monkeypatch):  # noqa: ARG001  (which forgets any token)
    monkeypatch.setenv("HF_TOKEN", "hf_valid")


def on(hub, name=NAME, branch="main"):
    """Return the files of a branch on the hub."""
    repository = hub.repositories[name]
    return repository.commits[repository.branches[branch]]


@pytest.mark.usefixtures("writer")
def test_a_run_goes_there_and_back(hub, run):
    address = push(run, NAME)
    commit = hub.repositories[NAME].branches["main"]
    assert address == f"{hub.url}/{NAME}/commit/{commit}"
    ours = {path.name: path.read_bytes() for path in (run / "best").iterdir()}
    assert set(ours) == {"config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "manifest.json"}
    assert on(hub) == {**ours, "README.md": CARD, "loss.svg": b"<svg/>", ".gitattributes": on(hub)[".gitattributes"]}
    expected, found = load(run), load(NAME)
    assert found.folder.name == commit
    weights = expected.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in found.model.state_dict().items())
    assert found.tokenizer.encode("the quick fox") == expected.tokenizer.encode("the quick fox")
    assert not hub.repositories[NAME].private


@pytest.mark.usefixtures("writer")
def test_nothing_of_the_training_goes_there(hub, run):
    push(run / "checkpoints" / "step-1", NAME, message="A checkpoint")
    assert set(on(hub)) == {".gitattributes", "config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"}
    assert load(NAME).state is None


@pytest.mark.usefixtures("writer")
def test_what_an_earlier_model_left_is_removed(hub, run, tmp_path):
    left = [WEIGHTS.replace("model", "model-00001-of-00001"), INDEX, "vocab.txt", "manifest.json"]
    hub.add(NAME, {**dict.fromkeys(left, b"old"), "README.md": b"old", "notes.txt": b"kept"})
    bare = tmp_path / "bare"
    shutil.copytree(run / "best", bare)
    (bare / "manifest.json").unlink()
    push(bare, NAME)
    assert not set(left) & set(on(hub))
    assert (on(hub)["README.md"], on(hub)["notes.txt"]) == (b"old", b"kept")
    assert load(NAME).tokenizer is not None


@pytest.mark.usefixtures("writer")
def test_a_branch_and_a_private_repository(hub, run):
    push(run, NAME, private=True, revision="v1")
    assert hub.repositories[NAME].private
    assert set(on(hub)) == {".gitattributes"}
    assert WEIGHTS in on(hub, branch="v1")
    assert load(f"{NAME}@v1").tokenizer is not None
    again = push(run, NAME, revision="v1")
    assert again.endswith(hub.repositories[NAME].branches["v1"])


@pytest.mark.usefixtures("writer")
def test_what_shall_be_private_does_not_go_where_everybody_looks(hub, run):
    hub.add(NAME, {})
    with pytest.raises(UserError, match=f"'{NAME}' is there already, and everybody can see it; make it private on"):
        push(run, NAME, private=True)
    assert on(hub) == {}


@pytest.mark.parametrize(
    ("token", "name", "complaint"),
    [
        (None, NAME, "does not know you: `hf auth login`, or set HF_TOKEN to a token that may write"),
        ("hf_reader", NAME, "your token may not write there: name an owner of yours, or `hf auth login`"),
        ("hf_wrong", NAME, "does not accept your token: `hf auth login`"),
        ("hf_valid", "tiny", "'tiny' is no name for a model on the Hugging Face Hub; it has the form owner/name"),
        ("hf_valid", "a/b@v1", "'a/b@v1' is no name for a model on the Hugging Face Hub"),
        ("hf_valid", "a--b/c", "'a--b/c' was not published: Cannot have -- or .. in repo_id"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, run, monkeypatch, token, name, complaint):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as caught:
        push(run, name)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not hub.repositories


@pytest.mark.usefixtures("writer")
def test_a_hub_in_trouble_is_one_sentence(hub, run):
    hub.answers[f"/lfs/{sha256((run / 'best' / WEIGHTS).read_bytes())}"] = [400]
    with pytest.raises(UserError, match=r"was not published: .* answers 400: Bad request: refused"):
        push(run, NAME)
    hub.answers["/commit/"] = [503]
    with pytest.raises(
        UserError, match=f"'{NAME}' was not published: .* answers 503, an error of its own; try again later$"
    ):
        push(run, NAME)
    hub.stop()
    with pytest.raises(UserError, match=r"was not published: .* cannot be reached; the same call tries it again$"):
        push(run, NAME)


@pytest.mark.usefixtures("writer")
def test_what_is_no_whole_model_does_not_go_there(hub, run, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        push(NAME, NAME)
    (run / "best" / WEIGHTS).write_bytes(b"changed")
    with pytest.raises(DamagedFileError, match="is damaged"):
        push(run, NAME)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"is a file; what is published is a folder with config\.json"):
        push(tmp_path / "model.gguf", NAME)
    assert hub.requests == []


@pytest.mark.usefixtures("writer")
def test_nothing_is_printed_without_a_screen(hub, run, capfd):
    push(run, NAME)
    assert capfd.readouterr() == ("", "")
    with bothways.display():
        push(run, NAME)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{resolve(run)} goes to {NAME} on the Hugging Face Hub at {hub.url}: README.md, config.json, "
        "loss.svg, manifest.json, model.safetensors, tokenizer.json, tokenizer_config.json"
    ]


THEIRS = """
import sys, torch, transformers, bothways
from bothways.checkpoints.checkpoint import load
name, revision = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(name, revision=revision)
tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
ours = load(f"{name}@{revision}")
weights = ours.model.state_dict()
assert type(model).__name__ == "LlamaForCausalLM"
assert torch.equal(model.model.embed_tokens.weight, weights["transformer.embed_tokens.weight"])
assert tokenizer("the quick fox").input_ids == ours.tokenizer.backend.encode("the quick fox").ids
print(model.num_parameters(), ours.model.num_parameters())
"""


def test_the_command_publishes_and_others_open_it(hub, run, environment):
    words = [
        sys.executable,
        "-m",
        "bothways",
        "push",
        str(run),
        "--to",
        NAME,
        "--private",
        "--revision",
        "v1",
        "--json",
    ]
    environment = {**environment, "HF_TOKEN": "hf_valid"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    commit = hub.repositories[NAME].branches["v1"]
    assert json.loads(told.stdout) == {"model": f"{NAME}@v1", "commit": f"{hub.url}/{NAME}/commit/{commit}"}
    theirs = [sys.executable, "-c", THEIRS, NAME, "v1"]
    opened = subprocess.run(theirs, env=environment, capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    assert len(set(opened.stdout.split())) == 1


@pytest.mark.usefixtures("writer")
def test_a_manifest_that_others_have_added_to_still_holds(hub, run):
    (run / "best" / "notes.json").write_text("{}")
    write_manifest(run / "best")
    push(run, NAME)
    assert "manifest.json" not in on(hub), "it lists a file that does not go there"
    assert load(NAME).tokenizer is not None


@pytest.mark.usefixtures("writer")
def test_the_auto_classes_push_what_they_save(hub, run):
    model = AutoModelForCausalLM.from_pretrained(run)
    address = model.push_to_hub("someone/writer", private=True, revision="tuned", message="Tuned")
    assert address.startswith(f"{hub.url}/someone/writer/commit/")
    assert hub.repositories["someone/writer"].private
    again = AutoModelForCausalLM.from_pretrained("someone/writer", revision="tuned")
    assert again.generate("the quick", max_new_tokens=5) == model.generate("the quick", max_new_tokens=5)
    tokenizer = AutoTokenizer.from_pretrained("someone/writer@tuned")
    assert tokenizer("the quick fox").input_ids == model.tokenizer("the quick fox").input_ids
