"""What can be wrong with the examples of a task, by the columns that the task has."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bothways.advise.inspect.examples import TaskFile, cell_text
from bothways.advise.inspect.findings import Finding, counted, error, remark, share, warning
from bothways.language import sentences, word_list
from bothways.text.overlap.leaks import label_leaks

FEW_OF_A_CLASS = 50
LOPSIDED = 10  # times as many of the commonest label as of the rarest
MOST_RATIO = 9  # of the words of two sides that say the same
LONG_SIDE = 20  # words of the longer side, from which that ratio is judged

Check = Callable[[TaskFile, str, Sequence[str]], tuple[dict[str, Any], list[Finding]]]


def problems(places: Sequence[str], of: int, what: str) -> str:
    """Return a fact about some examples: how many, of how many, and the first place."""
    return f"{what} in {len(places):,} of {counted(of, 'example')} ({share(len(places), of)}), first in {places[0]}"


def check_labels(file: TaskFile, name: str, inputs: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Look at labels: their balance, spellings and contradictions, and what in the text gives them away."""
    labels = [cell_text(example["label"]) for example in file.examples]
    texts = ["\n".join(cell_text(example[column]) for column in inputs) for example in file.examples]
    found = label_leaks(texts, labels)
    classes = [{"label": size.label, "count": size.count, "share": round(size.share, 4)} for size in found.classes]
    values = {
        "classes": classes[:100],
        "number_of_classes": len(classes),
        "telling_tokens": [vars(clue) for clue in found.tokens],
        "telling_names": [vars(clue) for clue in found.names],
        "variants": [list(variants.labels) for variants in found.variants],
        "contradicting": found.contradicting,
        "contradictions": [
            {
                "text": each.text,
                "labels": list(each.labels),
                "sources": [file.sources[number] for number in each.numbers],
            }
            for each in found.contradictions
        ],
        "labels_with_one_example": list(found.singles[:100]),
    }
    return values, [*_class_findings(values, len(labels), name), *_leak_findings(values, len(labels), name)]


def _class_findings(values: Mapping[str, Any], count: int, name: str) -> Iterator[Finding]:
    classes, number = values["classes"], values["number_of_classes"]
    if number == 1:
        fact = f"all {counted(count, 'example')} of {name} have the label {classes[0]['label']!r}"
        yield error("one class", fact, "give examples of at least two labels")
        return
    if number > 0.2 * count and number > 20:
        fact = f"{name} has {number:,} different labels in {counted(count, 'example')}"
        yield error("labels", fact, "check that the label column is the right one: it looks like free text or numbers")
        return
    if name == "test":
        return
    rare = [size for size in classes if size["count"] < FEW_OF_A_CLASS]
    if rare:
        last = rare[-1]
        which = counted(len(rare), "label")
        fact = (
            f"{which} of {number:,} {'has' if len(rare) == 1 else 'have'} fewer than {FEW_OF_A_CLASS} examples, "
            f"{last['label']!r} only {last['count']:,}"
        )
        yield warning("rare classes", fact, "gather more of them, or join labels that belong together")
    first, last = classes[0], classes[-1]
    if number <= len(classes) and first["count"] > LOPSIDED * last["count"]:
        fact = (
            f"{first['label']!r} has {share(first['count'], count)} of the examples, {first['count'] / last['count']:.0f} "
            f"times as many as {last['label']!r}"
        )
        remedy = "judge by macro F1, since always saying the commonest label scores that high in accuracy"
        yield remark("class balance", fact, remedy)


def _leak_findings(values: Mapping[str, Any], count: int, name: str) -> Iterator[Finding]:
    for clue in values["telling_tokens"][:1]:
        more = f" (and {len(values['telling_tokens']) - 1} more)" if len(values["telling_tokens"]) > 1 else ""
        fact = (
            f"{clue['right']:,} of the {clue['count']:,} texts of {name} with {clue['token']!r} have the label "
            f"{clue['label']!r}, {share(clue['class_share'], 1)} of all that have it{more}"
        )
        yield warning("label leak", fact, "take such marks out of the texts, or the model will read nothing else")
    for clue in values["telling_names"][:1]:
        fact = f"the label {clue['label']!r} stands in {clue['count']:,} texts of {name}, {clue['right']:,} of which have it"
        yield warning("label leak", fact, "take the labels' names out of the texts, or accept that they are read there")
    for labels in values["variants"][:3]:
        shown = " and ".join(map(repr, labels))
        yield error(
            "label spelling",
            f"{name} has the labels {shown}, which a model takes for different ones",
            "spell them alike",
        )
    if number := values["contradicting"]:
        first = values["contradictions"][0]
        fact = (
            f"several labels stand with {counted(number, 'text')} of {name} ({share(number, count)}), the first "
            f"{' and '.join(map(repr, first['labels']))} in {' and '.join(first['sources'])}"
        )
        yield (warning if number > 0.01 * count else remark)("contradictions", fact, "decide for one label each")


def check_answers(file: TaskFile, name: str, _: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Look at answers to questions: whether they stand in their passage, and where it is said that they do."""
    absent, off, unanswered, several = [], [], [], 0
    units: Counter[str] = Counter()
    for example, source in zip(file.examples, file.sources, strict=True):
        context, answers = cell_text(example["context"]), answer_list(example["answers"])
        several += len({text for text, _ in answers}) > 1
        if not any(text.strip() for text, _ in answers):
            unanswered.append(source)
        elif not any(text in context for text, _ in answers if text.strip()):
            absent.append(source)
        elif wrong := [pair for pair in answers if not stands_at(context, *pair)]:
            off.append(source)
            units[counted_in(context, *wrong[0])] += 1
    count, findings = len(file.examples), []
    values = {"answer_absent": len(absent), "offset_wrong": len(off), "no_answer": len(unanswered), "several": several}
    if absent:
        fact = problems(absent, count, f"the answer is not in the passage of {name}")
        findings.append(error("answers", fact, "mend or leave them out: nothing can be pointed at"))
    if off:
        how, _number = units.most_common(1)[0]
        reason = f", where positions seem to count {how}" if how else ""
        fact = problems(off, count, f"the answer of {name} does not begin where it is said to") + reason
        findings.append(error("answer positions", fact, "count characters (code points) from 0"))
    if unanswered:
        fact = problems(unanswered, count, f"there is no answer of {name}")
        findings.append(remark("no answer", fact, "fine if the task has unanswerable questions, else leave them out"))
    return values, findings


def stands_at(context: str, text: str, start: int | None) -> bool:
    """Whether an answer begins where it is said to; true if nothing is said."""
    return start is None or context[start : start + len(text)] == text


def answer_list(value: Any) -> list[tuple[str, int | None]]:
    """Return answers as text and start, of every form that is in use; an empty list of none."""
    if isinstance(value, Mapping):
        texts, starts = value.get("text", ""), value.get("answer_start", value.get("start"))
        if not isinstance(texts, list):
            return [(cell_text(texts), starts if isinstance(starts, int) else None)]
        starts = starts if isinstance(starts, list) and len(starts) == len(texts) else [None] * len(texts)
        return [(cell_text(text), start) for text, start in zip(texts, starts, strict=True)]
    if isinstance(value, list):
        return [found for item in value for found in answer_list(item)]
    return [(cell_text(value), None)]


def counted_in(context: str, text: str, start: int | None) -> str:
    """Return in what a wrong position seems to have been counted; empty: no idea."""
    start = start or 0
    for encoding, size, unit in (("utf-16-le", 2, "UTF-16 units"), ("utf-8", 1, "bytes")):
        found = context.encode(encoding, "surrogatepass")[start * size :]
        if found.startswith(text.encode(encoding, "surrogatepass")):
            return unit
    return "characters from 1" if start and context[start - 1 :].startswith(text) else ""


def check_pairs(file: TaskFile, name: str, _: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Look at pairs that say the same, such as a sentence and its translation."""
    same, uneven = [], []
    for example, source in zip(file.examples, file.sources, strict=True):
        sides = [cell_text(example[side]) for side in ("source", "target")]
        if sides[0].split() == sides[1].split():
            same.append(source)
            continue
        short, long = sorted(len(word_list(side)) for side in sides)
        if long >= LONG_SIDE and long > MOST_RATIO * max(1, short):
            uneven.append(source)
    findings = []
    if same:
        level = warning if len(same) > 0.01 * len(file.examples) else remark
        fact = problems(same, len(file.examples), f"both sides are the same text in {name}")
        findings.append(level("equal sides", fact, "leave them out: they teach to copy"))
    if uneven:
        fact = problems(
            uneven, len(file.examples), f"one side has over {MOST_RATIO} times the words of the other in {name}"
        )
        findings.append(warning("unequal lengths", fact, "check whether the sides belong together"))
    return {"equal_sides": len(same), "unequal_lengths": len(uneven)}, findings


def check_summaries(file: TaskFile, name: str, _: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Look at summaries: whether they are shorter than their text, and more than its first sentence."""
    longer, lead = [], []
    for example, source in zip(file.examples, file.sources, strict=True):
        text, summary = (" ".join(cell_text(example[column]).split()) for column in ("text", "summary"))
        if len(summary) >= len(text):
            longer.append(source)
        elif summary.rstrip(".。!！") == first_sentence(text).rstrip(".。!！"):
            lead.append(source)
    findings, count = [], len(file.examples)
    if longer:
        fact = problems(longer, count, f"the summary is as long as its text, or longer, in {name}")
        findings.append(
            warning("long summaries", fact, "check whether the columns were exchanged; leave such rows out")
        )
    if lead:
        level = warning if len(lead) > 0.05 * count else remark
        fact = problems(lead, count, f"the summary is the first sentence of its text in {name}")
        findings.append(level("lead summaries", fact, "expect taking the first sentence to be hard to beat"))
    return {"summary_longer": len(longer), "summary_is_first_sentence": len(lead)}, findings


def first_sentence(text: str) -> str:
    """Return the first sentence of a text."""
    spans = sentences(text)
    return text[: spans[0][1]].strip() if spans else ""


def check_retrieval(file: TaskFile, name: str, _: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """Look at queries and documents: copies, queries that are documents, and ids that mean two things."""
    documents: dict[str, str] = {}
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for example in file.examples:
        document = cell_text(example["document"])
        documents.setdefault(" ".join(document.lower().split()), document)
        if "document_id" in example:
            ids[cell_text(example["document_id"])].add(document)
    equal, copied, spellings = (
        [],
        [],
        len({cell_text(example["document"]) for example in file.examples}) - len(documents),
    )
    for example, source in zip(file.examples, file.sources, strict=True):
        query = " ".join(cell_text(example["query"]).lower().split())
        if query in documents:
            equal.append(source)
        elif query in " ".join(cell_text(example["document"]).lower().split()):
            copied.append(source)
    values = {
        "queries": len({cell_text(example["query"]) for example in file.examples}),
        "documents": len(documents),
        "query_is_document": len(equal),
        "query_in_its_document": len(copied),
        "document_spellings": spellings,
        "ambiguous_ids": sum(len(texts) > 1 for texts in ids.values()),
    }
    return values, list(_retrieval_findings(values, equal, copied, name, len(file.examples)))


def _retrieval_findings(
    values: Mapping[str, Any], equal: Sequence[str], copied: Sequence[str], name: str, count: int
) -> Iterator[Finding]:
    if equal:
        fact = problems(equal, count, f"the query is a document of the collection, word for word, of {name}")
        yield error("queries in the collection", fact, "leave such pairs out: finding oneself is no search")
    if len(copied) > 0.2 * count:
        fact = problems(copied, count, f"the query stands word for word in its document of {name}")
        yield warning("queries in their documents", fact, "expect any word search to be near perfect")
    if values["document_spellings"]:
        fact = (
            f"{counted(values['document_spellings'], 'document')} of {name} differ from others in case or spacing alone"
        )
        yield warning("duplicate documents", fact, "write them alike, or the copy counts as a wrong answer")
    if values["ambiguous_ids"]:
        fact = f"{counted(values['ambiguous_ids'], 'document id')} of {name} stand for several texts"
        yield error("document ids", fact, "give each document an id of its own")


# Columns that a check needs; a task that has them is checked.
CHECKS: tuple[tuple[frozenset[str], Check], ...] = (
    (frozenset({"label"}), check_labels),
    (frozenset({"context", "answers"}), check_answers),
    (frozenset({"source", "target"}), check_pairs),
    (frozenset({"text", "summary"}), check_summaries),
    (frozenset({"query", "document"}), check_retrieval),
)


def check_file(
    file: TaskFile, name: str, inputs: Sequence[str], answers: Sequence[str]
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the figures and findings of all checks that fit a task's columns."""
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for columns, check in CHECKS:
        if columns <= {*inputs, *answers} and file.examples:
            more, said = check(file, name, inputs)
            values |= more
            findings += said
    return values, findings


def unseen_labels(train: TaskFile, test: TaskFile) -> Iterator[Finding]:
    """Yield an error where the test has labels that training never shows."""
    known = {cell_text(example["label"]) for example in train.examples}
    strange = Counter(label for example in test.examples if (label := cell_text(example["label"])) not in known)
    if strange:
        which = ", ".join(f"{label!r} ({number:,})" for label, number in strange.most_common(5))
        fact = f"{counted(len(strange), 'label')} of test {'is' if len(strange) == 1 else 'are'} not in train: {which}"
        yield error("labels", fact, "spell them as in train, or give training examples of them")
