"""The verbs that carry models from and to other programs and places."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import bothways
from bothways.cli.answer import Answer, table
from bothways.cli.grammar import FILE, Verb, as_json, formats, model, verify
from bothways.cli.verbs import command


@command.command(cls=Verb, epilog="bothways export --model gpt --format gguf --out gpt-gguf")
@model
@click.option("--format", type=click.Choice(formats()), default="hf", help="Of which program.")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="Folder to make; an earlier export is replaced.")
@click.option(
    "--precision", metavar="NAME", help="Of the weights, such as fp16 or int8; the format's usual one if not given."
)
@click.option(
    "--attention",
    type=click.Choice(["causal", "bidirectional"]),
    help="Which way a hybrid reads; from left to right, if not given.",
)
@verify
@as_json
def export(model: str, format: str, out: Path, **options: Any) -> Answer:  # noqa: A002
    """Write a model for another program, and prove that both say the same.

    Both are asked about the same tokens. The largest difference is shown, and where it is too large nothing is written. A
    model card (README.md) says how the export is used.

    \b
    hf                     transformers: fp32
    sentence-transformers  vectors of texts: fp32
    onnx                   ONNX Runtime: fp32, int8
    openvino               OpenVINO: fp32, fp16
    gguf                   llama.cpp: fp32, fp16, q8_0
    """
    exported = bothways.export(model, format=format, out=out, **options)
    values = [{**asdict(each), "relative": each.relative} for each in exported.differences]
    lines = [[each["head"], *(f"{each[name]:.3g}" for name in ("largest", "spread", "relative"))] for each in values]
    head = ["head", "largest difference", "standard deviation", "ratio"]
    alike = exported.texts - len(exported.otherwise)
    shown = [table(lines, columns=head), *([f"Cuts {alike} of {exported.texts} texts alike"] if exported.texts else [])]
    shown += [f"Written: {out} ({format}, {exported.precision}), which says the same as the model"]
    return Answer(values={"out": str(out), **asdict(exported), "differences": values}, shown=shown)


@command.command(cls=Verb, epilog="bothways push sorter --to owner/sorter --private")
@click.argument("model", type=FILE, metavar="RUN|DIR")
@click.option("--to", required=True, metavar="OWNER/NAME", help="Where to; it is made if there is none.")
@click.option("--private", is_flag=True, default=None, help="If it is made: for you alone to see.")
@click.option("--revision", metavar="BRANCH", help="Branch, which is made if there is none; main if not given.")
@click.option("--message", default="Upload a model of bothways", metavar="TEXT", help="Of the commit.")
@as_json
def push(model: Path, to: str, **options: Any) -> Answer:
    """Publish a model on the Hugging Face Hub.

    Its settings, weights, tokenizer and model card go there, and nothing of what training left. Log in before by
    hf auth login, or set HF_TOKEN.
    """
    address = bothways.push(model, to=to, **options)
    at = f"{to}@{options['revision']}" if options["revision"] else to
    return Answer(values={"model": at, "commit": address}, shown=[f"Published: {address}", f"By name: --model {at}"])


@command.command(cls=Verb, epilog="bothways convert-pickle old-model/ --out model")
@click.argument("file", type=FILE, metavar="FILE|DIR")
@click.option("--out", type=FILE, required=True, metavar="DIR", help="Folder to make.")
@as_json
def convert_pickle(file: Path, out: Path) -> Answer:
    """Turn an old pytorch_model.bin into safetensors, without trusting it.

    FILE is one that torch.save wrote (.bin, .pt, .pth, .ckpt), DIR the folder of one, or of several with their index. It is
    opened in a process of its own, which takes nothing but tensors from it. config.json and the tokenizer beside it
    are copied, and the new folder is opened to see which model it is.
    """
    converted = bothways.convert_pickle(file, out=out)
    return Answer(values=converted.to_dict(), shown=list(converted.sentences()))
