"""How far exports are from their models, in every format and precision that can hold them: a table in Markdown.

Each export is ``bothways.export``, which asks both programs about the same sequences of tokens and texts. A hybrid is measured
in both of its readings. Without ``--model``, small untrained models with every head are.

    python bench/exports.py --model books=RUN --model NAME=FOLDER
"""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from bothways.batch import Attention
from bothways.checkpoints.checkpoint import load
from bothways.errors import BothwaysError
from bothways.exports.export import Exported, export_model, format_names, format_of
from bothways.text.tokenizing.tokenizer import Tokenizer

HEAD = (
    "model",
    "format",
    "precision",
    "head",
    "largest difference",
    "standard deviation",
    "ratio",
    "borne",
    "texts alike",
)
WORDS = ["the old man and the sea looked at each other", "我们今天去北京"]


def small_models(folder: Path) -> Iterator[tuple[str, Path]]:
    """Make small untrained models with every head, and yield their names and folders."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "exports"))
    from small_models import BERT, MODELS, make

    bpe = Tokenizer.train(WORDS * 20, kind="bpe", vocab_size=300, exact=False)
    for name, (settings, heads) in MODELS.items():
        yield name, make(folder / name, bpe, settings, heads)
    wordpiece = Tokenizer.train(WORDS * 20, kind="wordpiece", vocab_size=100, exact=False)
    yield "BERT, WordPiece", make(folder / "wordpiece", wordpiece, BERT, {"language_model": 0})


def measure(
    name: str, model: Path, formats: list[str], attention: Attention | None
) -> Iterator[tuple[str, Exported | str]]:
    """Export to each format and precision, and yield what came of it, or why nothing did."""
    loaded = load(model, attention=attention)
    for format_name in formats:
        for precision in format_of(format_name).PRECISIONS:
            print(f"{name}: {format_name}, {precision}", file=sys.stderr, flush=True)
            try:
                with tempfile.TemporaryDirectory() as out:
                    yield (
                        f"{format_name}, {precision}",
                        export_model(loaded, format_name, Path(out) / "out", precision=precision),
                    )
            except BothwaysError as error:
                yield f"{format_name}, {precision}", str(error)


def rows(name: str, exported: Exported) -> Iterator[tuple[str, ...]]:
    """Yield a row for each head."""
    alike = f"{exported.texts - len(exported.otherwise)} of {exported.texts}" if exported.texts else "not asked"
    for each in exported.differences:
        numbers = [f"{value:.2g}" for value in (each.largest, each.spread, each.relative)]
        yield name, exported.format, exported.precision, each.head, *numbers, f"{exported.tolerance:g}", alike


def short(found: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table of the ratios alone: a line for each head of a model, a column for each format and precision."""
    columns = list(dict.fromkeys(f"{row[1]} {row[2]}" for row in found))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for model, format_name, precision, head, *numbers in found:
        lines.setdefault((model, head), {})[f"{format_name} {precision}"] = numbers[2]
    yield "| model | head | " + " | ".join(columns) + " |"
    yield "|" + "---|" * (2 + len(columns))
    for (model, head), ratios in lines.items():
        yield f"| {model} | {head} | " + " | ".join(ratios.get(column, "") for column in columns) + " |"


def main() -> None:
    """Measure, and print a table and what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=MODEL", help="run, folder or GGUF file")
    parser.add_argument("--format", action="append", choices=format_names(), help="all, if not given")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    refused: dict[str, None] = {}
    measured: list[tuple[str, ...]] = []
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    with tempfile.TemporaryDirectory() as folder:
        given = [(name, Path(path)) for name, _, path in (model.partition("=") for model in options.model)]
        for name, model in given or small_models(Path(folder)):
            hybrid = load(model).model.config.hybrid
            ways: list[tuple[str, Attention | None]] = [(name, None)]
            if hybrid:
                ways = [(f"{name}, causal", "causal"), (f"{name}, both ways", "bidirectional")]
            for title, attention in ways:
                for what, found in measure(title, model, options.format or list(format_names()), attention):
                    if isinstance(found, str):
                        refused[f"- {title}: {what.partition(',')[0]}: {found}"] = None
                        continue
                    for row in rows(title, found):
                        measured.append(row)
                        print("| " + " | ".join(row) + " |", flush=True)
    print("\nThe ratios alone:\n\n" + "\n".join(short(measured)))
    print("\nRefused:\n\n" + "\n".join(refused) if refused else "\nNothing was refused.")


if __name__ == "__main__":
    main()
