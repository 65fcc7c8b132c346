"""What a model is pretrained on: one prepared corpus, or several that are mixed by weight."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways import progress
from bothways.config import read_json
from bothways.errors import UserError
from bothways.experiment import in_shares
from bothways.text.shards import REPORT, Corpus, Shards

OneData = str | Path | tuple[str | Path, float]
Data = OneData | Sequence[OneData]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus of a mixture.

    Attributes:
        shards: the corpus.
        weight: as it was given; None: it was not.
    """

    shards: Shards
    weight: float | None

    @property
    def name(self) -> str:
        """How messages call it."""
        return repr(str(self.shards.folder))

    @property
    def languages(self) -> dict[str, int]:
        """UTF-8 bytes of its text in each language, as ``prepare`` counted them; empty where that cannot be read."""
        try:
            report = read_json(self.shards.folder / REPORT)
        except UserError:
            return {}
        return dict(report.get("languages") or {}) if isinstance(report, dict) else {}

    @property
    def tokenizer(self) -> str:
        """SHA-256 of its ``tokenizer.json``."""
        return str(self.shards.manifest["files"]["tokenizer.json"]["sha256"])


class Mixture:
    """One prepared corpus, or several with their weights, all of one tokenizer.

    Weights are shares of the tokens that a model sees; they need not sum to one. Without weights each corpus weighs as
    much as it has training tokens, as if all were one.
    """

    def __init__(self, data: Data, *, verify: bool = True) -> None:
        """Open them.

        Args:
            data: a folder that ``prepare`` wrote, ``"FOLDER:WEIGHT"``, ``(folder, weight)``, or several of these.
            verify: compare the files of each with their hashes; it is said aloud where not.
        Raises:
            UserError: something is no prepared corpus, comes twice, has another tokenizer than the first or no proper
                weight, or only some have one.
        """
        given = [data] if isinstance(data, str | Path) or _is_pair(data) else list(data)
        if not given:
            raise UserError("there is no data to train on; name at least one corpus with --data")
        parsed = [_parse(each) for each in given]
        _check_weights(parsed)
        self.sources = [Source(shards=Shards(folder, verify=verify), weight=weight) for folder, weight in parsed]
        if not verify:
            names = ", ".join(source.name for source in self.sources)
            progress.note(f"Not verified: {names}; damage to the data goes unnoticed")
        first, *others = self.sources
        for source in others:
            if source.tokenizer != first.tokenizer:
                raise UserError(
                    f"{source.name} was prepared with another tokenizer than {first.name}; prepare its text again with: "
                    f"bothways prepare TEXT --tokenizer {first.shards.folder} --out NEW"
                )

    @property
    def folder(self) -> Path:
        """A folder with the tokenizer."""
        return self.sources[0].shards.folder

    @property
    def near_copies_searched(self) -> bool:
        """Whether all of them were searched for near copies when they were prepared."""
        manifests = [source.shards.manifest for source in self.sources]
        return all(each.get("settings", {}).get("deduplication", {}).get("near", False) for each in manifests)

    @property
    def language(self) -> str:
        """Their languages, each once."""
        return ", ".join(dict.fromkeys(str(source.shards.manifest["language"]) for source in self.sources))

    @property
    def train(self) -> list[tuple[Corpus, float]]:
        """Each corpus to train on, and its weight."""
        return [self._weighted(source, "train") for source in self.sources]

    @property
    def validation(self) -> list[tuple[Corpus, float]]:
        """Each corpus to measure on, and its weight: those that hold text out."""
        return [self._weighted(source, "validation") for source in self.sources if _holds_out(source)]

    def _weighted(self, source: Source, split: str) -> tuple[Corpus, float]:
        corpus = source.shards.corpus(split)
        if len(self.sources) == 1:
            return corpus, 1.0
        return corpus, float(
            source.shards.manifest["splits"]["train"]["tokens"] if source.weight is None else source.weight
        )

    def describe(self, tokens: int) -> None:
        """Note how several corpora are mixed.

        Args:
            tokens: that will be seen.
        """
        if len(self.sources) == 1:
            return
        parts = [
            f"{source.name} {share:.1%} (seen {share * tokens / corpus.num_tokens:.3g} times)"
            for source, (corpus, share) in zip(self.sources, in_shares(self.train), strict=True)
        ]
        progress.note(f"Mixing {', '.join(parts)}")
        missing = [source.name for source in self.sources if not _holds_out(source)]
        if 0 < len(missing) < len(self.sources):
            progress.note(f"No validation text in {', '.join(missing)}: measuring on the others")

    def remembered(self) -> list[dict[str, Any]]:
        """Return what a run remembers of each corpus: where it lay, its weight, its fingerprint, and what describes it."""
        return [
            {
                "folder": str(source.shards.folder),
                "weight": source.weight if len(self.sources) > 1 else None,
                "fingerprint": source.shards.fingerprint,
                "shards": _digests(source.shards.manifest["files"]),
                **{name: value for name, value in source.shards.manifest.items() if name not in _ELSEWHERE},
            }
            for source in self.sources
        ]

    def described(self) -> list[dict[str, Any]]:
        """Return what is remembered of each corpus and, under ``languages``, the bytes of its text in each."""
        return [
            {**remembered, "languages": source.languages}
            for remembered, source in zip(self.remembered(), self.sources, strict=True)
        ]


_ELSEWHERE = ("version", "fingerprint", "files")  # of a manifest


def _digests(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return one digest for the shards of each split, so that a difference can be said to be in one of them."""
    splits: dict[str, list[str]] = {}
    for name in sorted(files):
        split, dash, _ = name.rpartition("-")
        if dash and name.endswith((".bin", ".idx")):
            splits.setdefault(split, []).append(files[name]["sha256"])
    return {split: hashlib.sha256(json.dumps(hashes).encode()).hexdigest() for split, hashes in splits.items()}


def _holds_out(source: Source) -> bool:
    return "validation" in source.shards.manifest["splits"]


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], int | float)


def _parse(data: Any) -> tuple[Path, float | None]:
    """Return folder and weight. A name with a colon is a folder if there is one of that name."""
    if _is_pair(data):
        return Path(data[0]), float(data[1])
    folder, colon, text = str(data).rpartition(":")
    if not (folder and colon) or os.path.exists(data):
        return Path(data), None
    try:
        return Path(folder), float(text)
    except ValueError:
        if os.path.exists(Path(folder) / "manifest.json"):
            raise UserError(f"the weight of {folder!r} must be a number above 0, not {text!r}") from None
        return Path(data), None


def _check_weights(parsed: Sequence[tuple[Path, float | None]]) -> None:
    seen: set[Path] = set()
    for folder, weight in parsed:
        if weight is not None and not 0 < weight < math.inf:
            raise UserError(f"the weight of {str(folder)!r} must be above 0 and finite, not {weight:g}")
        place = Path(os.path.realpath(folder))
        if place in seen:
            raise UserError(f"{str(folder)!r} is given twice; give it once, with the weight that it shall have")
        seen.add(place)
    bare = [str(folder) for folder, weight in parsed if weight is None]
    if 0 < len(bare) < len(parsed):
        raise UserError(
            f"{', '.join(map(repr, bare))} has no weight and others have one; give each --data a weight, as in "
            f"{bare[0]}:0.5, or none"
        )
