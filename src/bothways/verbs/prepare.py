"""``bothways prepare``: text files to a corpus of token ids."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bothways import language as languages
from bothways import progress
from bothways.checkpoints.checkpoint import resolve
from bothways.errors import UserError
from bothways.text.documents import Document, IngestReport, read_documents
from bothways.text.encoding import encode_documents
from bothways.text.shards import SPLITS, Shards, gather, write_corpus, write_manifest
from bothways.text.splitting import cut_long, split_of, without_duplicates
from bothways.text.tokenizer import KINDS, Tokenizer
from bothways.verbs.folders import building, check_free

MOST_TOKENS = 10_000_000  # of a vocabulary; the largest published ones have a quarter of a million


def prepare(
    paths: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    tokenizer: str | Path = "bpe",
    vocab_size: int = 8192,
    text_column: str = "text",
    language: Literal["auto", "en", "zh"] = "auto",
    on_bad: Literal["error", "replace", "skip"] = "error",
    max_bad: float = 0.001,
    validation_share: float = 0.01,
    test_share: float = 0.0,
) -> Shards:
    """Read, de-duplicate, split, tokenize and store text.

    Args:
        paths: files and folders; see ``read_documents`` for what can be read.
        out: folder to make; it must be empty or not there.
        tokenizer: ``"bpe"`` or ``"wordpiece"`` to train one on the training documents; or a tokenizer.json, or a folder
            with one: a model, a run, another corpus.
        vocab_size: of a trained tokenizer.
        text_column: of jsonl and csv files.
        language: of the text; ``"auto"`` finds it out.
        on_bad: what to do with a record that cannot be read.
        max_bad: share of bad records above which even ``skip`` and ``replace`` stop.
        validation_share, test_share: of the documents.
    Returns:
        The opened corpus.
    Raises:
        UserError: nothing to read, a bad record, too little text, a folder in use.
    """
    for name, share in (("validation-share", validation_share), ("test-share", test_share), ("max-bad", max_bad)):
        if not 0 <= share < 1:
            raise UserError(f"--{name} must be in [0, 1), not {share}")
    check_free(Path(out))
    report = IngestReport()
    sources = [paths] if isinstance(paths, str | Path) else list(paths)
    documents = list(read_documents(sources, text_column=text_column, on_bad=on_bad, max_bad=max_bad, report=report))
    return prepare_documents(
        documents,
        out=out,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        language=language,
        validation_share=validation_share,
        test_share=test_share,
        ingest=report.to_dict(),
    )


def prepare_documents(
    documents: Iterable[Document],
    *,
    out: str | Path,
    tokenizer: str | Path = "bpe",
    vocab_size: int = 8192,
    language: Literal["auto", "en", "zh"] = "auto",
    validation_share: float = 0.01,
    test_share: float = 0.0,
    ingest: Mapping[str, Any] | None = None,
) -> Shards:
    """Do what ``prepare`` does with documents that are already in memory."""
    check_free(Path(out))
    read = list(documents)
    distinct = list(without_duplicates(read))
    if not distinct:
        raise UserError("there is no text to prepare: every document is empty")
    return prepare_splits(
        split_documents(cut_long(distinct), validation_share=validation_share, test_share=test_share),
        out=out,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        language=language,
        ingest={**(ingest or {}), "documents_read": len(read), "duplicates": len(read) - len(distinct)},
    )


def prepare_splits(
    splits: Mapping[str, Sequence[Document]],
    *,
    out: str | Path,
    tokenizer: str | Path | Tokenizer = "bpe",
    vocab_size: int = 8192,
    language: Literal["auto", "en", "zh"] = "auto",
    ingest: Mapping[str, Any] | None = None,
) -> Shards:
    """Do what ``prepare`` does with documents whose splits are decided; it can be given a trained tokenizer, too."""
    if not splits["train"]:
        raise UserError("the documents are too few to hold any out and still train; give more text")
    texts = {name: [document.text for document in splits[name]] for name in SPLITS if splits.get(name)}
    if language == "auto":
        language = languages.detect("".join(text[:1000] for text in texts["train"][:200]))
    trained = get_tokenizer(tokenizer, texts["train"], vocab_size)
    with building(out) as folder:
        counts = {}
        for name, each in texts.items():
            corpus = gather(encode_documents(progress.track(each, f"Encoding {name}"), trained))
            write_corpus(corpus, folder, name, len(trained))
            counts[name] = {"documents": len(corpus), "bytes": corpus.num_bytes, "tokens": corpus.num_tokens}
        trained.save(folder)
        write_report(folder, dict(ingest or {}))
        write_manifest(folder, {"language": language, "vocab_size": len(trained), "splits": counts})
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


def get_tokenizer(tokenizer: str | Path | Tokenizer, texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a tokenizer of that kind, or load the one that is named."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if vocab_size > MOST_TOKENS:
        raise UserError(f"--vocab-size must be at most {MOST_TOKENS:,}, not {vocab_size:,}")
    if tokenizer in KINDS:
        kind = next(kind for kind in KINDS if kind == tokenizer)
        return Tokenizer.train(
            progress.track(texts, f"Training the {kind} tokenizer"), kind=kind, vocab_size=vocab_size
        )
    path = Path(tokenizer)
    if path.suffix != ".json" and not path.is_dir() and path.parent == Path():
        raise UserError(
            f"--tokenizer takes {', '.join(KINDS)}, a tokenizer.json or a folder with one, not {str(path)!r}"
        )
    own = path.suffix == ".json" or (path / "tokenizer.json").is_file()
    return Tokenizer.load(path if own else resolve(path))


def write_report(folder: Path, values: dict[str, Any]) -> None:
    """Write ``ingest_report.json``."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (folder / "ingest_report.json").write_text(text, encoding="utf-8")
