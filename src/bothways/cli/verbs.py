"""The verbs and their flags; what a verb does is the Python function of its name, imported when it runs."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import bothways
from bothways.cli.answer import Answer, flat, in_words, next_step, table, to_json
from bothways.cli.grammar import (
    FILE,
    Verb,
    Verbs,
    along,
    as_json,
    chart,
    data,
    model,
    resume,
    seed,
    settings,
    several,
    verify,
    wandb,
)
from bothways.config import read_json
from bothways.errors import UserError
from bothways.language import told

WAYS = {
    "causal": "from left to right",
    "bidirectional": "both ways",
    "both": "from left to right and both ways",
}


@click.group(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Each verb has an example: bothways VERB --help",
)
@click.version_option(bothways.__version__, prog_name="bothways")
def command() -> None:
    """Pretrain, fine-tune and evaluate GPT, BERT and hybrid models from your own text."""


@command.command(cls=Verb, epilog="bothways demo --text my-texts/ --minutes 30")
@several("--text", "text", text="Your own text: files and folders. Without it: what your Python libraries document.")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", help="Language of the text.")
@click.option("--minutes", type=float, default=10.0, metavar="M", help="Time for all of it.")
@click.option("--out", type=FILE, default=Path("demo"), metavar="DIR", help="Folder of the report and the models.")
@seed
@click.option("--no-open", is_flag=True, help="Do not open the report.")
@as_json
def demo(out: Path, no_open: bool, **options: Any) -> Answer:
    """Go all the way: from text over a GPT and a BERT to a report.

    Pretrains a small GPT and a small BERT, fine-tunes and measures both, beside simple methods and beside the same
    models without pretraining, and writes report.html and report.json. Interrupted, the same command goes on.
    """
    figures = bothways.demo(out=out, open_page=not no_open, **options)
    from bothways.evaluation.report import summary_table

    return Answer(values=figures, shown=[summary_table(figures), *(f"Next: {line}" for line in figures["commands"])])


@command.command(cls=Verb, epilog="bothways inspect my-texts/ --out page.html")
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="PATH...|DATA|-")
@click.option("--task", metavar="TASK", help="The files are examples of this task.")
@several("--test", "test", text="Files of examples to test on: what of them stands in PATH? Needs --task.")
@click.option("--column", "columns", multiple=True, metavar="COLUMN=NAME", help="The name of a task's column in files.")
@click.option("--text-column", default="text", metavar="NAME", help="Column or key of the text in tables and JSON.")
@click.option("--delimiter", metavar="CHAR", help="Between the cells of .csv; a comma if not given.")
@click.option("--tokenizer", metavar="FILE|MODEL|DATA", help="Count tokens by this one, not by words.")
@click.option("--out", type=FILE, metavar="PAGE.html", help="Write a page with charts, too.")
@seed
@as_json
def inspect(paths: Sequence[Path], test: Sequence[Path], columns: Sequence[str], **options: Any) -> Answer:
    """Say what is in text, prepared data or task files, and what to mend.

    Warnings come with their remedies and do not change the exit code. PATH is a file or folder of text, - for standard
    input, or with --task a file of training examples; DATA is what bothways prepare made.
    """
    from bothways.advise.inspect.terminal import summary

    if wrong := next((each for each in columns if not all(each.partition("=")[::2])), None):
        raise UserError(f"--column takes COLUMN=NAME, as in text=review, not {wrong!r}")
    renamed = dict(each.split("=", 1) for each in columns)
    found = bothways.inspect(paths, test=test or None, columns=renamed, **options)
    hint = [f"Page: {found.out}"] if found.out else []
    return Answer(values=found.to_dict(), shown=[*summary(found.figures, found.findings), *hint])


@command.command(cls=Verb, epilog="bothways prepare my-texts/ --out data --vocab-size 4096")
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="PATH...")
@click.option("--out", type=FILE, required=True, metavar="DATA", help="Folder to make.")
@click.option(
    "--tokenizer",
    default="bpe",
    metavar="KIND|FILE|MODEL|DATA",
    help="bpe (for a GPT), wordpiece (for a BERT) or unigram is trained on the text; or take that of a file, a model "
    "(a run, a folder, owner/name[@revision]) or another corpus.",
)
@click.option(
    "--vocab-size", type=int, metavar="N", help="Tokens of a tokenizer that is trained; 8192, if the text has as many."
)
@click.option("--text-column", default="text", metavar="NAME", help="Column or key of the text in tables and JSON.")
@click.option("--delimiter", metavar="CHAR", help="Between the cells of .csv; a comma if not given.")
@click.option("--language", type=click.Choice(["auto", "en", "zh"]), default="auto", help="Language of the text.")
@click.option(
    "--on-bad",
    type=click.Choice(["error", "replace", "skip"]),
    default="error",
    help="At a bad record: stop, put U+FFFD for broken characters, or leave it out.",
)
@click.option("--max-bad", type=float, default=0.001, metavar="SHARE", help="Bad records that skip and replace bear.")
@click.option("--validation-share", type=float, default=0.01, metavar="SHARE", help="Of the documents.")
@click.option("--test-share", type=float, default=0.0, metavar="SHARE", help="Of the documents.")
@several("--evaluation", "evaluation", text="Files of tests: documents that overlap them are left out.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes that share the work; all cores.")
@click.option("--engine", default="local", metavar="NAME", help="What runs the workers: local, or ray for a cluster.")
@settings("deduplication.near=false")
@as_json
def prepare(paths: Sequence[Path], out: Path, **options: Any) -> Answer:
    """Read, clean, de-duplicate, split and tokenize text, once, for pretraining.

    Reads .txt, .md, .jsonl, .json, .csv, .tsv and .parquet files, also packed as .gz, .bz2, .xz or .zst, and folders of
    them; a PATH of - is what comes through a pipe. --set changes a step, as in --set cleaning.unicode=NFKC, --set
    deduplication.near=false or --set words=rjieba; ingest_report.json counts what each did.
    """
    data = bothways.prepare(paths, out=out, **options)
    manifest, report = data.manifest, read_json(data.folder / "ingest_report.json")
    values = {"data": str(out), **{name: value for name, value in manifest.items() if name != "files"}}
    counted = {name: report[name] for name in ("files", "bytes", "lines", "kept", "empty", "rejected", "replaced")}
    dropped = {
        "cleaning": sum(report["cleaning"]["dropped"].values()),
        "duplicates": report["duplicates"],
        "overlap with evaluation texts": report["contamination"]["dropped"],
    }
    splits = [(name, *split.values()) for name, split in manifest["splits"].items()]
    columns = ("split", *next(iter(manifest["splits"].values())))
    language = told(manifest["language"], report["languages"])
    shown = [
        "Read: " + ", ".join(f"{in_words(number)} {name}" for name, number in counted.items() if number),
        "Documents dropped: " + (", ".join(f"{in_words(n)} by {name}" for name, n in dropped.items() if n) or "none"),
        f"{out}: {in_words(manifest['vocab_size'])} tokens in the vocabulary, language {language}",
        table(splits, columns=columns),
        next_step("pretrain", "RECIPE", "--data", out, "--out", "RUN"),
    ]
    return Answer(values={**values, "read": counted, "dropped": dropped}, shown=shown)


@command.command(cls=Verb, epilog="bothways plan gpt --data data --minutes 60")
@click.argument("recipe", metavar="RECIPE|FAMILY")
@data("What bothways prepare made; repeated, several are mixed.")
@click.option("--minutes", type=float, metavar="M", help="Time to train; a FAMILY's size is chosen from it.")
@settings("training.steps=500")
@as_json
def plan(recipe: str, **options: Any) -> Answer:
    """Say what a pretraining would take and come to, before it is paid for.

    How large a model, how many tokens and steps, how long on this machine (a short trial), how much memory, disk,
    energy and money, the loss to expect, and the same on named GPUs. RECIPE is {recipes}, or an experiment.json; of a
    FAMILY (gpt, bert, hybrid) the size is chosen. Nothing is written.
    """
    from bothways.advise import forecast_words as words

    found = bothways.plan(recipe, **options)
    weighed = [table(words.candidate_rows(found), columns=words.CANDIDATE_COLUMNS)] if found.candidates else []
    size = ["--minutes", f"{found.plan.minutes:g}"] if found.plan.minutes else []
    changes = [word for setting in options["settings"] for word in ("--set", setting)]
    given = [word for folder in options["data"] for word in ("--data", folder)]
    shown = [
        f"{found.recipe} on {found.machine}",
        *weighed,
        table(words.main_rows(found)),
        table(words.gpu_rows(found), columns=words.GPU_COLUMNS),
        *words.sentences(found),
        next_step("pretrain", recipe, *given, "--out", "RUN", *size, *changes),
    ]
    return Answer(values=found.to_dict(), shown=shown)


@command.command(cls=Verb, epilog="bothways pretrain gpt-mini --data data --out gpt --minutes 30")
@click.argument("recipe")
@data("What bothways prepare made; repeated, several are mixed. Without weights: in proportion to their tokens.")
@click.option("--out", type=FILE, required=True, metavar="RUN", help="Folder to make.")
@click.option(
    "--from",
    "start_from",
    metavar="MODEL",
    help="Start from this model's weights: a run, a folder, owner/name[@revision].",
)
@click.option("--minutes", type=float, metavar="M", help="Time to train; it is turned into steps once.")
@settings("training.steps=500")
@resume
@click.option(
    "--allow-change",
    multiple=True,
    metavar="NAME...",
    help="What may differ from the run that is resumed: data, or settings such as training.learning_rate.",
)
@wandb
@verify
@as_json
def pretrain(recipe: str, out: Path, **options: Any) -> Answer:
    """Train a GPT, a BERT or a hybrid on prepared text.

    RECIPE is {recipes}, a family (gpt, bert, hybrid: the size is chosen from --minutes), or an
    experiment.json. Stopped by Ctrl-C or SIGTERM, a run saves itself first.
    """
    done = bothways.pretrain(recipe, out=out, **options)
    values = done.to_dict()
    written = ("generate", "--model", out, "Once upon a time")
    understood = ("finetune", "TASK", "--model", out, "--train", "FILE", "--out", "RUN")
    hint = next_step(*(written if done.experiment.model.attention == "causal" else understood))
    return Answer(values=values, shown=[f"Pretrained {recipe}", table(flat(values)), hint])


@command.command(cls=Verb, epilog="bothways finetune classification --model bert --train train.csv --out sorter")
@click.argument("task")
@model
@several("--train", "train", required=True, text="Files of examples to learn from: .jsonl, .json, .csv or .tsv.")
@several("--validation", "validation", text="Files of examples by which the best checkpoint is chosen.")
@click.option("--out", type=FILE, required=True, metavar="RUN", help="Folder to make.")
@settings("batch_size=16")
@resume
@seed
@wandb
@verify
@as_json
def finetune(task: str, out: Path, **options: Any) -> Answer:
    """Teach a model a task by examples.

    TASK is one of {trainable tasks}.
    """
    values = bothways.finetune(task, out=out, **options).to_dict()
    hint = next_step("evaluate", task, "--model", out, "--test", "FILE")
    return Answer(values=values, shown=[f"Fine-tuned for {task}", table(flat(values)), hint])


@command.command(cls=Verb, epilog="bothways evaluate classification --model sorter --test test.csv")
@click.argument("task")
@model
@several("--test", "test", required=True, text="Files of examples that the model has not seen.")
@click.option("--out", type=FILE, metavar="FILE", help="Write the scores to this JSON file, too.")
@click.option("--fail-on-overlap", is_flag=True, help="Refuse examples that the model was fine-tuned on (exit code 2).")
@click.option(
    "--attention",
    type=click.Choice(["causal", "bidirectional", "both"]),
    help="Which way a hybrid reads; if not given, as the task needs, or both ways. both: minimal-pairs, both scores added.",
)
@seed
@verify
@as_json
def evaluate(task: str, **options: Any) -> Answer:
    """Measure a model on examples.

    Each figure comes with its 95 % interval (percentile bootstrap over the examples; all right or all wrong: Clopper and
    Pearson's), beside that of a simple method, and with the number of examples that stand
    in the files on which the model was fine-tuned. TASK is one of {tasks}.
    """
    scores = bothways.evaluate(task, **options)
    rows = [
        (name.replace("_", " "), found.value, f"{found.low:.4g} to {found.high:.4g}", scores.baseline.get(name, ""))
        for name, found in scores.metrics.items()
    ]
    measured = table(rows, columns=("", "value", "95 % interval", "baseline"))
    shown = [f"{task}: {in_words(scores.n)} examples, read {WAYS[scores.attention]}", measured]
    shown += [f"Baseline: {scores.baseline_name}", *scores.seen.sentences()]
    return Answer(values=scores.to_dict(), shown=shown)


@command.command(cls=Verb, epilog="bothways predict classification --model sorter --input new.csv")
@click.argument("task")
@model
@click.option("--input", "source", type=FILE, default="-", metavar="FILE|-", help="Examples; -: lines of stdin.")
@click.option("--out", type=FILE, default="-", metavar="FILE|-", help="Where to; -: stdout.")
@seed
@verify
@as_json
def predict(task: str, source: Path, out: Path, **options: Any) -> Answer:
    """Let a model answer.

    Writes one line of JSON for each example, in their order. TASK is one of {tasks}. A line of stdin is a text, or a
    JSON object if it begins with a brace; blank lines are passed over.
    """
    from bothways.verbs.evaluate import read_lines
    from bothways.verbs.folders import check_file, write_file

    stdin, stdout = source == Path("-"), out == Path("-")
    if not stdout:
        check_file(out)
    if not stdout and not stdin and out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"--out {str(out)!r} is the file that --input reads; name another one")
    examples = read_lines(sys.stdin) if stdin else source
    predictions = bothways.predict(task, examples=examples, **options)
    lines = [to_json(prediction) for prediction in predictions]
    values = {"task": task, "model": options["model"], "n": len(lines)}
    if stdout:
        return Answer(values={**values, "predictions": predictions}, shown=lines)
    write_file(out, "".join(line + "\n" for line in lines))
    return Answer(values={**values, "out": str(out)}, shown=[f"{in_words(len(lines))} predictions in {out}"])


@command.command(cls=Verb, epilog='bothways generate --model gpt "Once upon a time" --temperature 0.7')
@click.argument("prompt", default="")
@model
@click.option("--max-new-tokens", type=int, default=128, metavar="N", help="The most tokens that are written.")
@click.option("--temperature", type=float, default=0.8, metavar="T", help="0: the likeliest token; over 1: wild.")
@click.option("--top-p", type=float, default=0.95, metavar="P", help="Only the likeliest tokens that reach this share.")
@click.option("--top-k", type=int, default=0, metavar="K", help="Only so many of the likeliest tokens; 0: all.")
@click.option(
    "--repetition-penalty", type=float, default=1.1, metavar="R", help="Over 1: fewer words that were there already."
)
@seed
@verify
@as_json
def generate(prompt: str, model: str, verify: bool, **options: Any) -> Answer:
    """Let a GPT go on with a text; without a PROMPT it begins one."""
    prompt = os.fsencode(prompt).decode("utf-8", "surrogateescape")  # a locale without UTF-8 has read it otherwise
    (text,) = bothways.generate(model, prompt, verify=verify, **options)
    return Answer(values={"model": model, "prompt": prompt, "text": text, **options}, shown=[text])


@command.command(cls=Verb, epilog="bothways runs models/ --sort best --out runs.html")
@click.argument("folder", type=FILE, default=Path(), metavar="[DIR]")
@click.option("--sort", default="name", metavar="NAME", help="Sort by one of {figures of runs}.")
@chart
@along
@as_json
def runs(folder: Path, **options: Any) -> Answer:
    """List the runs below a folder, whatever state they are in.

    DIR is the folder where you are, if none is given. A run is running, finished, interrupted (--resume goes on with it)
    or failed.
    """
    found = bothways.runs(folder, **options)
    narrow = shutil.get_terminal_size((160, 24)).columns < 140
    head, *lines = found.rows(narrow=narrow)
    words = ("recipe", "data", "state")
    shown = [table(lines, columns=head, words=words) if lines else f"There are no runs in {folder}"]
    shown += [f"Passed over {path}: {reason}" for path, reason in found.unreadable]
    shown += [f"Curves: {found.out}"] if found.out else []
    return Answer(values=found.to_dict(), shown=shown)


@command.command(cls=Verb, epilog="bothways compare models/gpt-a models/gpt-b")
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN...")
@chart
@along
@as_json
def compare(runs: Sequence[Path], **options: Any) -> Answer:
    """Say in which settings runs differ, and what came of each."""
    found = bothways.compare(*runs, **options)
    head, *lines = found.rows()
    shown = [table(lines, columns=head), f"{in_words(found.same)} settings are the same in all of them"]
    shown += [f"Curves: {found.out}"] if found.out else []
    return Answer(values=found.to_dict(), shown=shown)
