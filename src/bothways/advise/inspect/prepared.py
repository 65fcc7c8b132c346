"""A look at what ``bothways prepare`` made: its splits, documents, tokenizer and vocabulary, and what suits it."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways import progress
from bothways.advise.inspect.counting import Distribution, Reservoir
from bothways.advise.inspect.diagnosis import unknown_findings
from bothways.advise.inspect.findings import Finding, counted, error, remark, share, warning
from bothways.advise.inspect.sizes import recipe_fits, size_findings, vocabulary_finding
from bothways.config import read_json
from bothways.recipes.recipe import recipe
from bothways.text.overlap.overlap import overlap
from bothways.text.shards import SPLITS, Corpus, Shards
from bothways.text.tokenizing.tokenizer import Tokenizer

DECODED = 4_000_000  # tokens of training text that are decoded, evenly spread, to look for held-out text in them
HELD_OUT = 500  # documents of another split that are looked for
RARE = 10  # uses below which a token is hardly learnt
SHOWN, EXCERPT = 5, 280
FEW_HELD_OUT = 10_000  # tokens of validation below which a figure wavers
MOST_DIGESTS = 500_000  # of documents, in memory
CHUNK = 1 << 20  # tokens counted together


def is_prepared(path: Path) -> bool:
    """Whether a path is a folder that ``prepare`` made."""
    return (path / "manifest.json").is_file() and (path / "tokenizer.json").is_file()


def look_at_data(folder: Path, *, seed: int = 0) -> tuple[dict[str, Any], list[Finding]]:
    """Return the figures and findings of prepared data.

    Raises:
        UserError: it is no prepared data.
        DamagedFileError: a file is not what the manifest promises.
    """
    shards = Shards(folder)
    tokenizer = Tokenizer.load(folder)
    corpora = {name: shards.corpus(name) for name in SPLITS if shards.manifest["splits"].get(name, {}).get("documents")}
    counted_splits = {name: count_split(name, corpus, tokenizer, seed) for name, corpus in corpora.items()}
    digests = {name: found.pop("digests") for name, found in counted_splits.items()}
    uses = {name: found.pop("uses") for name, found in counted_splits.items()}
    train = uses.get("train", np.zeros(len(tokenizer), dtype=np.int64))
    kind = tokenizer.kind
    tokens = int(train.sum())
    figures = {
        "data": str(folder),
        "fingerprint": shards.fingerprint,
        "language": shards.manifest.get("language", ""),
        "splits": counted_splits,
        "tokenizer": describe_tokenizer(tokenizer, train),
        "vocabulary": vocabulary_use(tokenizer, train),
        "overlap": {name: held_out_overlap(name, corpora, digests, tokenizer) for name in corpora if name != "train"},
        "ingest": ingest_report(folder),
        "recipes": recipe_fits(tokens, vocab_size=len(tokenizer), kind=kind),
        "manifest": {name: value for name, value in shards.manifest.items() if name not in ("files", "splits")},
    }
    return figures, list(data_findings(figures))


def count_split(name: str, corpus: Corpus, tokenizer: Tokenizer, seed: int) -> dict[str, Any]:
    """Return the figures of one split, with a digest of each document and the uses of each token."""
    lengths, sentences = Distribution(), Distribution()
    samples = Reservoir(SHOWN, seed)
    digests: set[int] = set()
    part, kept = 1 + len(corpus) // MOST_DIGESTS, 0  # of more documents, a sample that has all copies of one, or none
    uses = np.zeros(len(tokenizer), dtype=np.int64)
    waiting: list[NDArray[np.int64]] = []
    size = 0
    for index in progress.track(range(len(corpus)), f"Counting {name}"):
        ids = corpus.document(index)
        lengths.add(len(ids))
        sentences.add(corpus.num_sentences(index))
        samples.add(index)
        if (found := digest(ids)) % part == 0:
            digests.add(found)
            kept += 1
        waiting.append(ids)
        size += len(ids)
        if size >= CHUNK or index == len(corpus) - 1:
            uses += np.bincount(np.concatenate(waiting), minlength=len(tokenizer))
            waiting, size = [], 0
    return {
        "documents": len(corpus),
        "tokens": corpus.num_tokens,
        "bytes": corpus.num_bytes,
        "duplicates": (kept - len(digests)) * part,
        "tokens_per_document": lengths.to_dict(),
        "sentences_per_document": sentences.to_dict(),
        "samples": [tokenizer.decode(corpus.document(index)[:EXCERPT].tolist())[:EXCERPT] for index in samples.items],
        "digests": digests,
        "uses": uses,
    }


def digest(ids: NDArray[np.int64]) -> int:
    """Return 64 bits that stand for a document."""
    return int.from_bytes(hashlib.blake2b(ids.astype("<u4").tobytes(), digest_size=8).digest(), "big")


def describe_tokenizer(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> dict[str, Any]:
    """Return a tokenizer's figures over the training text."""
    unknown_id = tokenizer.unknown_id
    unknown = int(uses[unknown_id]) if unknown_id is not None else 0
    tokens = int(uses.sum())
    return {
        "kind": tokenizer.kind,
        "vocab_size": len(tokenizer),
        "tokens_measured": tokens,
        "unknown": unknown,
        "unknown_share": round(unknown / max(1, tokens), 6),
    }


def vocabulary_use(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> dict[str, Any]:
    """Return how much of the vocabulary the training text uses; special tokens are left out."""
    ordinary = np.ones(len(uses), dtype=np.bool_)
    ordinary[list(tokenizer.special_ids.values())] = False
    number = int(ordinary.sum())
    counts = np.sort(uses[ordinary])[::-1]
    ranks = np.unique(np.geomspace(1, max(1, number), 40).astype(np.int64)) - 1
    commonest = np.argsort(np.where(ordinary, -uses, 1), kind="stable")[:20]
    return {
        "tokens": number,
        "never_used": int((counts == 0).sum()),
        "rare": int(((counts > 0) & (counts < RARE)).sum()),
        "commonest": [[tokenizer.decode([int(token)]), int(uses[token])] for token in commonest],
        "by_rank": [[int(rank) + 1, int(counts[rank])] for rank in ranks if number],
    }


def held_out_overlap(
    name: str, corpora: Mapping[str, Corpus], digests: Mapping[str, set[int]], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Return how much of a held-out split stands in the training text."""
    held_out, train = corpora[name], corpora.get("train")
    if train is None:
        return {"exact": 0, "of": len(held_out)}
    exact = len(digests[name] & digests["train"])
    chosen = spread(len(held_out), HELD_OUT)
    tests = [decoded(tokenizer, held_out, index) for index in chosen]
    share_read = min(1.0, DECODED / max(1, train.num_tokens))
    read = spread(len(train), max(1, round(share_read * len(train))))
    searched = progress.track(
        (decoded(tokenizer, train, index) for index in read), f"Looking for {name} in train", len(read)
    )
    found = overlap(searched, tests)
    return {
        "exact": exact,
        "of": len(held_out),
        "searched": len(chosen),
        "train_share_searched": round(share_read, 4),
        "passages": {"exact": found.exact, "ngram": found.ngram, "near": found.near},
        "share": round(found.share, 6),
        "examples": [example.excerpt[:EXCERPT] for example in found.examples[:SHOWN]],
    }


def spread(count: int, most: int) -> list[int]:
    """Return at most so many indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist() if count else []


def decoded(tokenizer: Tokenizer, corpus: Corpus, index: int) -> str:
    """Return the text of a document."""
    return tokenizer.decode(corpus.document(index).tolist())


def ingest_report(folder: Path) -> dict[str, Any]:
    """Return what prepare wrote about the files that it read; empty if it did not."""
    file = folder / "ingest_report.json"
    values = read_json(file) if file.is_file() else {}
    return values if isinstance(values, dict) else {}


def data_findings(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what there is to say about prepared data."""
    splits, tokens = figures["splits"], figures["tokenizer"]["tokens_measured"]
    yield from size_findings(figures["recipes"], tokens, estimated=False)
    yield from _rows(figures, tokens)
    yield from unknown_findings(figures["tokenizer"], "prepare again with another tokenizer, trained on this text")
    yield from vocabulary_finding(tokens, figures["tokenizer"]["vocab_size"], made=True)
    vocabulary = figures["vocabulary"]
    idle = vocabulary["never_used"] + vocabulary["rare"]
    if idle > 0.5 * vocabulary["tokens"]:
        fact = (
            f"{idle:,} of {vocabulary['tokens']:,} tokens ({share(idle, vocabulary['tokens'])}) occur fewer than {RARE} times "
            "in the training text"
        )
        yield remark("vocabulary", fact, "a smaller --vocab-size makes a smaller model that is as good")
    yield from _held_out(figures)
    for name, split in splits.items():
        if split["duplicates"]:
            fact = (
                f"{split['duplicates']:,} of {counted(split['documents'], 'document')} of {name} are copies of others"
            )
            yield remark("duplicates", fact, "prepare again to leave them out")
    rejected, lines = figures["ingest"].get("rejected", 0), figures["ingest"].get("lines", 0)
    if rejected:
        fact = f"{counted(rejected, 'line')} of {lines:,} ({share(rejected, lines)}) were left out as bad by prepare"
        yield remark("bad lines", fact, "see ingest_report.json for the first of them")


def _rows(figures: Mapping[str, Any], tokens: int) -> Iterator[Finding]:
    """Yield findings about how the documents fit what a model reads."""
    train = figures["splits"].get("train")
    if train is None:
        return
    name = figures["recipes"][0]["recipe"] if figures["recipes"] else "gpt-tiny"
    training = recipe(name).training
    length = training.row_length
    if tokens < length:
        fact = f"the training text has {counted(tokens, 'token')}, fewer than one row of {length}"
        yield error("size", fact, "give more text, or pretrain with a lower --set training.row_length")
    elif tokens < training.batch_tokens:
        fact = f"the training text has {counted(tokens, 'token')}, fewer than one step of {training.batch_tokens:,}"
        yield warning("size", fact, "give more text, or pretrain with a lower --set training.batch_tokens")
    if train["documents"] == 1:
        fact = f"all {counted(tokens, 'training token')} are one document"
        yield warning("one document", fact, "prepare it again from parts, one file or line of .jsonl each")
    if train["sentences_per_document"]["median"] <= 1:
        fact = f"half of {counted(train['documents'], 'training document')} are one sentence, and next-sentence pairs need two"
        remedy = "join the sentences of a text into one document, or pretrain a BERT with --set objective.pairs=none"
        yield warning("no documents", fact, remedy)
    median = train["tokens_per_document"]["median"]
    if median < length / 4 and train["documents"] > 1:
        fact = f"half of the training documents have {median:,} tokens or fewer, and a row has {length}"
        remedy = "nothing is wasted, since rows are packed, but no long text can be learnt"
        yield remark("short documents", fact, remedy)


def _held_out(figures: Mapping[str, Any]) -> Iterator[Finding]:
    splits = figures["splits"]
    held_out = splits.get("validation")
    if held_out is None:
        yield warning(
            "validation", "there is no validation text", "prepare with --validation-share above 0 and more text"
        )
    elif held_out["tokens"] < FEW_HELD_OUT:
        fact = f"validation has {counted(held_out['tokens'], 'token')} of {counted(held_out['documents'], 'document')}"
        yield warning("validation", fact, "its figures will waver: prepare with a higher --validation-share")
    for name, found in figures["overlap"].items():
        if found["exact"]:
            fact = f"{found['exact']:,} of {counted(found['of'], 'document')} of {name} stand in train word for word"
            yield error("overlap", fact, "prepare again, or the figures will flatter")
        elif passages := sum(found.get("passages", {}).values()):
            fact = (
                f"{passages:,} of {counted(found['searched'], 'document')} of {name} that were looked for "
                f"({share(passages, found['searched'])}) share long passages with train"
            )
            level = warning if passages > 0.01 * found["searched"] else remark
            yield level(
                "overlap", fact, "prepare with a lower --set deduplication.threshold, or the figures will flatter"
            )
