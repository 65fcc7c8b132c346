"""``bothways prepare``: text files to a corpus of token ids, in memory that does not grow with them."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from bothways import language as languages
from bothways import progress
from bothways.boundaries import segmenter_name
from bothways.errors import UserError
from bothways.execution.execution import default_workers
from bothways.text.encoding import Encoder
from bothways.text.preparation import Preparation, Reading, TokenizerTraining
from bothways.text.reading.accounting import IngestReport
from bothways.text.reading.documents import FORMATS, Document
from bothways.text.reading.files import SourceFile, find_files
from bothways.text.reading.parts import Account
from bothways.text.shards import MANIFEST, REPORT, SPLITS, Shards, ShardWriter, write_manifest
from bothways.text.splitting import split_of
from bothways.text.tokenizing.files import is_tokenizer
from bothways.text.tokenizing.tokenizer import KINDS, Tokenizer
from bothways.verbs.folders import building, check_free
from bothways.verbs.preparing import TOO_FEW, Build, chosen_words

DEFAULT_VOCABULARY = 8192
MOST_TOKENS = 10_000_000  # of a vocabulary; the largest published ones have a quarter of a million
PIPE = "-"


def prepare(
    paths: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    tokenizer: str | Path = "bpe",
    vocab_size: int | None = None,
    text_column: str = "text",
    delimiter: str | None = None,
    language: Literal["auto", "en", "zh"] = "auto",
    on_bad: Literal["error", "replace", "skip"] = "error",
    max_bad: float = 0.001,
    validation_share: float = 0.01,
    test_share: float = 0.0,
    evaluation: str | Path | Sequence[str | Path] = (),
    workers: int | None = None,
    engine: str = "local",
    settings: Sequence[str] = (),
) -> Shards:
    """Read, clean, de-duplicate, split, tokenize and store text.

    What comes out depends on the text and the settings alone: neither on the number of workers nor on the engine.

    Args:
        paths: files and folders, see ``read_documents`` for what can be read; or ``"-"`` for what comes through a pipe.
        out: folder to make; it must be empty or not there.
        tokenizer: ``"bpe"``, ``"wordpiece"`` or ``"unigram"`` to train one on a sample of the training documents; or a
            tokenizer.json, a folder with one (a model, a run, another corpus), or the ``owner/name`` of a model on the
            Hugging Face Hub.
        vocab_size: of a trained tokenizer; None: 8,192, or fewer where the text does not support as many.
        text_column: of jsonl, csv and parquet files.
        delimiter: between the cells of csv files; None: a comma, in tsv files a tab.
        language: of the text; ``"auto"`` finds it out.
        on_bad: what to do with a line that cannot be read.
        max_bad: share of bad lines above which even ``skip`` and ``replace`` stop.
        validation_share, test_share: of the documents.
        evaluation: files of tests that a model will take: documents that overlap them are left out.
        workers: processes that share the work; None: one for each core.
        engine: what runs them: ``"local"`` or an engine for clusters.
        settings: changes to ``Preparation``, such as ``"cleaning.unicode=NFKC"`` or ``"deduplication.near=false"``.
    Returns:
        The opened corpus.
    Raises:
        UserError: nothing to read, a bad line, too little text, a folder in use.
        OutOfDiskError: there is no room left.
    """
    for name, share in (("validation-share", validation_share), ("test-share", test_share), ("max-bad", max_bad)):
        if not 0 <= share < 1:
            raise UserError(f"--{name} must be in [0, 1), not {share}")
    chosen = Preparation().override(settings)
    check_free(Path(out))
    if validation_share + test_share >= 1:
        raise UserError("--validation-share and --test-share leave nothing to train on; together they must be below 1")
    _check_tokenizer(tokenizer, vocab_size, chosen)
    report = IngestReport()
    source = sys.stdin.buffer if _is_pipe(paths) else _files(paths, report)
    with building(out) as folder, _work_folder(folder) as work:
        reading = Reading(
            work=work,
            settings=chosen,
            text_column=text_column,
            language=language,
            on_bad=on_bad,
            delimiter=delimiter,
        )
        build = Build(folder, reading, workers=default_workers(engine) if workers is None else workers, engine=engine)
        build.read(source, Account(max_bad, report), _paths(evaluation))
        build.deduplicate()
        build.survey(tokenizer, {"validation_share": validation_share, "test_share": test_share})
        build.encode(get_tokenizer(tokenizer, build.sample(), vocab_size, chosen.tokenizer))
        build.finish()
    return Shards(out)


def _is_pipe(paths: str | Path | Sequence[str | Path]) -> bool:
    given = [str(path) for path in _paths(paths)]
    if PIPE in given and len(given) > 1:
        raise UserError("- stands for a pipe, which cannot be read together with files; name one or the other")
    return given == [PIPE]


def _paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def _files(paths: str | Path | Sequence[str | Path], report: IngestReport) -> list[SourceFile]:
    for path in _paths(paths):
        if all((path / name).is_file() for name in (MANIFEST, REPORT)):
            raise UserError(f"{str(path)!r} is prepared already; name the text itself to prepare it another way")
    files, skipped = find_files(paths, FORMATS)
    report.skipped_files = skipped
    return files


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Make a folder for what is needed on the way; it goes with the unfinished corpus if anything fails."""
    work = folder / "unfinished"
    work.mkdir()
    yield work


def prepare_splits(
    splits: Mapping[str, Sequence[Document]],
    *,
    out: str | Path,
    tokenizer: Tokenizer,
    language: Literal["auto", "en", "zh"] = "auto",
) -> Shards:
    """Store documents that are in memory and whose splits are decided."""
    if not splits["train"]:
        raise UserError(TOO_FEW)
    if language == "auto":
        language = languages.detect("".join(document.text[:1000] for document in splits["train"][:200]))
    words = chosen_words("auto", tokenizer)
    encoder = Encoder(tokenizer, language=language, words=words)
    with building(out) as folder:
        counts: dict[str, dict[str, int]] = {}
        files: dict[str, dict[str, Any]] = {}
        for split in SPLITS:
            with ShardWriter(folder, split, vocab_size=len(tokenizer)) as writer:
                texts = [document.text for document in splits.get(split, ())]
                for document in encoder.encode(progress.track(texts, f"Encoding {split}")):
                    writer.write(document)
            counts[split], files = writer.counts, files | writer.files
        tokenizer.save(folder)
        details = {
            "language": language,
            "vocab_size": len(tokenizer),
            "words": segmenter_name("rjieba") if words == "rjieba" else words,
            "splits": {split: each for split, each in counts.items() if each["documents"]},
        }
        write_manifest(folder, details, files)
    return Shards(out)


def split_documents(
    documents: Sequence[Document], *, validation_share: float, test_share: float
) -> dict[str, list[Document]]:
    """Return the documents of each split; one that should have some and got none gets the last that would train."""
    splits: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        splits[split_of(document.text, validation_share=validation_share, test_share=test_share)].append(document)
    for name, share in (("validation", validation_share), ("test", test_share)):
        if share and not splits[name] and len(splits["train"]) > 1:
            splits[name].append(splits["train"].pop())
    return splits


def _check_tokenizer(tokenizer: str | Path, vocab_size: int | None, chosen: Preparation) -> None:
    """Find out about a wrong tokenizer before the corpus is read."""
    if vocab_size is not None and vocab_size > MOST_TOKENS:
        raise UserError(f"--vocab-size must be at most {MOST_TOKENS:,}, not {vocab_size:,}")
    if tokenizer not in KINDS:
        if vocab_size is not None or chosen.tokenizer != TokenizerTraining():
            raise UserError(
                f"--vocab-size and the settings tokenizer.* are for a tokenizer that is trained, and {str(tokenizer)!r} "
                f"is one already; leave them out, or train one of {', '.join(KINDS)}"
            )
        _load_tokenizer(tokenizer)


def get_tokenizer(
    tokenizer: str | Path, sample: Iterable[str], vocab_size: int | None, training: TokenizerTraining
) -> Tokenizer:
    """Train a tokenizer of that kind, or load the one that is named."""
    if tokenizer not in KINDS:
        return _load_tokenizer(tokenizer)
    kind = next(kind for kind in KINDS if kind == tokenizer)
    watched = progress.track(sample, f"Training the {kind} tokenizer")
    return Tokenizer.train(
        watched,
        kind=kind,
        vocab_size=DEFAULT_VOCABULARY if vocab_size is None else vocab_size,
        exact=vocab_size is not None,
        lowercase=training.lowercase,
        reserved=training.reserved,
    )


def _load_tokenizer(tokenizer: str | Path) -> Tokenizer:
    path = Path(tokenizer)
    if not is_tokenizer(path) and not path.exists() and path.parent == Path():
        raise UserError(
            f"--tokenizer takes {', '.join(KINDS)}, a tokenizer.json, a vocabulary, a folder with one, or owner/name on the "
            f"Hugging Face Hub, not {str(path)!r}"
        )
    if is_tokenizer(path):
        return Tokenizer.load(path).framed_by_kind()
    from bothways.checkpoints.hub import tokenizer_place  # needs torch

    return Tokenizer.load(tokenizer_place(tokenizer)).framed_by_kind()
