"""What models know of grammar, side by side: benchmarks of minimal pairs, read from their archives, and the table."""

import json
import math
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError
from bothways.metrics.bootstrap import Interval
from bothways.tasks.minimal_pairs import MinimalPairs, added
from bothways.tasks.task import Example, Prediction, Way, check_examples
from bothways.text.reading.documents import Record, read_records

ARCHIVE = ".tar.zst"
HEADLINES = ("accuracy", "pair_accuracy", "same_words_accuracy", "other_words_accuracy")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model that was measured in one direction.

    Attributes:
        model: its name.
        attention: how it read: one way, or both, the scores added.
        hybrid: whether it could have read in another way, too.
        pairs: how many it was measured on.
        figures: see ``MinimalPairs.measure``.
        seconds: that the scores took.
    """

    model: str
    attention: Way
    hybrid: bool
    pairs: int
    figures: dict[str, Interval]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        figures = {
            name: {"value": found.value, "low": found.low, "high": found.high} for name, found in self.figures.items()
        }
        return {
            "model": self.model,
            "attention": self.attention,
            "hybrid": self.hybrid,
            "pairs": self.pairs,
            "seconds": round(self.seconds, 2),
            "pairs_per_second": round(self.pairs / self.seconds, 1) if self.seconds else None,
            "figures": figures,
        }


def read_pairs(path: str | Path, *, limit: int | None = None) -> list[Example]:
    """Return minimal pairs.

    Args:
        path: an archive ``.tar.zst`` of jsonl files, which is read as a stream and never unpacked to disk; or any file or
            folder of records.
        limit: take only so many of each paradigm, the first ones.
    Raises:
        UserError: there is no such file, it cannot be read, or a pair lacks a sentence.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1 pair of each paradigm, not {limit}")
    archive = Path(path).name.endswith(ARCHIVE)
    records = _records_in_archive(Path(path)) if archive else read_records([path])
    examples = check_examples(MinimalPairs(), records, answers=True)
    return examples if limit is None else _first_of_each(examples, limit)


def _first_of_each(examples: Iterable[Example], limit: int) -> list[Example]:
    taken: Counter[tuple[Any, Any]] = Counter()
    kept = []
    for example in examples:
        names = (example.get("phenomenon"), example.get("paradigm"))
        taken[names] += 1
        if taken[names] <= limit:
            kept.append(example)
    return kept


def _records_in_archive(path: Path) -> Iterator[Record]:
    """Yield the records of all jsonl files in an archive, in the order of their names, whatever theirs in the archive is."""
    import zstandard

    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            members = {
                member.name: opened.read()
                for member in archive
                if member.name.endswith(".jsonl") and (opened := archive.extractfile(member)) is not None
            }
    except (OSError, EOFError, tarfile.TarError, zstandard.ZstdError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a .tar.zst archive: {error}") from None
    for name in sorted(members):
        for number, line in enumerate(members[name].splitlines(), 1):
            if line.strip():
                yield Record(values=_object(line, f"{name}:{number}"), source=f"{name}:{number}")


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is no JSON object: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{where} is no JSON object but {type(found).__name__}")
    return found


def measure_pairs(
    name: str, loaded: Loaded, examples: Sequence[Example], *, task: MinimalPairs | None = None, seed: int = 0
) -> list[Measured]:
    """Measure a model in each way in which it reads: a hybrid from the left, from both sides, and by both scores together.

    Args:
        name: of the model.
        loaded: the model and its tokenizer.
        examples: as ``read_pairs`` gives them.
        task: how sentences are scored; its ``attention`` is not looked at.
        seed: of the intervals.
    """
    config = loaded.model.config
    ways: list[Way] = ["causal", "bidirectional"] if config.hybrid else [config.attention]
    made: dict[Way, list[Prediction]] = {}
    seconds: dict[Way, float] = {}
    for way in ways:
        start = time.perf_counter()
        made[way] = replace(task or MinimalPairs(), attention=way).predict(loaded, examples)
        seconds[way] = time.perf_counter() - start
    if config.hybrid:
        made["both"] = [added(one, other) for one, other in zip(*made.values(), strict=True)]
        seconds["both"] = sum(seconds.values())
    return [
        Measured(
            model=name,
            attention=way,
            hybrid=config.hybrid,
            pairs=len(examples),
            figures=MinimalPairs().intervals(predictions, examples, seed=seed),
            seconds=seconds[way],
        )
        for way, predictions in made.items()
    ]


def table(measured: Sequence[Measured]) -> str:
    """Return accuracies in percent: a column for each model and direction, a row for each phenomenon."""
    names = list(dict.fromkeys(name for each in measured for name in each.figures))
    shown = [name for name in names if name in HEADLINES] + [name for name in names if name.count("/") == 1]
    rows = [["", *(each.model for each in measured)], ["", *(each.attention for each in measured)]]
    rows += [[_label(name), *(_percent(each.figures.get(name)) for each in measured)] for name in shown]
    rows.append(["ties", *(f"{100 - 100 * each.figures['decided'].value:.2f}" for each in measured)])
    rows.append(["pairs", *(f"{each.pairs:,}" for each in measured)])
    rows.append(["pairs/s", *(f"{each.pairs / each.seconds:,.0f}" for each in measured)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _label(name: str) -> str:
    return name.rpartition("/")[2].replace("_", " ")


def _percent(found: Interval | None) -> str:
    return "" if found is None else f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def ratios(measured: Sequence[Measured]) -> list[str]:
    """Return how each hybrid compares, in each way, with each model that reads in that way alone; by both, with all.

    Beside the ratio of the accuracies stands that of what is above chance, which does not flatter weak models.
    """
    lines = []
    for hybrid in (each for each in measured if each.hybrid):
        for other in (each for each in measured if not each.hybrid and hybrid.attention in (each.attention, "both")):
            ours, theirs = hybrid.figures["accuracy"].value, other.figures["accuracy"].value
            ratio = ours / theirs if theirs else math.nan
            above = f"{(ours - 0.5) / (theirs - 0.5):.3f}" if theirs > 0.5 else "not defined"
            lines.append(
                f"{hybrid.model}, {hybrid.attention}: {100 * ours:.2f}, which is {ratio:.3f} of {other.model} "
                f"({100 * theirs:.2f}); above chance: {above}"
            )
    return lines
