"""A look at a collection for retrieval as BEIR lays it out: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/*.tsv``.

Each may be packed. A document is ``_id, title, text``, a query ``_id, text``, a judgment ``query-id, corpus-id, score``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways import progress
from bothways.advise.inspect.examples import TaskFile, cell_text, describe, file_findings, find_overlap, overlap_finding
from bothways.advise.inspect.findings import Finding, counted, error, share, warning
from bothways.errors import UserError
from bothways.text.reading.documents import RECORD_READERS, IngestReport, read_records
from bothways.text.reading.files import find_files


def is_collection(paths: Sequence[Path]) -> bool:
    """Whether a single folder holds a collection."""
    return len(paths) == 1 and paths[0].is_dir() and _file(paths[0], "corpus") is not None


def look_at_collection(folder: Path, *, seed: int = 0) -> tuple[dict[str, Any], list[Finding]]:
    """Return the figures and findings of a collection.

    Raises:
        UserError: a part of it is missing, or holds nothing.
    """
    documents, same_documents = _read(folder, "corpus", "document")
    queries, same_queries = _read(folder, "queries", "query")
    judged = {name: _judgments(file) for name, file in _judgment_files(folder).items()}
    figures: dict[str, Any] = {"task": "retrieval", "inputs": ["query", "document"], "answers": [], "files": {}}
    findings: list[Finding] = []
    for name, file, column, same in (
        ("documents", documents, "document", same_documents),
        ("queries", queries, "query", same_queries),
    ):
        described = describe(file, (column,), (), seed=seed)
        figures["files"][name] = {**described, "checks": {"repeated_ids": len(same)}}
        findings += file_findings(described, file, name)
        if same:
            fact = f"{counted(len(same), 'id')} of the {name} stand twice or more, such as {same[0]!r}"
            findings.append(error("ids", fact, "give each an id of its own"))
    texts = {" ".join(cell_text(example["document"]).lower().split()) for example in documents.examples}
    equal = [
        example["_id"] for example in queries.examples if " ".join(cell_text(example["query"]).lower().split()) in texts
    ]
    figures["files"]["queries"]["checks"]["query_is_document"] = len(equal)
    if equal:
        fact = f"{len(equal):,} of {counted(len(queries.examples), 'query')} are documents, word for word, first {equal[0]!r}"
        findings.append(error("queries in the collection", fact, "leave them out: finding oneself is no search"))
    ids = ({example["_id"] for example in queries.examples}, {example["_id"] for example in documents.examples})
    figures["judgments"] = {name: _count(pairs, *ids) for name, pairs in judged.items()}
    findings += _judgment_findings(figures["judgments"])
    if {"train", "test"} <= judged.keys():
        sides = [_asked(queries, judged[name]) for name in ("train", "test")]
        found = find_overlap(sides[0], sides[1], ("query",))
        figures["overlap"] = found.to_dict()
        findings += overlap_finding(found)
    return figures, findings


def _file(folder: Path, stem: str) -> Path | None:
    """Return the file of a part of the collection, packed or not."""
    found = sorted(path for path in folder.iterdir() if path.name.startswith(f"{stem}.jsonl"))
    return found[0] if found else None


def _read(folder: Path, stem: str, column: str) -> tuple[TaskFile, list[str]]:
    """Return documents or queries, and the ids that several of them have."""
    path = _file(folder, stem)
    if path is None:
        raise UserError(
            f"the collection {str(folder)!r} has no {stem}.jsonl; it needs corpus.jsonl, queries.jsonl and qrels/"
        )
    file = TaskFile(examples=[], sources=[], report=IngestReport())
    seen: Counter[str] = Counter()
    records = read_records(path, columns=("_id", "text"), on_bad="skip", max_bad=1.0, report=file.report)
    for record in progress.track(records, f"Reading {stem}"):
        text = "\n".join(filter(None, (cell_text(record.values.get("title") or ""), cell_text(record.values["text"]))))
        seen[str(record.values["_id"])] += 1
        if text.strip():
            file.examples.append({"_id": str(record.values["_id"]), column: text})
            file.sources.append(record.source)
        else:
            file.missing.setdefault("text", []).append(record.source)
    if not file.examples:
        raise UserError(f"{str(path)!r} holds not one text; its lines need _id and text")
    return file, [name for name, number in seen.items() if number > 1]


def _judgment_files(folder: Path) -> dict[str, Path]:
    """Return the files of judgments by the name of their split.

    Raises:
        UserError: there is none.
    """
    place = folder / "qrels"
    if not place.is_dir():
        raise UserError(f"the collection {str(folder)!r} has no folder qrels with judgments, such as qrels/test.tsv")
    files, _ = find_files(place, RECORD_READERS)
    return {file.path.name.partition(".")[0]: file.path for file in files}


def _judgments(path: Path) -> list[tuple[str, str, str]]:
    """Return query, document and grade of each judgment."""
    columns = ("query-id", "corpus-id", "score")
    records = read_records(path, columns=columns, on_bad="skip", max_bad=1.0)
    query, document, score = columns
    return [(str(found.values[query]), str(found.values[document]), str(found.values[score])) for found in records]


def _count(pairs: Sequence[tuple[str, str, str]], queries: set[str], documents: set[str]) -> dict[str, Any]:
    """Return the figures of one file of judgments."""
    return {
        "judgments": len(pairs),
        "queries": len({query for query, _, _ in pairs}),
        "grades": dict(sorted(Counter(grade for _, _, grade in pairs).items())),
        "missing_queries": sum(query not in queries for query, _, _ in pairs),
        "missing_documents": sum(document not in documents for _, document, _ in pairs),
        "repeated": len(pairs) - len({pair[:2] for pair in pairs}),
    }


def _asked(queries: TaskFile, pairs: Sequence[tuple[str, str, str]]) -> TaskFile:
    """Return the queries that are judged."""
    judged = {query for query, _, _ in pairs}
    chosen = [at for at, example in enumerate(queries.examples) if example["_id"] in judged]
    return TaskFile(examples=[queries.examples[at] for at in chosen], sources=[queries.sources[at] for at in chosen])


def _judgment_findings(judgments: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for name, found in judgments.items():
        for side in ("queries", "documents"):
            if missing := found[f"missing_{side}"]:
                number = found["judgments"]
                fact = f"{missing:,} of {counted(number, 'judgment')} of {name} ({share(missing, number)}) name {side} "
                fact += "that are not there"
                yield error("missing ids", fact, f"add the {side}, or leave these judgments out")
        if repeated := found["repeated"]:
            fact = f"{counted(repeated, 'judgment')} of {name} stand twice"
            yield warning("duplicates", fact, "leave the copies out")
