"""Proves the evaluator: untrained models are as bad as a guess, and bothways itself finds what it finds of our models."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bothways.batch import Row, Target, collate, join, row
from bothways.checkpoints.checkpoint import load
from bothways.objectives.causal_lm import CausalLM
from bothways.text.packing import fill
from bothways.text.shards import Shards
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.validation import validate
from time_to_quality import heldout
from time_to_quality.arms import ours
from time_to_quality.results import measure
from time_to_quality.runners import BLOCK, SEQUENCE, Bench, run_ours

# Each writes untrained weights of a peer.
UNTRAINED = {
    "trainer": """
import json, sys
from time_to_quality.trainer import make_model
make_model(json.loads(sys.argv[1])).save_pretrained(sys.argv[2])
""",
    "nanogpt": """
import json, sys, torch
job = json.loads(sys.argv[1])
sys.path.insert(0, job["checkout"])
from model import GPT, GPTConfig
shape = job["shape"]
told = {"block_size": job["length"], "vocab_size": shape["vocab_size"], "n_layer": shape["layers"],
    "n_head": shape["heads"], "n_embd": shape["hidden_size"], "bias": False}
torch.save({"model_args": told, "model": GPT(GPTConfig(**told)).state_dict()}, sys.argv[2] + "/ckpt.pt")
""",
}


def check(bench: Bench, families: list[str], size: str) -> None:
    """Print what is found beside what must be found.

    Raises:
        AssertionError: they differ.
    """
    for family in families:
        peers = ["trainer-gpt", "nanogpt"] if family == "gpt" else ["trainer-lines"]
        for peer in peers if bench.checkout else [peer for peer in peers if peer != "nanogpt"]:
            expect(f"untrained {peer}", untrained(bench, family, peer), guesses(bench, family), 0.01)
        folder = bench.work / "check"
        shutil.rmtree(folder, ignore_errors=True)
        with (bench.work / "check.txt").open("w") as log:
            trained = run_ours(ours(family, size, 0.05, 0), bench, folder, log)
        found = measure(bench, "bothways", family, trained["model"])
        own = own_gpt if family == "gpt" else own_bert
        expect(f"bothways {family}", found, own(bench, Path(trained["model"])), 1e-4)
        shutil.rmtree(folder)


def expect(name: str, found: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    """Compare the figures that are expected."""
    for figure, value in expected.items():
        print(f"{name}: {figure} {found[figure]:.5f}, expected {value:.5f}", flush=True)
        assert abs(found[figure] / value - 1) < tolerance, name


def guesses(bench: Bench, family: str) -> dict[str, float]:
    """Return the figures of a model that holds every token for equally likely."""
    nats = math.log(bench.shapes[family]["vocab_size"])
    found = {}
    for figure in heldout.FIGURES[family]:
        stored = heldout.load(bench.work / "heldout" / f"{figure}.npz")
        size, count = float(stored["num_bytes"]), int((stored["said"] != heldout.NOTHING).sum())
        found[figure] = nats if math.isnan(size) else nats * count / math.log(2) / size
    return found


def untrained(bench: Bench, family: str, peer: str) -> dict[str, float]:
    """Return the figures of a peer's fresh weights."""
    folder = bench.work / "untrained"
    folder.mkdir(exist_ok=True)
    length = BLOCK if family == "gpt" else SEQUENCE
    job: dict[str, Any] = {"family": family, "shape": bench.shapes[family], "dropout": 0.1, "length": length}
    job |= {"bos": bench.ids["bos"], "checkout": str(bench.checkout)}
    command = [sys.executable, "-c", UNTRAINED[peer.partition("-")[0]], json.dumps(job), folder]
    subprocess.run(command, env=bench.environment(), check=True, stdout=subprocess.DEVNULL)
    found = measure(bench, peer, family, folder)
    shutil.rmtree(folder)
    return found


def own_gpt(bench: Bench, folder: Path) -> dict[str, float]:
    """Return what bothways finds of its GPT on the same documents, cut by its own objective."""
    data = bench.data("gpt")
    corpus, tokenizer = Shards(data).corpus("validation"), Tokenizer.load(data)
    objective = CausalLM(bos_id=tokenizer.special_id("bos"), eos_id=tokenizer.special_id("eos"))
    stored = heldout.load(bench.work / "heldout" / "bits_per_byte.npz")
    size, rows, index = int(stored["num_bytes"]), [], 0
    while size > 0:
        rows += [
            without_end(join(parts), objective.eos_id)
            for parts in fill([objective.sequence(corpus.document(index))], heldout.WINDOW)
        ]
        size -= int(corpus.document_bytes[index])
        index += 1
    rows = [one for one in rows if len(one.targets["language_model"].index)]
    return {"bits_per_byte": validated(folder, rows, num_bytes=int(stored["num_bytes"]))["bits_per_byte"]}


def without_end(whole: Row, end: int) -> Row:
    """Return a row that does not predict the end of its document."""
    target = whole.targets["language_model"]
    inside = target.value != end
    targets = {"language_model": Target(index=target.index[inside], value=target.value[inside])}
    return row(whole.input_ids, "causal", targets=targets)


def own_bert(bench: Bench, folder: Path) -> dict[str, float]:
    """Return what bothways finds of its BERT on the same masked sequences."""
    found = {}
    for figure in heldout.FIGURES["bert"]:
        stored = heldout.load(bench.work / "heldout" / f"{figure}.npz")
        rows = []
        for ids, said, length in zip(stored["ids"], stored["said"], stored["lengths"], strict=True):
            chosen = np.flatnonzero(said != heldout.NOTHING)
            target = Target(index=chosen, value=said[chosen])
            rows.append(row(ids[:length], "bidirectional", targets={"language_model": target}))
        found[figure] = validated(folder, rows, num_bytes=None)["loss"]
    return found


def validated(folder: Path, rows: list[Row], *, num_bytes: int | None) -> dict[str, float]:
    """Return bothways' own figures of a model."""
    batches = [collate(rows[start : start + 8]) for start in range(0, len(rows), 8)]
    return validate(load(folder).model, batches, precision="fp32", num_bytes=num_bytes)
