"""What the figures of a survey of raw text mean for pretraining: warnings with remedies."""

from collections.abc import Iterator, Mapping
from typing import Any

from bothways.advise.inspect.findings import Finding, counted, error, remark, share, warning
from bothways.advise.inspect.sizes import size_findings, vocabulary_finding

CONTEXT = 256  # tokens that our GPTs read at once
DEFAULT_VOCABULARY = 8192
MOST_BAD = 0.001  # share of bad records above which prepare stops
FEW_DOCUMENTS = 100  # fewer, and held-out text comes from a handful of them
COPIES, LINES, LANGUAGES, TRACES = 0.01, 0.02, 0.05, 0.001  # shares above which a remark is a warning
MANY_LINES, EVERYWHERE = 0.1, 0.3  # share of repeated lines, of documents with one line, above which it is a warning
SHORT_LINE = 60  # characters of a repeated line that is shown in a sentence


def corpus_findings(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what there is to say about raw text; see ``Survey.to_dict`` and ``survey_files`` for the figures."""
    yield from _reading(figures)
    tokens = figures["estimated_tokens"] if figures.get("tokenizer") is None else figures["tokenizer"]["tokens"]
    yield from size_findings(figures["recipes"], tokens, estimated=True)
    if figures.get("tokenizer") is None:
        yield from vocabulary_finding(tokens, DEFAULT_VOCABULARY, made=False)
    else:
        yield from unknown_findings(figures["tokenizer"], "give prepare another --tokenizer, or train one on this text")
    yield from _documents(figures)
    yield from _copies(figures)
    yield from _lines(figures)
    yield from _languages(figures)
    yield from _characters(figures)


def _reading(figures: Mapping[str, Any]) -> Iterator[Finding]:
    ingest = figures["ingest"]
    if number := figures["unreadable_files"]:
        first = figures["unreadable"][0]
        fact = f"{counted(number, 'file')} cannot be read, and prepare stops there; the first: {first['reason'].rstrip('.')}"
        yield error("unreadable files", fact, "mend it or leave it out")
    rejected, lines = ingest["rejected"], ingest["lines"]
    if rejected:
        first = ingest["first_rejected"][0]
        byte = "" if first["byte_offset"] is None else f", byte {first['byte_offset']}"
        place = f"{first['file']}, line {first['line']}{byte}: {first['reason'].rstrip('.')}"
        fact = f"{rejected:,} of {counted(lines, 'line')} ({share(rejected, lines)}) cannot be read, the first {place}"
        flags = "--on-bad skip" + (f" --max-bad {rejected / lines * 1.1:.2g}" if rejected > MOST_BAD * lines else "")
        yield error("bad lines", fact, f"mend them, or leave such lines out by prepare {flags}")
    if skipped := ingest["skipped_files"]:
        kinds = ", ".join(f"{kind} ({number})" for kind, number in sorted(skipped.items()))
        fact = f"{counted(sum(skipped.values()), 'file')} in the folders are of kinds that are not read: {kinds}"
        yield remark("files left out", fact, "convert those that hold text to .txt, .jsonl or .csv")


def unknown_findings(tokenizer: Mapping[str, Any], remedy: str) -> Iterator[Finding]:
    """Yield a warning where a tokenizer does not know what it reads."""
    unknown, tokens = tokenizer["unknown"], tokenizer["tokens_measured"]
    if unknown:
        most = ", ".join(character for character, _ in tokenizer.get("unknown_examples", [])[:5])
        fact = f"{counted(unknown, 'token')} of {tokens:,} ({share(unknown, tokens)}) are unknown to the tokenizer"
        level = error if unknown > 0.1 * tokens else warning if unknown > 0.01 * tokens else remark
        yield level("unknown characters", fact + (f", such as {most}" if most else ""), remedy)


def _documents(figures: Mapping[str, Any]) -> Iterator[Finding]:
    documents, wholes = figures["documents"], figures["wholes"]
    sentences = figures["sentences_per_document"]
    if wholes == 1:
        cut = f", which is cut into {documents:,} at paragraphs" if documents > 1 else ""
        fact = f"all {counted(figures['characters'], 'character')} are one document{cut}"
        remedy = "if it has parts of its own (chapters, articles), make each a file or a line of .jsonl"
        yield (warning if documents < FEW_DOCUMENTS else remark)("one document", fact, remedy)
    elif documents < FEW_DOCUMENTS:
        fact = f"there are only {counted(documents, 'document')}, and prepare holds out one in a hundred"
        remedy = "split them where they have parts, one file or line of .jsonl each, or raise --validation-share"
        yield remark("few documents", fact, remedy)
    if sentences["median"] <= 1 and documents > 1:
        fact = f"half of the {documents:,} documents are one sentence, and next-sentence prediction needs two or more"
        remedy = "join the sentences of a text into one document, or pretrain with --set objective.pairs=none"
        yield warning("no documents", fact, remedy)
    elif _is_sentence_list(figures):
        fact = (
            f"{figures['lines']:,} lines hold {figures['sentences']:,} sentences in {counted(documents, 'document')}: this "
            "looks like one sentence a line without documents, where a next sentence need not follow"
        )
        remedy = "make each text a file or a line of .jsonl, or pretrain a BERT with --set objective.pairs=none"
        yield remark("no documents", fact, remedy)
    per_document = figures["estimated_tokens"] / max(1, documents)
    if documents > 1 and per_document < CONTEXT / 4:
        fact = f"a document has some {per_document:.0f} tokens, and a GPT of ours reads {CONTEXT} at once"
        remedy = (
            "nothing is wasted, since rows are packed, but join what belongs together if longer texts are to be written"
        )
        yield remark("short documents", fact, remedy)


def _is_sentence_list(figures: Mapping[str, Any]) -> bool:
    """Whether long documents have as many lines as sentences, and no blank line between them."""
    lines, sentences = figures["lines"], max(1, figures["sentences"])
    few = figures["documents"] <= 0.01 * lines
    return few and 0.8 <= lines / sentences <= 1.25 and figures["blank_lines"] <= 0.01 * lines


def _copies(figures: Mapping[str, Any]) -> Iterator[Finding]:
    copies = figures["duplicates"]
    documents = copies["documents"]
    for kind, what in (("exact", "copies of others"), ("near", "nearly the same as others")):
        if number := copies[kind]:
            first = next((each for each in copies["examples"] if each["kind"] == kind), None)
            fact = f"{number:,} of {documents:,} documents ({share(number, documents)}) are {what}"
            if first:
                fact += f", the first {first['copy']} of {first['original']}"
            level = warning if number > COPIES * documents else remark
            yield level("duplicates" if kind == "exact" else "near duplicates", fact, "prepare leaves them out")


def _lines(figures: Mapping[str, Any]) -> Iterator[Finding]:
    lines = figures["repeated_lines"]
    if not lines["top"] or figures["documents"] < 2:
        return
    text, number = lines["top"][0]
    part = lines["repeated"] / max(1, lines["lines"])
    if part > LINES:
        shown = text if len(text) <= SHORT_LINE else text[: SHORT_LINE - 1] + "…"
        fact = (
            f"{lines['repeated']:,} of {lines['lines']:,} lines ({share(part, 1)}) have come before, {shown!r} the most, "
            f"{number:,} times"
        )
        level = warning if part > MANY_LINES or number > EVERYWHERE * figures["wholes"] else remark
        often = max(2, min(number, figures["wholes"] // 20))
        remedy = (
            f"drop headers and menus by prepare --set cleaning.boilerplate_documents={often}, if that is what they are"
        )
        yield level("repeated lines", fact, remedy)


def _languages(figures: Mapping[str, Any]) -> Iterator[Finding]:
    languages, documents = figures["languages"], figures["documents"]
    if none := languages.get("none", 0):
        fact = f"{counted(none, 'document')} of {documents:,} ({share(none, documents)}) have no letters"
        yield (warning if none > 0.01 * documents else remark)(
            "no letters",
            fact,
            "drop them by prepare --set cleaning.max_digit_share=0.5 --set cleaning.max_symbol_share=0.5",
        )
    named = {name: number for name, number in languages.items() if name != "none"}
    if len(named) < 2:
        if "other" in named:
            fact = f"all {documents:,} documents are in a language other than English and Chinese"
            yield remark("language", fact, "sentences and words are cut by English rules; check some of them")
        return
    rest = sum(sorted(named.values())[:-1])
    parts = ", ".join(f"{name} {share(number, documents)}" for name, number in named.items())
    remedy = "keep one language by prepare --language en|zh --set cleaning.language_share=0.5, unless all are wanted"
    yield (warning if rest > LANGUAGES * documents else remark)("mixed languages", f"the documents are {parts}", remedy)


def _characters(figures: Mapping[str, Any]) -> Iterator[Finding]:
    documents = figures["documents"]
    traces = figures["mojibake"]
    if traces["places"]:
        fact = (
            f"{counted(traces['places'], 'place')} in {counted(traces['documents'], 'document')} "
            f"({share(traces['documents'], documents)}) look like UTF-8 read in a wrong encoding (â€™, Ã©, 锟斤拷)"
        )
        level = warning if traces["documents"] > TRACES * documents else remark
        yield level("wrong encoding", fact, "prepare mends what is certain; better convert the sources anew")
    if broken := figures["replacement_characters"]:
        fact = f"U+FFFD, which stands where a character was lost, occurs {counted(broken, 'time')}"
        level = warning if broken > TRACES * documents else remark
        yield level("lost characters", fact, "convert the sources anew, with the encoding that they have")
    control = figures["control"]
    if control["characters"]:
        which = ", ".join(f"{name} ({number:,})" for name, number in control["commonest"][:3])
        fact = f"{counted(control['characters'], 'control character')} in {counted(control['documents'], 'document')}: {which}"
        level = warning if control["documents"] > TRACES * documents else remark
        yield level("control characters", fact, "prepare mends or removes them")
    if private := figures["private_use"]:
        fact = f"{counted(private, 'character')} of private use, which no one but a font's maker can read"
        yield remark("private characters", fact, "replace them at the source, if they matter")
