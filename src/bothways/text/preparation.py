"""The three stages of preparation, each a function of one part of the corpus that any worker on any machine can run.

A stage reads and writes files of one shared folder and returns a few numbers. Between the stages, ``verbs.prepare`` joins
what all parts have found: it drops duplicates, decides how documents are cut, and trains the tokenizer.

    read_part ──▶ cleaned documents, fingerprints ──▶ survey_chunk ──▶ a sample ──▶ encode_chunk ──▶ shards
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, tee
from pathlib import Path
from typing import Literal

import numpy as np

from bothways.config import Config
from bothways.errors import UserError
from bothways.language import Language, detect
from bothways.text.cleaning.boilerplate import LineCounts, count_lines, propose_lines
from bothways.text.cleaning.cleaning import Cleaner, Cleaning, CleaningReport
from bothways.text.copies.deduplication import Deduplication, Fingerprints
from bothways.text.encoding import Encoder, Words
from bothways.text.overlap.overlap import ContaminationReport, Decontamination, Match, OverlapIndex, file_of
from bothways.text.reading import parts
from bothways.text.reading.accounting import IngestReport, OnBad
from bothways.text.reading.documents import Document
from bothways.text.reading.parts import Part
from bothways.text.shards import SPLITS, ShardWriter
from bothways.text.splitting import draw, pieces, split_at
from bothways.text.spool import SpoolWriter, read_spool, spool_file
from bothways.text.tokenizing.fertility import Fertility, Meter
from bothways.text.tokenizing.tokenizer import Tokenizer, in_batches

EVALUATION_INDEX = "evaluation.npz"
BOILERPLATE = "boilerplate.json"
SIZES = "sizes-{:05d}.npy"  # [documents, 2] UTF-8 bytes and characters of each document of a part
DROPPED = "dropped-{:05d}.npy"  # [documents] which are copies
BATCH = 64  # documents encoded at once
_MEASURED, _CHECKED = 16, 8  # of one document in so many the words are counted, and of these one is decoded again


@dataclass(frozen=True, kw_only=True)
class TokenizerTraining(Config):
    """How a tokenizer is trained."""

    lowercase: bool = True
    """WordPiece only: fold case and strip accents."""
    reserved: int = 0
    """Special tokens to keep free for later, that no text can produce."""
    sample_bytes: int = 0
    """UTF-8 bytes of text to train on, drawn at random; 0: what the kind of tokenizer needs."""

    def __post_init__(self) -> None:
        for name in ("reserved", "sample_bytes"):
            if getattr(self, name) < 0:
                raise UserError(f"tokenizer.{name} must be 0 or more, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Preparation(Config):
    """What is done to a corpus, apart from where it is."""

    cleaning: Cleaning = field(default_factory=Cleaning)
    deduplication: Deduplication = field(default_factory=Deduplication)
    decontamination: Decontamination = field(default_factory=Decontamination)
    tokenizer: TokenizerTraining = field(default_factory=TokenizerTraining)
    words: Literal["auto", "none", "characters", "rjieba"] = "auto"
    """Where words begin is kept, for masking whole words: by rules that take each Chinese character as a word, or with
    the Chinese words of rjieba. ``auto``: for WordPiece and Unigram, with rjieba if it is installed."""
    part_bytes: int = parts.PART_BYTES
    """Of files that one worker reads at a time."""
    seed: int = 0
    """Of the tokenizer's sample."""

    def __post_init__(self) -> None:
        if self.part_bytes < 1:
            raise UserError(f"part_bytes must be 1 or more, not {self.part_bytes}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be from 0 to 2**32 - 1, not {self.seed}")


# Reading


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What ``read_part`` needs besides the part."""

    work: Path
    settings: Preparation
    text_column: str
    language: Language
    on_bad: OnBad
    delimiter: str | None


@dataclass(frozen=True, kw_only=True)
class PartRead:
    """What was found in a part, and left in ``work``: its documents, and their fingerprints."""

    part: Part
    ingest: IngestReport
    cleaning: CleaningReport
    contamination: ContaminationReport
    chunks: tuple[int, ...]
    """Documents of each chunk."""
    languages: dict[str, int]
    """UTF-8 bytes of the documents in each language."""

    @property
    def documents(self) -> int:
        """Documents left."""
        return sum(self.chunks)


def read_part(part: Part, *, reading: Reading) -> PartRead:
    """Read, clean and filter the documents of a part."""
    ingest, contamination = IngestReport(), ContaminationReport()
    cleaner = Cleaner(reading.settings.cleaning, language=reading.language, boilerplate=_boilerplate(reading.work))
    languages: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(SpoolWriter(reading.work, part.index))
        fingerprints = stack.enter_context(Fingerprints(reading.work, part.index, reading.settings.deduplication))
        cleaned = _cleaned(_documents(part, reading, ingest), cleaner)
        for document, match in _searched(cleaned, reading, contamination):
            if match is not None and reading.settings.decontamination.action == "drop":
                continue
            before = spool.bytes
            spool.add(document)
            fingerprints.add(document.text, source=file_of(document.source))
            sizes.append((spool.bytes - before, len(document.text)))
            languages[detect(document.text)] += sizes[-1][0]
    np.save(reading.work / SIZES.format(part.index), np.array(sizes, dtype=np.int64).reshape(-1, 2), allow_pickle=False)
    return PartRead(
        part=part,
        ingest=ingest,
        cleaning=cleaner.report,
        contamination=contamination,
        chunks=tuple(spool.counts),
        languages=dict(languages),
    )


def _documents(part: Part, reading: Reading, report: IngestReport) -> Iterator[Document]:
    return parts.read_part(
        part, report=report, text_column=reading.text_column, on_bad=reading.on_bad, delimiter=reading.delimiter
    )


def _cleaned(documents: Iterator[Document], cleaner: Cleaner) -> Iterator[Document]:
    for document in documents:
        text = cleaner.clean(document.text, document.source)
        if text is not None:
            yield document if text is document.text else Document(text=text, source=document.source)


def _searched(
    documents: Iterator[Document], reading: Reading, report: ContaminationReport
) -> Iterator[tuple[Document, Match | None]]:
    """Pass documents on with the evaluation text that each overlaps."""
    file = reading.work / EVALUATION_INDEX
    if not file.is_file():
        yield from ((document, None) for document in documents)
        return
    documents, searched = tee(documents)  # the index takes short documents some at a time
    matches = _evaluation(file).contaminated_each(document.text for document in searched)
    for document, match in zip(documents, matches, strict=True):
        report.add(document.source, match)
        yield document, match


@lru_cache(maxsize=1)
def _evaluation(file: Path) -> OverlapIndex:
    return OverlapIndex.load(file)


@lru_cache(maxsize=1)
def _boilerplate(work: Path) -> frozenset[str]:
    file = work / BOILERPLATE
    return frozenset(json.loads(file.read_text("utf-8"))) if file.is_file() else frozenset()


def count_part(part: Part, *, reading: Reading, proposed: LineCounts | None) -> LineCounts:
    """Count the lines of a part that may be boilerplate: first to propose some, then to count those that are proposed."""
    cleaner = Cleaner(reading.settings.cleaning, language=reading.language)
    texts = (document.text for document in _cleaned(_documents(part, reading, IngestReport()), cleaner))
    return propose_lines(texts) if proposed is None else count_lines(texts, proposed)


# Survey


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Documents that were read, and that are encoded together."""

    part: int
    number: int
    first: int
    """Number of its first document within the part."""
    documents: int


@dataclass(frozen=True, kw_only=True)
class Dividing:
    """What ``survey_chunk`` and ``encode_chunk`` need to know of the whole corpus."""

    work: Path
    most_characters: int
    validation_share: float
    test_share: float
    sample_share: float = 0.0
    """Of the training text."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in a chunk."""

    documents: dict[str, int]
    """Of each split."""
    sample: Path | None


def survey_chunk(chunk: Chunk, *, dividing: Dividing) -> Survey:
    """Count the documents of each split, and write those that the tokenizer learns from."""
    counts: Counter[str] = Counter()
    folder = dividing.work / f"sample-{chunk.part:05d}"
    folder.mkdir(exist_ok=True)
    with SpoolWriter(folder, chunk.number, chunk_bytes=2**62) as sample:
        for document, drawn, split in _split(chunk, dividing):
            counts[split] += 1
            if split == "train" and draw(f"{dividing.seed} {drawn!r}") < dividing.sample_share:
                sample.add(document)
    return Survey(documents=dict(counts), sample=spool_file(folder, chunk.number, 0) if sample.counts else None)


def _split(chunk: Chunk, dividing: Dividing) -> Iterator[tuple[Document, float, str]]:
    """Yield the pieces of a chunk's documents that are no duplicates, what was drawn for each, and its split."""
    dropped = np.load(dividing.work / DROPPED.format(chunk.part), allow_pickle=False)
    dropped = dropped[chunk.first : chunk.first + chunk.documents]
    documents = read_spool(spool_file(dividing.work, chunk.part, chunk.number))
    for document, is_dropped in zip(documents, dropped, strict=True):
        if is_dropped:
            continue
        for piece in pieces(document, dividing.most_characters):
            drawn = draw(piece.text)
            shares = {"validation_share": dividing.validation_share, "test_share": dividing.test_share}
            yield piece, drawn, split_at(drawn, **shares)


# Encoding


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What ``encode_chunk`` needs besides the chunk."""

    dividing: Dividing
    tokenizer: Path
    language: Language
    words: Words
    fast: bool
    held_out: Mapping[tuple[int, int], Mapping[int, str]]
    """Of a chunk, by part and number: which of its training documents go to another split that would be empty."""


@dataclass(frozen=True, kw_only=True)
class ChunkEncoded:
    """What a chunk became."""

    shards: dict[str, list[str]]
    """Split to the names of the indexes of its shards."""
    without_tokens: int
    """Documents of which the tokenizer sees nothing."""
    fertility: Fertility
    """Of one document in 16."""


def encode_chunk(chunk: Chunk, *, encoding: Encoding) -> ChunkEncoded:
    """Write the token ids of a chunk's documents."""
    tokenizer = _tokenizer(encoding.tokenizer)
    meter = Meter(tokenizer, check_every=_CHECKED)
    encoder = Encoder(tokenizer, language=encoding.language, words=encoding.words, fast=encoding.fast)
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(
                    encoding.dividing.work,
                    f"{split}-{chunk.part:05d}-{chunk.number:05d}",
                    vocab_size=len(tokenizer),
                )
            )
            for split in SPLITS
        }
        without_tokens = 0
        placed = enumerate(_placed(chunk, encoding))
        for batch in in_batches(placed, BATCH):
            encoded = encoder.encode([document.text for _, (document, _) in batch])
            for (number, (document, split)), tokens in zip(batch, encoded, strict=True):
                writers[split].write(tokens)
                without_tokens += not len(tokens.input_ids)
                if number % _MEASURED == 0:
                    meter.add(document.text, tokens.input_ids)
    return ChunkEncoded(
        shards={split: [name for name in writer.files if name.endswith(".idx")] for split, writer in writers.items()},
        without_tokens=without_tokens,
        fertility=meter.fertility,
    )


def _placed(chunk: Chunk, encoding: Encoding) -> Iterator[tuple[Document, str]]:
    """Yield the documents of a chunk with the split that each goes to."""
    moved = encoding.held_out.get((chunk.part, chunk.number), {})
    training = count()
    for document, _, split in _split(chunk, encoding.dividing):
        yield document, moved.get(next(training), split) if split == "train" else split


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.load(path)
