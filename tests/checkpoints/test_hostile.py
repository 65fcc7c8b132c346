"""Models that were made to do harm: each is refused in one sentence, or opens as if nothing were there, and nothing is run.

Each line of ``CASES`` damages a good model. All are then opened by one process, which counts what Python's audit hooks see
(``opening.py``): code that is run or imported, processes that are started, connections that are opened.
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.errors import LONGEST, DamagedFileError, UserError
from bothways.exports import gguf as exported
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model

PATIENCE = 2.0  # seconds that an opening may work
FLIPS = 300
WEIGHTS = "model.safetensors"
SIZES = {"vocab_size": 270, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
BERT = {"attention": "bidirectional", "position": "learned", "norm": "layer", "norm_position": "post", "bias": True}
BERT |= {"activation": "gelu", "type_vocab_size": 2, "pooler": "tanh", "head_transform": True}
JINJA = "{{ ''.__class__.__mro__[1].__subclasses__()[104].load_module('os').system('touch sprung') }}"


# What is damaged


def bare(folder):
    """Take away what is ours: the folder is as anyone may have published it."""
    for name in ("manifest.json", "state.json", "training.safetensors"):
        (folder / name).unlink(missing_ok=True)
    return folder


def cut(length):
    """Return what cuts the weights to so many bytes; below 0: from their end."""

    def change(folder):
        file = bare(folder) / WEIGHTS
        file.write_bytes(file.read_bytes()[:length])

    return change


def flip(name, place):
    """Return what flips a bit of a file at a share of its length; the manifest is there to notice."""

    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        (folder / name).write_bytes(content)

    return change


def length_of_header(number):
    def change(folder):
        file = bare(folder) / WEIGHTS
        content = file.read_bytes()
        file.write_bytes(struct.pack("<Q", number) + content[8:])
        if number < 2**30:
            os.truncate(file, number + 8 + len(content))  # a hole in the file, no disk

    return change


def header(change):
    """Return what changes the header of the weights, as text."""

    def damage(folder):
        file = bare(folder) / WEIGHTS
        content = file.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        changed = change(content[8:end].decode()).encode()
        file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[end:])

    return damage


def entry(change, name="model.norm.weight"):
    """Return what changes the entry of one tensor in the header."""

    def changed(text):
        values = json.loads(text)
        change(values[name], values)
        return json.dumps(values)

    return header(changed)


def offsets(start, end):
    return entry(lambda norm, _: norm.update(data_offsets=[start, end]))


def tensors(change):
    """Return what changes the tensors themselves."""

    def damage(folder):
        held = load_file(bare(folder) / WEIGHTS)
        change(held)
        save_file(held, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def poison(value):
    return tensors(lambda held: held["model.norm.weight"].__setitem__(3, value))


def config(**changes):
    def damage(folder):
        file = bare(folder) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return damage


def text(name, content):
    """Return what writes a file."""
    return lambda folder: (bare(folder) / name).write_text(content)


def huge(name, size):
    def damage(folder):
        (bare(folder) / name).touch()
        os.truncate(folder / name, size)

    return damage


def link(name, target):
    """Return what makes a file a link; ``{away}`` is a copy of it outside of the folder."""

    def damage(folder):
        away = folder.parent / f"{folder.name}-{name}"
        if (folder / name).exists():
            (folder / name).rename(away)
        (folder / name).symlink_to(target.format(away=away))

    return damage


def device(name):
    """Return what makes a file a device without end; where that is not allowed, the file is gone."""

    def damage(folder):
        (bare(folder) / name).unlink()
        with contextlib.suppress(OSError):
            os.mknod(folder / name, stat.S_IFCHR | 0o600, os.makedev(1, 5))

    return damage


def pipe(name):
    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def manifest(change):
    def damage(folder):
        values = json.loads((folder / "manifest.json").read_text())
        changed = change(values)
        (folder / "manifest.json").write_text(json.dumps(values) if changed is None else changed)

    return damage


def listed(name, size=1):
    return manifest(lambda values: values["files"].update({name: {"size": size, "sha256": "0" * 64}}))


def upper(values):
    for each in values["files"].values():
        each["sha256"] = each["sha256"].upper()


def renamed_algorithm(values):
    for each in values["files"].values():
        each["md5"] = each.pop("sha256")


def listed_twice(values):
    text = json.dumps(values)
    return text.replace('"config.json"', '"state.json"', 1)


def shards(change):
    """Return what puts the weights into two files and changes their index."""

    def damage(folder):
        held = load_file(bare(folder) / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        weight_map = {name: names[at % 2] for at, name in enumerate(held)}
        for file in names:
            save_file({name: held[name] for name in held if weight_map[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": change(weight_map) or weight_map})
        )

    return damage


class Reduced:
    """What a pickle makes of this is a call of os.system."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.system, (f"touch {self.folder / 'sprung'}",)


def pickled(name, *, alone):
    def damage(folder):
        bare(folder)
        (folder / name).write_bytes(pickle.dumps({"model.norm.weight": Reduced(folder)}))
        if alone:
            (folder / WEIGHTS).unlink()

    return damage


def code(folder):
    """Put modules everywhere that would show that they were imported."""
    for name in (
        "modeling_x.py",
        "__init__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "torch.py",
        "bothways.py",
        "json.py",
    ):
        (folder / name).write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")
    config(auto_map={"AutoModel": "modeling_x.Model", "AutoConfig": "modeling_x.Config"}, trust_remote_code=True)(
        folder
    )


def tokenizer(change):
    def damage(folder):
        file = bare(folder) / "tokenizer.json"
        values = json.loads(file.read_text())
        change(values)
        file.write_text(json.dumps(values))

    return damage


def pattern(values):
    bomb = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    values["pre_tokenizer"] = bomb


def swap_weights(folder):
    """Put a BERT's weights under a GPT's config."""
    shutil.copy(folder.parent / "bert" / WEIGHTS, bare(folder) / WEIGHTS)


def many_tokens(values):
    vocabulary = values["model"]["vocab"]
    for number in range(100):
        vocabulary[f"more{number}"] = len(vocabulary)


# GGUF


def at(place, value, form="<Q"):
    """Return what writes a number at a place of a file."""

    def damage(file):
        content = bytearray(file.read_bytes())
        struct.pack_into(form, content, place, value)
        file.write_bytes(content)

    return damage


def of_tensor(skip, value, form="<Q", name=b"token_embd.weight"):
    """Return what writes a number behind a tensor's name: its dimensions, their sizes, its type and its place."""
    return lambda file: at(file.read_bytes().index(name) + len(name) + skip, value, form)(file)


def of_field(name, skip, value, form):
    """Return what writes a number behind a setting's name: its type, and its value."""
    return lambda file: at(file.read_bytes().index(name) + len(name) + skip, value, form)(file)


def nested_lists(file):
    """Make a list of tokens one of lists of lists, as deep as the file allows."""
    content = bytearray(file.read_bytes())
    begin = content.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 4
    for place in range(begin, len(content) - 12, 12):
        struct.pack_into("<IQ", content, place, 9, 1)
    file.write_bytes(content)


def shorter(length):
    return lambda file: file.write_bytes(file.read_bytes()[:length])


# Which good model, and what is done to it; those that are harmless open with the same weights.
REFUSED = {
    "no weights": ("gpt", lambda folder: (bare(folder) / WEIGHTS).unlink()),
    "no config": ("gpt", lambda folder: (bare(folder) / "config.json").unlink()),
    "weights of 0 bytes": ("gpt", cut(0)),
    "weights of 1 byte": ("gpt", cut(1)),
    "weights of 7 bytes": ("gpt", cut(7)),
    "weights of 8 bytes": ("gpt", cut(8)),
    "weights without their last byte": ("gpt", cut(-1)),
    "a byte more": (
        "gpt",
        lambda folder: (bare(folder) / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"\0"),
    ),
    "a bit of the header": ("gpt", flip(WEIGHTS, 0.05)),
    "a bit of the data": ("gpt", flip(WEIGHTS, 0.9)),
    "a bit of the manifest": ("gpt", flip("manifest.json", 0.5)),
    "a header of 2^63 bytes": ("gpt", length_of_header(2**63)),
    "a header of 100,000,001 bytes": ("gpt", length_of_header(10**8 + 1)),
    "a header of zeros": ("gpt", header(lambda text: "\0" * len(text))),
    "a header of 10^5 brackets": ("gpt", header(lambda _: "[" * 10**5)),
    "a tensor twice": ("gpt", header(lambda text: text.replace("model.layers.0.input_layernorm", "model.norm"))),
    "a tensor over another": ("gpt", offsets(0, 32)),
    "a hole between tensors": ("gpt", entry(lambda _, values: values.pop("model.norm.weight"))),
    "a tensor that ends before it begins": ("gpt", offsets(64, 32)),
    "a tensor from -32 on": ("gpt", offsets(-32, 0)),
    "a tensor to 2^64": ("gpt", offsets(2**64 - 32, 2**64)),
    "a tensor beyond the file": ("gpt", offsets(10**9, 10**9 + 32)),
    "a shape that overflows": ("gpt", entry(lambda norm, _: norm.update(shape=[2**32, 2**32]))),
    "a shape without end": ("gpt", entry(lambda norm, _: norm.update(shape=[0, 2**40], data_offsets=[0, 0]))),
    "a negative shape": ("gpt", entry(lambda norm, _: norm.update(shape=[-1, -8]))),
    "an empty tensor of shape [0, 2^40]": ("gpt", tensors(lambda held: held.update(x=torch.zeros(0, 2**40)))),
    "a tensor missing": ("gpt", tensors(lambda held: held.pop("model.norm.weight"))),
    "a tensor too many": ("gpt", tensors(lambda held: held.update(x=torch.ones(2)))),
    "a tensor of another shape": ("gpt", tensors(lambda held: held.update({"model.norm.weight": torch.ones(9)}))),
    "a tensor of whole numbers": ("gpt", tensors(lambda held: held.update({"model.norm.weight": torch.ones(8).int()}))),
    "a matrix lying on its side": (
        "gpt",
        tensors(lambda held: held.update({name: held[name].T.contiguous() for name in held if "up_proj" in name})),
    ),
    "an undefined number": ("gpt", poison(float("nan"))),
    "an infinite number": ("gpt", poison(float("inf"))),
    "a tensor named as a path": ("gpt", tensors(lambda held: held.update({"../../x": torch.ones(1)}))),
    "a tensor with a name of 1 MB": ("gpt", tensors(lambda held: held.update({"x" * 2**20: torch.ones(1)}))),
    "a tensor with a name of many lines": ("gpt", tensors(lambda held: held.update({"x\n\x1b[2J" * 9: torch.ones(1)}))),
    "10^4 tensors too many": ("gpt", tensors(lambda held: held.update({f"x{n}": torch.ones(1) for n in range(10**4)}))),
    "a tensor in another case": ("gpt", tensors(lambda held: held.update({"model.norm.WEIGHT": torch.ones(8)}))),
    "10^9 layers": ("gpt", config(num_hidden_layers=10**9)),
    "10^4 layers": ("gpt", config(num_hidden_layers=10**4)),
    "a hidden size of 0": ("gpt", config(hidden_size=0)),
    "a hidden size of -1": ("gpt", config(hidden_size=-1)),
    "a hidden size of 1.5": ("gpt", config(hidden_size=1.5)),
    "a hidden size of text": ("gpt", config(hidden_size="64")),
    "a hidden size of null": ("gpt", config(hidden_size=None)),
    "a hidden size of NaN": ("gpt", config(hidden_size=float("nan"))),
    "a hidden size of 10^6": ("gpt", config(hidden_size=10**6, intermediate_size=10**7, bothways={})),
    "a hidden size of 1 MB of text": ("gpt", config(hidden_size="6" * 2**20)),
    "an activation of 1 MB of text": ("gpt", config(hidden_act="x" * 2**20)),
    "an unsupported setting of 1 MB of text": ("gpt", config(rope_scaling={"type": "x" * 2**20})),
    "10^5 names of classes that make no sense": ("gpt", config(id2label=[str(number) for number in range(10**5)])),
    "heads of 1 MB of text": ("gpt", config(bothways={"heads": ["x" * 2**20]})),
    "settings of 1 MB of text": ("gpt", config(bothways={"settings": {"x" * 2**20: 1}})),
    "a norm_eps of NaN": ("gpt", config(rms_norm_eps=float("nan"))),
    "heads that do not divide": ("gpt", config(num_attention_heads=3)),
    "another vocabulary": ("gpt", config(vocab_size=271)),
    "a model type that is a path": ("gpt", config(model_type="../../x")),
    "a model type of 1 MB": ("gpt", config(model_type="x" * 2**20)),
    "a config of 100 MB": ("gpt", huge("config.json", 10**8)),
    "a config of 10^5 brackets": ("gpt", text("config.json", "[" * 10**5)),
    "a config with a key twice": ("gpt", text("config.json", '{"model_type": "llama", "model_type": "bert"}')),
    "a config of a number with 10^6 digits": ("gpt", text("config.json", '{"hidden_size": ' + "9" * 10**6 + "}")),
    "a pickle in place of the weights": ("gpt", pickled("pytorch_model.bin", alone=True)),
    "a distributed checkpoint in place of the weights": ("gpt", pickled(".metadata", alone=True)),
    "weights that are a link, in a folder of ours": ("gpt", link(WEIGHTS, "{away}")),
    "weights that are a link to themselves": ("gpt", lambda folder: link(WEIGHTS, WEIGHTS)(bare(folder))),
    "weights that are a link to nothing": ("gpt", lambda folder: link(WEIGHTS, "nowhere")(bare(folder))),
    "weights that are a link to a device": ("gpt", lambda folder: link(WEIGHTS, "/dev/zero")(bare(folder))),
    "a config that is a link to a device": ("gpt", lambda folder: link("config.json", "/dev/zero")(bare(folder))),
    "a tokenizer that is a link to a device": ("gpt", lambda folder: link("tokenizer.json", "/dev/zero")(bare(folder))),
    "weights that are a device": ("gpt", device(WEIGHTS)),
    "a config that is a device": ("gpt", device("config.json")),
    "weights that are a pipe": ("gpt", lambda folder: pipe(WEIGHTS)(bare(folder))),
    "a config that is a pipe": ("gpt", lambda folder: pipe("config.json")(bare(folder))),
    "a tokenizer that is a pipe": ("gpt", lambda folder: pipe("tokenizer.json")(bare(folder))),
    "a manifest that is a pipe": ("gpt", pipe("manifest.json")),
    "a manifest that lists /etc/passwd": ("gpt", listed("/etc/passwd")),
    "a manifest that lists ../x": ("gpt", listed("../x")),
    "a manifest that lists a file in two cases": ("gpt", listed("MODEL.safetensors")),
    "a manifest with another algorithm": ("gpt", manifest(renamed_algorithm)),
    "a manifest with hashes in capitals": ("gpt", manifest(upper)),
    "a manifest with a file twice": ("gpt", manifest(listed_twice)),
    "a manifest of a newer version": ("gpt", manifest(lambda values: values.update(version=2))),
    "a manifest of a size of 10^30": ("gpt", listed("x", 10**30)),
    "an index to another folder": ("gpt", shards(lambda names: {**names, "x": "../x.safetensors"})),
    "an index to /etc/passwd": ("gpt", shards(lambda names: dict.fromkeys(names, "/etc/passwd"))),
    "an index in two cases": (
        "gpt",
        shards(lambda names: {**names, "model.norm.weight": names["model.norm.weight"].upper()}),
    ),
    "an index with a tensor that is nowhere": (
        "gpt",
        shards(lambda names: {**names, "x" * 2**20: "model-00001-of-00002.safetensors"}),
    ),
    "a BERT's weights under a GPT's config": ("gpt", swap_weights),
    "a GPT's config beside a BERT": ("bert", config(model_type="gpt2", n_embd=8, n_layer=2, n_head=2)),
    "more tokens than the model knows": ("gpt", tokenizer(many_tokens)),
    "a tokenizer with a bomb of a pattern": ("gpt", tokenizer(pattern)),
    "a tokenizer of an unknown kind": ("gpt", tokenizer(lambda values: values["model"].update(type="WordLevel"))),
    "a tokenizer with a gap": ("gpt", tokenizer(lambda values: values["model"]["vocab"].update(more=5000))),
    "a tokenizer with code of its own": ("gpt", tokenizer(lambda values: values.update(auto_map={"x": "x.py"}))),
    "a tokenizer with a token of 10 MB": (
        "gpt",
        tokenizer(lambda values: values["model"]["vocab"].update({"x" * 10**7: 270})),
    ),
    "a tokenizer of 65 MB": ("gpt", huge("tokenizer.json", 65 * 2**20)),
    "GGUF of 0 bytes": ("gguf", shorter(0)),
    "GGUF of 23 bytes": ("gguf", shorter(23)),
    "GGUF of half its bytes": ("gguf", lambda file: shorter(len(file.read_bytes()) // 2)(file)),
    "GGUF without its last byte": ("gguf", shorter(-1)),
    "GGUF of another version": ("gguf", at(4, 99, "<I")),
    "GGUF with 2^60 tensors": ("gguf", at(8, 2**60)),
    "GGUF with 2^60 settings": ("gguf", at(16, 2**60)),
    "GGUF with a name of 2^60 bytes": ("gguf", at(24, 2**60)),
    "GGUF with a text of 2^60 bytes": ("gguf", of_field(b"general.architecture", 4, 2**60, "<Q")),
    "GGUF with a list of 2^60 tokens": ("gguf", of_field(b"tokenizer.ggml.tokens", 8, 2**60, "<Q")),
    "GGUF with lists in lists": ("gguf", nested_lists),
    "GGUF with a setting of an unknown type": ("gguf", of_field(b"llama.embedding_length", 0, 77, "<I")),
    "GGUF with an endless hidden size": ("gguf", of_field(b"llama.embedding_length", 4, 2**32 - 1, "<I")),
    "GGUF with 2^31 layers": ("gguf", of_field(b"llama.block_count", 4, 2**31, "<I")),
    "GGUF with 9,999 layers": ("gguf", of_field(b"llama.block_count", 4, 9999, "<I")),
    "GGUF with a tensor beyond the file": ("gguf", of_tensor(4 + 16 + 4, 2**40)),
    "GGUF with a tensor at 2^64 - 32": ("gguf", of_tensor(4 + 16 + 4, 2**64 - 32)),
    "GGUF with a tensor of an unknown type": ("gguf", of_tensor(4 + 16, 999, "<I")),
    "GGUF with a tensor of 2^32 dimensions": ("gguf", of_tensor(0, 2**32 - 1, "<I")),
    "GGUF with a tensor over another": ("gguf", of_tensor(4 + 8 + 4, 0, name=b"output_norm.weight")),
    "GGUF with a size of 0": ("gguf", of_tensor(4, 0)),
    "GGUF with a size of -1": ("gguf", of_tensor(4, -1, "<q")),
    "GGUF with a size of 2^63": ("gguf", of_tensor(4, 2**63)),
    "GGUF with sizes that overflow": ("gguf", lambda file: [of_tensor(skip, 2**32)(file) for skip in (4, 12)]),
}
HARMLESS = {
    "nothing": ("gpt", bare),
    "another folder for what is remote": (
        "gpt",
        config(auto_map={"AutoModel": "x/y--z.Model"}, trust_remote_code=True),
    ),
    "a pickle beside the weights": ("gpt", pickled("pytorch_model.bin", alone=False)),
    "arguments of training beside the weights": ("gpt", pickled("training_args.bin", alone=False)),
    "a distributed checkpoint beside the weights": ("gpt", pickled(".metadata", alone=False)),
    "code beside the weights": ("gpt", code),
    "a template with code": ("gpt", text("chat_template.jinja", JINJA)),
    "a template with code in the settings of the tokenizer": (
        "gpt",
        text(
            "tokenizer_config.json",
            json.dumps({"chat_template": JINJA, "tokenizer_class": "X", "auto_map": {"x": "y"}}),
        ),
    ),
    "a pipe beside the weights": ("gpt", lambda folder: pipe("x.bin")(bare(folder))),
    "an index beside the weights": ("gpt", text("model.safetensors.index.json", '{"weight_map": {"x": "../x"}}')),
    "settings of generation with code": ("gpt", text("generation_config.json", '{"custom_generate": "x.py"}')),
    "weights that are a link to the same ones": ("gpt", lambda folder: link(WEIGHTS, "{away}")(bare(folder))),
    "two files": ("gpt", shards(lambda names: names)),
    "GGUF beside code": ("gguf", lambda file: (file.parent / "gguf.py").write_text("raise SystemExit")),
}
CASES = {**REFUSED, **HARMLESS}


@pytest.fixture(scope="module")
def good(tmp_path_factory, tokenizer):
    """Return a folder with good models of each kind."""
    place = tmp_path_factory.mktemp("good")
    torch.manual_seed(0)
    gpt = Model(TransformerConfig(**SIZES, max_position_embeddings=16), {"language_model": 0})
    training = {"step": torch.tensor(7)}
    save_checkpoint(place / "gpt", gpt, tokenizer=tokenizer, training=training, state={"step": 7})
    bert = Model(TransformerConfig(**SIZES, max_position_embeddings=16, **BERT), {"language_model": 0})
    save_checkpoint(place / "bert", bert)
    bare(place / "bert")
    (place / "gguf").mkdir()
    exported.write(load_checkpoint(place / "gpt"), place / "gguf", "fp32")
    return place


def copy_of(good, kind, place):
    """Return a copy of a good model, as ``load_checkpoint`` takes it."""
    shutil.copytree(good / kind, place)
    return place / "model.gguf" if kind == "gguf" else place


def opened(good, hostile, folder):
    """Return what came of opening places, and of the good ones before."""
    goods = [str(good / "gpt"), str(good / "bert"), str(good / "gguf" / "model.gguf")]
    (folder / "job.json").write_text(json.dumps({"good": goods, "hostile": [str(place) for place in hostile]}))
    trap = folder / "trap"
    trap.mkdir()
    code_in(trap)
    script = Path(__file__).with_name("opening.py")
    words = [sys.executable, str(script), str(folder / "job.json"), str(folder / "answer.json")]
    done = subprocess.run(words, cwd=trap, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads((folder / "answer.json").read_text())
    assert not (trap / "sprung").exists(), "a module of the folder where we are was imported"
    assert len(answer["control"]) == 1, "what watches is awake"
    return answer


def code_in(folder):
    for name in ("sitecustomize.py", "torch.py", "safetensors.py", "tokenizers.py", "modeling_x.py"):
        (folder / name).write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")


@pytest.fixture(scope="module")
def outcomes(good, tmp_path_factory):
    """Return what came of each case, the weights of its good model, and its folder."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(good / "bert", folder / "bert")
    places = {}
    for number, (name, (kind, damage)) in enumerate(CASES.items()):
        places[name] = copy_of(good, kind, folder / f"{number:03}")
        damage(places[name])
    answer = opened(good, places.values(), folder)
    weights = {
        Path(place).parts[-2 if "gguf" in place else -1]: said["weights"] for place, said in answer["good"].items()
    }
    return {name: (answer["hostile"][str(place)], weights[CASES[name][0]], place) for name, place in places.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_model_is_refused_or_opens_as_if_nothing_were_there(outcomes, name):
    said, weights, place = outcomes[name]
    assert "bug" not in said, said
    assert said["events"] == []
    assert said["seconds"] < PATIENCE
    assert not list((place if place.is_dir() else place.parent).rglob("sprung"))
    if name in HARMLESS:
        assert said.get("weights") == weights, said
    else:
        assert said.get("refused") in ("UserError", "DamagedFileError"), said
        sentence = said["said"].replace(str(place), "")
        assert "\n" not in sentence
        assert "\x1b" not in sentence
        assert len(sentence) <= LONGEST


def test_any_change_of_a_gguf_file_is_refused_or_opens(good, tmp_path):
    """Flips and cuts: GGUF has no hashes, so some give other weights, but none gives a bug."""
    whole = (good / "gguf" / "model.gguf").read_bytes()
    begin = whole.index(b"output_norm.weight") + 200  # numbers follow: most changes shall meet what is read before them
    draw = random.Random(0)
    for number in range(FLIPS):
        content = bytearray(whole)
        if number % 4 == 0:
            content = content[: draw.randrange(len(content))]
        for _ in range(draw.choice((1, 1, 2, 8)) if number % 4 else 0):
            content[draw.randrange(begin if draw.random() < 0.9 else len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / f"{number}.gguf").write_bytes(content)
    (tmp_path / "work").mkdir()
    answer = opened(good, sorted(tmp_path.glob("*.gguf")), tmp_path / "work")["hostile"]
    assert len(answer) == FLIPS
    assert not {place: said for place, said in answer.items() if "bug" in said or said["events"]}
    assert max(said["seconds"] for said in answer.values()) < PATIENCE
    assert 0.3 < sum("refused" in said for said in answer.values()) / FLIPS < 1
    assert all("\n" not in said.get("said", "") for said in answer.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_nobody_may_read_is_refused(good, tmp_path):
    for name in ("config.json", WEIGHTS):
        folder = bare(copy_of(good, "gpt", tmp_path / name))
        (folder / name).chmod(0)
        with pytest.raises((UserError, DamagedFileError), match=name):
            load_checkpoint(folder)
