"""The steps by which ``bothways prepare`` makes a corpus, and what joins them."""

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from bothways import progress
from bothways.boundaries import segmenter_name
from bothways.errors import UserError
from bothways.execution.execution import map_items
from bothways.text import preparation as stages
from bothways.text.cleaning.boilerplate import boilerplate_lines, certain_documents, merge_line_counts
from bothways.text.cleaning.cleaning import CleaningReport
from bothways.text.copies.deduplication import DocumentIndex, Duplicate, find_duplicates
from bothways.text.encoding import Words, fast_agrees
from bothways.text.overlap.overlap import ContaminationReport, OverlapIndexBuilder, texts_of
from bothways.text.preparation import Chunk, Dividing, Encoding, PartRead, Reading
from bothways.text.reading.accounting import IngestReport
from bothways.text.reading.documents import FORMATS, RECORD_READERS, read_documents, read_records
from bothways.text.reading.files import STDIN, SourceFile, find_files
from bothways.text.reading.parts import Account, Part, divide, spool
from bothways.text.shards import REPORT, SPLITS, ShardWriter, open_shard, write_manifest
from bothways.text.splitting import most_characters
from bothways.text.spool import read_spool, spool_file
from bothways.text.tokenizing.fertility import Fertility
from bothways.text.tokenizing.tokenizer import KINDS, SAMPLE_BYTES, Tokenizer

_CHECKED = 2**18  # characters on which the fast encoder must agree with the library


class Build:
    """A corpus being made: each method is a step, and leaves what the next one needs."""

    def __init__(self, folder: Path, reading: Reading, *, workers: int, engine: str) -> None:
        self.folder, self.work, self.reading, self.settings = folder, reading.work, reading, reading.settings
        self._run = partial(map_items, workers=workers, engine=engine)
        self.report: dict[str, Any] = {}
        self.details: dict[str, Any] = {}
        self.files: dict[str, dict[str, Any]] = {}

    def read(self, source: BinaryIO | Sequence[SourceFile], account: Account, evaluation: Sequence[Path]) -> None:
        """Read and clean all documents."""
        if evaluation:
            _index_evaluation(evaluation, self.reading)
        parts = (
            divide(source, self.settings.part_bytes)
            if isinstance(source, Sequence)
            else spool(source, self.work, self.settings.part_bytes)
        )
        least = self.settings.cleaning.boilerplate_documents
        if least is not None:
            parts = list(parts)
            self._find_boilerplate(parts, least)
        self.read_parts: list[PartRead] = []
        cleaning, contamination, languages = CleaningReport(), ContaminationReport(), Counter[str]()
        for done in self._run(partial(stages.read_part, reading=self.reading), parts, describe="Reading"):
            account.add(done.part, done.ingest)
            cleaning.add(done.cleaning)
            contamination.merge(done.contamination)
            languages.update(done.languages)
            self.read_parts.append(done)
            if done.part.files[0].name == STDIN:
                done.part.files[0].path.unlink()
        self.languages = dict(languages)
        self.report = {**account.finish().to_dict(), "cleaning": cleaning.to_dict(), "languages": self.languages}
        drops = self.settings.decontamination.action == "drop"
        self.report["contamination"] = {
            **contamination.to_dict(),
            "dropped": contamination.contaminated if drops else 0,
        }
        if not any(part.documents for part in self.read_parts):
            raise UserError(_nothing_left(account.report, cleaning, contamination))

    def _find_boilerplate(self, parts: Sequence[Part], least: int) -> None:
        proposed = None
        for describe in ("Looking for boilerplate", "Counting boilerplate"):
            counting = partial(stages.count_part, reading=self.reading, proposed=proposed)
            proposed = merge_line_counts(self._run(counting, parts, describe=describe))
        assert proposed is not None
        if (certain := certain_documents(proposed)) > least:
            progress.note(f"boilerplate lines that stand in fewer than {certain:,} documents may have been missed")
        lines = sorted(boilerplate_lines(proposed, least))
        (self.work / stages.BOILERPLATE).write_text(json.dumps(lines), encoding="utf-8")

    def deduplicate(self) -> None:
        """Decide which documents are dropped as copies."""
        found = find_duplicates(self.work, [part.documents for part in self.read_parts], self.settings.deduplication)
        self.report["deduplication"] = {**asdict(found), "examples": [self._shown(each) for each in found.examples]}
        self.report["duplicates"] = found.dropped
        sizes = np.zeros(2, dtype=np.int64)
        for part in range(len(self.read_parts)):
            dropped = np.load(self.work / stages.DROPPED.format(part), allow_pickle=False)
            sizes += np.load(self.work / stages.SIZES.format(part), allow_pickle=False)[~dropped].sum(axis=0)
        self.kept = found.documents - found.dropped
        self.kept_bytes, self.kept_characters = map(int, sizes)

    def _shown(self, duplicate: Duplicate) -> dict[str, Any]:
        places = {name: self._source(getattr(duplicate, name)) for name in ("dropped", "original")}
        return {"kind": duplicate.kind, "similarity": duplicate.similarity, **places}

    def _source(self, index: DocumentIndex) -> str:
        """Return where a document comes from."""
        chunk = next(chunk for chunk in reversed(self._chunks(index.part)) if chunk.first <= index.document)
        documents = read_spool(spool_file(self.work, chunk.part, chunk.number))
        return next(itertools.islice(documents, index.document - chunk.first, None)).source

    def _chunks(self, part: int) -> list[Chunk]:
        counts = self.read_parts[part].chunks
        ends = itertools.accumulate(counts)
        return [
            Chunk(part=part, number=number, first=end - count, documents=count)
            for number, (end, count) in enumerate(zip(ends, counts, strict=True))
        ]

    def survey(self, tokenizer: str | Path, shares: Mapping[str, float]) -> None:
        """Decide how documents are cut and split, and draw the tokenizer's sample."""
        wanted = self.settings.tokenizer.sample_bytes or SAMPLE_BYTES[tokenizer] if tokenizer in KINDS else _CHECKED
        self.dividing = Dividing(
            work=self.work,
            most_characters=most_characters(self.kept, self.kept_characters),
            sample_share=wanted / self.kept_bytes,
            seed=self.settings.seed,
            **shares,
        )
        self.chunks = [chunk for part in range(len(self.read_parts)) for chunk in self._chunks(part)]
        surveying = partial(stages.survey_chunk, dividing=self.dividing)
        self.surveys = list(self._run(surveying, self.chunks, describe="Drawing a sample"))
        self.held_out = _hold_out([survey.documents for survey in self.surveys], shares)
        self.details["settings"] = {**self.settings.to_dict(), **shares}

    def sample(self) -> Iterator[str]:
        """Yield the texts of the sample."""
        for survey in self.surveys:
            if survey.sample:
                yield from (document.text for document in read_spool(survey.sample))

    def encode(self, tokenizer: Tokenizer) -> None:
        """Write the token ids of all documents."""
        tokenizer.save(self.folder)
        words = chosen_words(self.settings.words, tokenizer)
        encoding = Encoding(
            dividing=self.dividing,
            tokenizer=self.folder / "tokenizer.json",
            language=self.reading.language,
            words=words,
            fast=fast_agrees(tokenizer, _first(self.sample(), _CHECKED)),
            held_out={
                (chunk.part, chunk.number): moved
                for chunk, moved in zip(self.chunks, self.held_out, strict=True)
                if moved
            },
        )
        fertility = Fertility.of(tokenizer)
        writers = {split: ShardWriter(self.folder, split, vocab_size=len(tokenizer)) for split in SPLITS}
        without_tokens = 0
        for done in self._run(partial(stages.encode_chunk, encoding=encoding), self.chunks, describe="Encoding"):
            fertility.merge(done.fertility)
            without_tokens += done.without_tokens
            for split, names in done.shards.items():
                for name in names:
                    self._take(self.work / name, writers[split])
        for writer in writers.values():
            writer.close()
            self.files |= writer.files
        self.report |= {"without_tokens": without_tokens, "tokenizer": fertility.to_dict()}
        language = self.reading.language
        self.details |= {
            "language": max(self.languages, key=self.languages.__getitem__) if language == "auto" else language,
            "vocab_size": len(tokenizer),
            "words": segmenter_name("rjieba") if words == "rjieba" else words,
            "splits": {split: writer.counts for split, writer in writers.items() if writer.counts["documents"]},
        }

    def _take(self, index: Path, writer: ShardWriter) -> None:
        """Append a shard that a worker wrote to those of the corpus, so that they are few and large."""
        writer.write_shard(open_shard(index))
        index.unlink()
        index.with_suffix(".bin").unlink()

    def finish(self) -> None:
        """Write what remains to be said, and remove what is no longer needed."""
        if "train" not in self.details["splits"]:
            raise UserError(TOO_FEW)
        for split in ("validation", "test"):
            if self.details["settings"][f"{split}_share"] and split not in self.details["splits"]:
                progress.note(f"the {split} split is empty: give more text")
        shutil.rmtree(self.work)
        write_report(self.folder, self.report)
        write_manifest(self.folder, self.details, self.files)


TOO_FEW = "the documents are too few to hold any out and still train; give more text"


def _index_evaluation(paths: Sequence[Path], reading: Reading) -> None:
    """Write the index of the texts that documents must not hold."""
    builder = OverlapIndexBuilder(reading.settings.decontamination)
    files, _ = find_files(paths, FORMATS)
    for file in files:
        if file.format in RECORD_READERS:
            for record in read_records(file.path):
                for text in texts_of(record.values):
                    builder.add(text, record.source)
        else:
            for document in read_documents(file.path):
                for number, line in enumerate(document.text.splitlines(), start=1):
                    if line.strip():
                        builder.add(line, f"{document.source}:{number}")
    builder.build().save(reading.work / stages.EVALUATION_INDEX)


def _nothing_left(ingest: IngestReport, cleaning: CleaningReport, contamination: ContaminationReport) -> str:
    if not ingest.documents:
        return f"there is no text to prepare: of {ingest.lines:,} lines {ingest.empty:,} are empty and {ingest.rejected:,} bad"
    filters = ", ".join(f"{name} ({number:,})" for name, number in sorted(cleaning.dropped.items()))
    overlapping = f"evaluation texts ({contamination.contaminated:,})" if contamination.contaminated else ""
    reasons = ", ".join(filter(None, (filters, overlapping)))
    return f"no document of {ingest.documents:,} is left: they were dropped by {reasons}; loosen these settings"


def _hold_out(counts: Sequence[Mapping[str, int]], shares: Mapping[str, float]) -> list[dict[int, str]]:
    """Give a split that should have documents and got none the last one that would train.

    Args:
        counts: documents of each split, for each chunk.
    Returns:
        For each chunk, which of its training documents, by number, go to which split.
    """
    moved: list[dict[int, str]] = [{} for _ in counts]
    train = [chunk.get("train", 0) for chunk in counts]
    for split in ("validation", "test"):
        if shares[f"{split}_share"] and not any(chunk.get(split) for chunk in counts) and sum(train) > 1:
            last = max(number for number, left in enumerate(train) if left)
            train[last] -= 1
            moved[last][train[last]] = split
    return moved


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Yield texts until they have so many characters."""
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def chosen_words(setting: str, tokenizer: Tokenizer) -> Words:
    """Return how words are kept in a corpus of this tokenizer."""
    if setting != "auto":
        segmenter_name("rjieba" if setting == "rjieba" else "none")
        return cast("Words", setting)
    if tokenizer.kind == "bpe":
        return "none"
    return "rjieba" if segmenter_name() != "none" else "characters"


def write_report(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``ingest_report.json``."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / REPORT).write_text(text, encoding="utf-8")
