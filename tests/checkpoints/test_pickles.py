"""Pickles are opened in a process of their own: tensors come out of them as they were, and nothing in them is ever run."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from bothways.checkpoints import pickles
from bothways.checkpoints.checkpoint import load_checkpoint
from bothways.checkpoints.manifest import verify_manifest
from bothways.checkpoints.tensors import weight_files
from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.convert_pickle import convert_pickle

SIZES = {"vocab_size": 90, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
SIZES |= {"max_position_embeddings": 16}
GPT2 = {"vocab_size": 90, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16}
MODELS = {
    "bert": (transformers.BertForPreTraining, transformers.BertConfig(**SIZES)),
    "roberta": (transformers.RobertaForMaskedLM, transformers.RobertaConfig(**SIZES)),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2)),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZES)),
    "llama, tied": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZES, tie_word_embeddings=True)),
}


def make(name):
    kind, config = MODELS[name]
    return kind(config).eval()


@pytest.fixture
def old_folder(tmp_path):
    """Return what writes the folder of a model as they were published before safetensors, and returns its model."""

    def write(name, **options):
        folder = tmp_path / "old"
        model = make(name)
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin", **options)
        return folder, model

    return write


def logits_of(model, ids):
    with torch.no_grad():
        said = model(torch.tensor([ids]))
    return said.prediction_logits[0] if "prediction_logits" in said else said.logits[0]


def ours(loaded, ids):
    from bothways.batch import collate, row

    batch = collate([row(ids, loaded.model.config.attention)])
    with torch.no_grad():
        return loaded.model.eval().read("language_model", loaded.model(batch), batch, torch.arange(len(ids)))


@pytest.mark.parametrize(("name", "zipped"), [*((name, True) for name in MODELS), ("bert", False)])
def test_a_published_model_comes_out_and_says_the_same(old_folder, tmp_path, name, zipped):
    folder, model = old_folder(name, _use_new_zipfile_serialization=zipped)
    converted = convert_pickle(folder / "pytorch_model.bin", out=tmp_path / "new")
    stored = load_file(tmp_path / "new" / "model.safetensors")
    assert stored.keys() == model.state_dict().keys(), "every tensor, those that are tied too"
    assert all(torch.equal(tensor, model.state_dict()[tensor_name]) for tensor_name, tensor in stored.items())
    assert converted.refused is None
    assert converted.opened.family == model.config.model_type
    assert converted.opened.parameters == model.num_parameters()
    assert "language_model" in converted.opened.heads
    assert converted.found.copied == ("config.json",)
    ids = [5, 6, 7, 8]
    torch.testing.assert_close(ours(load_checkpoint(tmp_path / "new"), ids), logits_of(model, ids), rtol=0, atol=1e-5)


def test_transformers_reads_what_comes_out(old_folder, tmp_path):
    folder, model = old_folder("bert")
    cached = tmp_path / "hub" / "models--a--b" / "snapshots" / "123"
    cached.mkdir(parents=True)
    folder.rename(cached.parents[1] / "blobs")
    for name in ("config.json", "pytorch_model.bin"):
        (cached / name).symlink_to(f"../../blobs/{name}")  # as the cache of the hub keeps them
    convert_pickle(cached, out=tmp_path / "new")
    modes = {file.stat().st_mode for file in (tmp_path / "new").iterdir()}
    assert len(modes) == 1, "whoever may read one of them may read all"
    again, report = transformers.BertForPreTraining.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(logits_of(again.eval(), [5, 6]), logits_of(model, [5, 6]))


def test_the_tokenizer_comes_along_and_strangers_do_not(old_folder, tmp_path):
    folder, _ = old_folder("llama")
    words = Tokenizer.train(["the old man and the sea"] * 9, kind="wordpiece", vocab_size=40, exact=False)
    words.save(folder)
    for name in ("modeling_x.py", "chat_template.jinja", "training_args.bin", "state.json"):
        (folder / name).write_text("{}")
    (folder / "vocab.txt").symlink_to("/etc/hostname")
    os.mkfifo(folder / "merges.txt")
    with (folder / "generation_config.json").open("w") as large:
        large.truncate(17 * 2**20)
    converted = convert_pickle(folder, out=tmp_path / "new")
    assert converted.found.not_copied == ("generation_config.json", "vocab.txt", "merges.txt")
    names = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in (tmp_path / "new").iterdir()} == names | {"model.safetensors", "manifest.json"}
    assert load_checkpoint(tmp_path / "new").tokenizer.encode("the sea") == words.encode("the sea")
    verify_manifest(tmp_path / "new", names)


def test_what_is_ignored_is_said(old_folder, tmp_path):
    folder, model = old_folder("gpt2")
    state = {**model.state_dict(), "transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16)}
    torch.save(state, folder / "pytorch_model.bin")
    converted = convert_pickle(folder, out=tmp_path / "new")
    assert converted.opened.ignored == ("transformer.h.0.attn.bias",)
    assert any("transformer.h.0.attn.bias" in line for line in converted.sentences())
    folder.joinpath("config.json").write_text('{"model_type": "mamba"}')
    converted = convert_pickle(folder, out=tmp_path / "other")
    assert converted.opened is None
    assert "unknown model_type in config.json 'mamba'" in converted.refused
    folder.joinpath("config.json").unlink()
    assert "no config.json" in convert_pickle(folder, out=tmp_path / "bare").refused
    assert load_file(tmp_path / "bare" / "model.safetensors").keys() == state.keys()


# Several files


@pytest.fixture
def parts(old_folder):
    folder, model = old_folder("llama")
    (folder / "pytorch_model.bin").unlink()
    weight_map = {}
    for number in (1, 2):
        name = f"pytorch_model-{number:05}-of-00002.bin"
        part = dict(list(model.state_dict().items())[number - 1 :: 2])
        weight_map |= dict.fromkeys(part, name)
        torch.save(part, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder, model, weight_map


def test_several_files_become_several_with_an_index(parts, tmp_path):
    folder, model, weight_map = parts
    converted = convert_pickle(folder, out=tmp_path / "new")
    assert converted.opened.parameters == model.num_parameters()
    assert [file.name for file in weight_files(tmp_path / "new")] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    with pytest.raises(UserError, match="is one of 2 files of a model; name their folder"):
        convert_pickle(folder / "pytorch_model-00001-of-00002.bin", out=tmp_path / "part")
    for wrong in ({}, {**weight_map, "x": "../x.bin"}, {"x": 3}, "x"):
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(DamagedFileError, match="weight_map"):
            convert_pickle(folder, out=tmp_path / "x")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {**weight_map, "ghost": "x.bin"}}))
    with pytest.raises(DamagedFileError, match=r"there is no '.*x\.bin'"):
        convert_pickle(folder, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_parts_that_disagree_with_their_index_are_refused(parts, tmp_path):
    folder, _, weight_map = parts
    index = {"weight_map": {**weight_map, "ghost": "pytorch_model-00001-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(DamagedFileError, match="disagree on the tensor 'ghost'"):
        convert_pickle(folder, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


# What trainers put around a state dict


@pytest.mark.parametrize(
    ("wrap", "unwrapped", "left_out"),
    [
        (lambda state: {"model": state, "optimizer": {"a": torch.ones(1)}}, ("model",), ("optimizer",)),
        (
            lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
            ("_orig_mod.", "module."),
            (),
        ),
        (
            lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "loops": []},
            ("state_dict", "model."),
            ("loops",),
        ),
        (lambda state: {**state, "step": 3, "note": "x"}, (), ("step", "note")),
    ],
)
def test_what_is_around_the_tensors_is_taken_off_and_said(old_folder, tmp_path, wrap, unwrapped, left_out):
    folder, model = old_folder("llama")
    torch.save(wrap(model.state_dict()), folder / "last.ckpt")
    (folder / "pytorch_model.bin").unlink()
    converted = convert_pickle(folder / "last.ckpt", out=tmp_path / "new")
    assert (converted.found.unwrapped, converted.found.left_out) == (unwrapped, left_out)
    assert converted.opened.parameters == model.num_parameters()
    said = "\n".join(converted.sentences())
    assert all(name in said for name in (*unwrapped, *left_out))


# What is refused


class Reduced:
    """What a pickle makes of this is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(value, **options):
    """Return the bytes of a file of torch.save."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def tar(marker):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            entry, content = tarfile.TarInfo(name), pickle.dumps(Reduced(os.system, f"touch {marker}"), 2)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def repacked(content, change=lambda data: data, **options):
    """Return an archive with other files."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)))
    return file.getvalue()


def torchscript():
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(2)), file)
    return file.getvalue()


def looped():
    values = {"x": 1}
    values["model"] = values
    return values


ONE = {"a": torch.ones(2, 2)}
PAYLOADS = {  # what each pickle asks for, given the file that it must not make
    "os.system": lambda marker: Reduced(os.system, f"touch {marker}"),
    "eval": lambda marker: Reduced(eval, f"open({str(marker)!r}, 'w')"),
    "exec": lambda marker: Reduced(exec, f"open({str(marker)!r}, 'w')"),
    "subprocess": lambda marker: Reduced(subprocess.check_call, ["touch", str(marker)]),
    "open": lambda marker: Reduced(io.open, str(marker), "w"),
    "getattr": lambda _: Reduced(getattr, dict, "get"),
    "torch.load": lambda _: Reduced(torch.load, "/dev/null"),
    "torch.hub": lambda _: Reduced(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/"),
    "a tensor beside it": lambda marker: {**ONE, "b": Reduced(os.system, f"touch {marker}")},
}
HOSTILE = {
    **{f"{name}, zip": lambda marker, make=make: saved(make(marker)) for name, make in PAYLOADS.items()},
    **{
        f"{name}, old format": lambda marker, make=make: saved(make(marker), _use_new_zipfile_serialization=False)
        for name, make in PAYLOADS.items()
    },
    "a plain pickle, protocol 0": lambda marker: pickle.dumps(PAYLOADS["os.system"](marker), 0),
    "a plain pickle, protocol 4": lambda marker: pickle.dumps(PAYLOADS["os.system"](marker), 4),
    "the oldest format": tar,
    "a zip in a zip": lambda marker: repacked(saved(ONE), lambda _: saved(PAYLOADS["os.system"](marker))),
    "a compressed zip": lambda _: repacked(saved({"a": torch.zeros(10**6)}), compression=zipfile.ZIP_DEFLATED),
    "a zip of nothing": lambda _: repacked(saved(ONE), lambda _: b""),
    "code in TorchScript": lambda _: torchscript(),
    "a whole module": lambda _: saved(torch.nn.Linear(2, 2)),
    "a shape without end": lambda _: saved({"a": torch.zeros(0, 2**40)}),
    "one number spread over 2^34": lambda _: saved({"a": torch.ones(1).expand(2**34)}),
    "one tensor under many names": lambda _: saved(dict.fromkeys(map(str, range(200)), torch.ones(10**5))),
    "a tensor without a name": lambda _: saved(ONE["a"]),
    "numbers for names": lambda _: saved({1: ONE["a"]}),
    "a name that safetensors keeps for itself": lambda _: saved({"__metadata__": ONE["a"]}),
    "a name of 1 MB": lambda _: saved({"a" * 2**20: ONE["a"]}),
    "no tensors": lambda _: saved({"epoch": 3}),
    "a dictionary in itself": lambda _: saved(looped()),
    "a sparse tensor": lambda _: saved({"a": torch.ones(2, 2).to_sparse()}),
    "complex numbers": lambda _: saved({"a": torch.ones(2, dtype=torch.complex64)}),
    "a tensor on no device": lambda _: saved({"a": torch.ones(2, device="meta")}),
    "an empty file": lambda _: b"",
    "a text": lambda _: b"hello world\n" * 9,
    "half a file": lambda _: saved(ONE)[:600],
    "half a file of the old format": lambda _: saved({"a": torch.ones(999)}, _use_new_zipfile_serialization=False)[
        :-100
    ],
    "random bytes": lambda _: bytes(range(256)) * 9,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return what the process says of each hostile file, and the files that are there after it."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, make in enumerate(HOSTILE.values()):
        (folder / str(number)).mkdir()
        (folder / str(number) / "x.bin").write_bytes(make(folder / str(number) / "marker"))
    done = in_process(
        f"for number in range({len(HOSTILE)}):\n"
        f"    place = {str(folder)!r} + '/' + str(number)\n"
        "    print(program['main'](place + '/x.bin', place + '/x.safetensors'))"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = zip(HOSTILE, lines[::2], lines[1::2], strict=True)
    left = [[path.name for path in (folder / str(number)).iterdir()] for number in range(len(HOSTILE))]
    return {name: (json.loads(line), int(code), left[number]) for number, (name, line, code) in enumerate(said)}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence_and_nothing_is_run_or_written(outcomes, name):
    said, code, left = outcomes[name]
    assert code == DamagedFileError.exit_code
    assert said.keys() == {"error"}
    assert "\n" not in said["error"]
    assert len(said["error"]) < 300
    assert "weights_only" not in said["error"]
    assert left == ["x.bin"], "nothing run, nothing written"


@pytest.mark.parametrize("name", ["os.system, zip", "a plain pickle, protocol 0"])
def test_a_hostile_file_costs_a_user_nothing_either(tmp_path, name):
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(HOSTILE[name](tmp_path / "marker"))
    with pytest.raises(DamagedFileError, match=f"^'{file}' "):
        convert_pickle(file, out=tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]


def test_a_pickle_that_asks_for_a_function_is_told_by_its_name(tmp_path):
    (tmp_path / "x.pt").write_bytes(saved(PAYLOADS["os.system"]("marker")))
    with pytest.raises(DamagedFileError, match=r"asks for posix\.system, which weights do not need; nothing was run"):
        convert_pickle(tmp_path / "x.pt", out=tmp_path / "new")


def test_what_is_not_there_or_no_file_of_weights_is_a_users_mistake(tmp_path, old_folder):
    folder, _ = old_folder("llama")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.safetensors").write_bytes(b"")
    for source, complaint in {
        "nowhere.bin": "there is no file",
        "empty": "has neither pytorch_model.bin nor",
        "pipe": "is no file",
        "x.safetensors": "is no pickle",
    }.items():
        with pytest.raises(UserError, match=complaint):
            convert_pickle(tmp_path / source, out=tmp_path / "new")
    convert_pickle(folder, out=tmp_path / "new")
    with pytest.raises(UserError, match=r"new' is not empty; name a new one with --out"):
        convert_pickle(folder, out=tmp_path / "new")


def test_a_file_that_takes_too_long_is_given_up(old_folder, tmp_path, monkeypatch):
    folder, _ = old_folder("llama")
    monkeypatch.setattr(pickles, "_PATIENCE", 0.01)
    with pytest.raises(DamagedFileError, match="it takes too long"):
        convert_pickle(folder, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


# The process that opens them


def in_process(code):
    """Run code as the process does, isolated, with the program's names in ``program``."""
    code = f"import runpy, sys; program = runpy.run_path({str(pickles.PROGRAM)!r})\n{code}"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)


FORBIDDEN = [
    "os.system('touch marker')",
    "os.execvp('touch', ['touch', 'marker'])",
    "subprocess.run(['touch', 'marker'])",
    "os.fork()",
    "os.posix_spawn('/bin/touch', ['touch', 'marker'], {})",
    "os.spawnlp(os.P_WAIT, 'touch', 'touch', 'marker')",
    "socket.socket()",
    "ctypes.CDLL(None)",
]


def test_it_can_start_nothing_and_call_nobody(tmp_path):
    done = in_process(
        "import ctypes, os, socket, subprocess\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "program['guard']()\n"
        f"for code in {FORBIDDEN}:\n"
        "    try:\n"
        "        eval(code)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)"
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(FORBIDDEN), done.stderr
    assert all(line.startswith("RefusedError asks for") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_damage(tmp_path):
    torch.save({"a": torch.ones(10**5)}, tmp_path / "x.bin")
    done = in_process(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"sys.exit(program['main']({str(tmp_path / 'x.bin')!r}, {str(tmp_path / 'x.safetensors')!r}))"
    )
    assert done.returncode == OutOfDiskError.exit_code, done.stdout
    assert "there is no room left to write it" in done.stdout


def test_it_needs_a_torch_that_is_safe(tmp_path):
    torch.save(ONE, tmp_path / "x.bin")
    words = f"[{str(tmp_path / 'x.bin')!r}, {str(tmp_path / 'x.safetensors')!r}]"
    versions = {"2.9.1+cpu": 2, "1.13.0": 2, "2.10.0": 0, "2.13.0a0+git": 0, "3.0": 0}
    done = in_process(
        f"import torch\nfor torch.__version__ in {list(versions)}:\n    print(program['main'](*{words}))",
    )
    said = done.stdout.splitlines()
    assert [int(code) for code in said[1::2]] == list(versions.values()), done.stderr
    assert ["only opened by torch 2.10 or newer" in line for line in said[::2]] == list(map(bool, versions.values()))


def test_it_finds_torch_where_python_alone_would_not(old_folder, tmp_path, monkeypatch):
    folder, _ = old_folder("llama")
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # without what is installed in this environment
    assert convert_pickle(folder, out=tmp_path / "new").refused is None


def test_it_does_not_know_the_package_nor_the_folder_where_we_are(old_folder, tmp_path, monkeypatch):
    folder, _ = old_folder("llama")
    done = in_process("print([name for name in sys.modules if name.startswith('bothways')])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", ""), "importing it does nothing"
    for name in ("torch.py", "sitecustomize.py", "json.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    convert_pickle("pytorch_model.bin", out=tmp_path / "new")
    assert not (tmp_path / "marker").exists()


def test_the_refusal_of_a_folder_names_a_command_that_works(parts, tmp_path):
    folder, _, _ = parts
    spaced = folder.rename(Path(tmp_path / "old model"))
    with pytest.raises(UserError) as refused:
        load_checkpoint(spaced)
    assert f"`bothways convert-pickle '{spaced}' --out FOLDER`" in str(refused.value)
    convert_pickle(spaced, out=tmp_path / "new")
    for file in spaced.glob("pytorch_model*"):
        file.unlink()
    torch.save(ONE, spaced / "weights.pt")
    with pytest.raises(UserError) as refused:
        load_checkpoint(spaced)
    assert f"`bothways convert-pickle '{spaced / 'weights.pt'}' --out FOLDER`" in str(refused.value)
