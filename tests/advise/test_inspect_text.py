"""The data doctor on raw text: figures against planted ones, and each warning where it belongs and nowhere else."""

import contextlib
import io
import json
import random
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bothways.advise.inspect import corpus
from bothways.advise.inspect.corpus import Survey, pieces, repetition
from bothways.advise.inspect.counting import Frequent
from bothways.advise.inspect.diagnosis import corpus_findings
from bothways.advise.inspect.sizes import recipe_fits, suitable_vocabulary
from bothways.advise.inspect.text import look_at_text
from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.inspect import inspect

WORDS = [
    "the",
    "river",
    "of",
    "light",
    "and",
    "stone",
    "was",
    "in",
    "a",
    "garden",
    "that",
    "he",
    "saw",
    "by",
    "it",
    "for",
    "his",
    "old",
    "house",
]


def english(rng, sentences):
    return " ".join(" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(sentences))


@pytest.fixture
def folder(tmp_path):
    """Return a folder of 150 sound English documents of several paragraphs."""
    rng = random.Random(0)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(150):
        text = "\n\n".join(english(rng, 12) for _ in range(5))
        (texts / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return texts


def look(*paths, **options):
    figures, findings = look_at_text(paths, **options)
    return figures, {finding.topic: finding for finding in findings}


def write_lines(path, values):
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


def test_figures_are_those_of_the_text(folder):
    figures, _ = look(folder)
    texts = [path.read_text() for path in sorted(folder.iterdir())]
    assert figures["documents"] == figures["wholes"] == 150
    assert figures["bytes"] == figures["characters"] == sum(map(len, texts))
    assert figures["words"] == sum(len(text.split()) for text in texts)
    assert figures["sentences"] == 150 * 60
    assert (figures["lines"], figures["blank_lines"]) == (150 * 9, 150 * 4)
    assert figures["languages"] == {"en": 150}
    assert figures["scripts"].keys() == {"latin"}
    assert figures["kinds"] == {".txt": {"files": 150, "documents": 150, "bytes": figures["bytes"]}}
    assert figures["estimated_tokens"] == round(1.3 * figures["words"])
    assert figures["close_share"] == 1
    assert [found["value"] for found in figures["worst"]["longest"]] == sorted(map(len, texts), reverse=True)[:5]
    assert [found["value"] for found in figures["worst"]["shortest"]] == sorted(map(len, texts))[:5]


def test_sound_text_gets_no_warning_but_of_its_size(folder):
    _, findings = look(folder)
    assert findings.keys() <= {"size", "vocabulary"}
    assert "--vocab-size 1024" in findings["vocabulary"].remedy
    assert "parameters of gpt-tiny, the smallest recipe" in findings["size"].fact


def test_the_same_input_gives_the_same_figures(folder):
    first, second = (json.dumps(look_at_text([folder])[0]) for _ in range(2))
    assert first == second


def planted(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_planted_faults_are_each_found(folder):
    rng = random.Random(1)
    planted(
        folder,
        copy1=(folder / "000.txt").read_text(),
        copy2=(folder / "001.txt").read_text().upper(),
        mojibake="It’s a naïve café — yes. ".encode().decode("cp1252") * 3 + english(rng, 20),
        control="ring \x07 the bell \x07. " + english(rng, 20),
        lost="lost \ufffd here. " + english(rng, 20),
        private="private \ue001 here. " + english(rng, 20),
        numbers="1, 2, 3; 4 5 6 7 8 9 " * 10,
        **{f"chinese{at}": "那是最美好的时代，那是最糟糕的时代。" * 20 + str(at) for at in range(10)},
    )
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "wide.txt").write_text("two bytes each", encoding="utf-16")
    (folder / "bad.txt").write_bytes(b"one good line\nthen \xff a bad one\n")
    figures, findings = look(folder)
    copies = figures["duplicates"]
    assert copies["exact"] == 2
    assert (copies["within_files"], copies["across_files"]) == (0, copies["exact"] + copies["near"])
    assert "2 of " in findings["duplicates"].fact
    assert "texts/copy1.txt of texts/000.txt" in findings["duplicates"].fact
    assert findings["wrong encoding"].fact.startswith("12 places in 1 document ")
    assert findings["control characters"].fact.startswith("2 control characters in 1 document: U+0007 (2)")
    assert findings["lost characters"].fact.endswith("occurs 1 time")
    assert findings["private characters"].fact.startswith("1 character of private use")
    assert findings["no letters"].fact.startswith("1 document of ")
    assert findings["mixed languages"].level == "warning"
    assert "zh 6" in findings["mixed languages"].fact
    assert "1 file cannot be read" in findings["unreadable files"].fact
    assert "UTF-16" in findings["unreadable files"].fact
    assert "bad.txt, line 2, byte 19" in findings["bad lines"].fact
    assert ".png (1)" in findings["files left out"].fact
    assert {found["source"] for found in figures["worst"]["most symbols"]} & {"texts/numbers.txt"}
    assert figures["worst"]["lowest language share"][0]["source"].startswith("texts/chinese")


def test_lines_add_up_and_bad_ones_come_with_the_flags_that_pass_them(tmp_path):
    file = tmp_path / "some.csv"
    file.write_bytes(
        b"text,label\n" + b"good text of some words,x\n" * 97 + b"one cell\n" + b"bad \xff,x\n" + b"a,b,c\n"
    )
    figures, findings = look(file)
    ingest = figures["ingest"]
    assert (ingest["lines"], ingest["kept"], ingest["empty"], ingest["rejected"]) == (100, 97, 0, 3)
    assert findings["bad lines"].fact.startswith("3 of 100 lines (3 %) cannot be read, the first ")
    assert findings["bad lines"].remedy.endswith("--on-bad skip --max-bad 0.033")
    assert "--task classification" in findings["task file"].remedy


def test_one_document_and_its_remedy(tmp_path):
    rng = random.Random(0)
    (tmp_path / "novel.txt").write_text("\n\n".join(english(rng, 20) for _ in range(200)), encoding="utf-8")
    figures, findings = look(tmp_path / "novel.txt")
    assert figures["wholes"] == 1
    assert figures["documents"] == 2
    assert "are one document, which is cut into 2 at paragraphs" in findings["one document"].fact
    assert findings["one document"].level == "warning"


def test_sentences_without_documents_are_noticed(tmp_path):
    rng = random.Random(0)
    (tmp_path / "list.txt").write_text("\n".join(english(rng, 1) for _ in range(3000)), encoding="utf-8")
    _, findings = look(tmp_path / "list.txt")
    assert "one sentence a line without documents" in findings["no documents"].fact
    lines = write_lines(tmp_path / "list.jsonl", [{"text": english(rng, 1)} for _ in range(300)])
    _, findings = look(lines)
    assert "half of the 300 documents are one sentence" in findings["no documents"].fact
    assert "objective.pairs=none" in findings["no documents"].remedy
    assert "short documents" in findings


def test_repeated_lines_are_named(folder):
    for path in folder.iterdir():
        path.write_text("Click here to subscribe\n" + path.read_text() + "\nAll rights reserved", encoding="utf-8")
    figures, findings = look(folder)
    assert figures["repeated_lines"]["top"] == [["All rights reserved", 150], ["Click here to subscribe", 150]]
    assert figures["repeated_lines"]["repeated"] == 298
    assert findings["repeated lines"].level == "warning"


def test_copies_within_a_file_are_told_from_those_across_files(tmp_path):
    rng = random.Random(0)
    texts = [english(rng, 5) for _ in range(4)]
    write_lines(tmp_path / "a.jsonl", [{"text": text} for text in (*texts, texts[0])])
    write_lines(tmp_path / "b.jsonl", [{"text": texts[1]}, {"text": f"Ωμέγα {english(rng, 5)}"}])
    figures, _ = look(tmp_path)
    copies = figures["duplicates"]
    assert (copies["exact"], copies["within_files"], copies["across_files"]) == (2, 1, 1)
    assert figures["uncommon_letters"]["top"][0] == ["Ω U+03A9", 1]
    assert figures["uncommon_letters"]["characters"] == 5


def test_near_copies_are_found(folder):
    words = (folder / "000.txt").read_text().split(" ")
    words[::40] = ["changed"] * len(words[::40])
    planted(folder, near=" ".join(words))
    figures, findings = look(folder)
    assert figures["duplicates"]["near"] == 1
    assert "texts/near.txt of texts/000.txt" in findings["near duplicates"].fact


def test_a_tokenizer_counts_and_tells_what_it_does_not_know(folder):
    texts = [path.read_text() for path in sorted(folder.iterdir())]
    tokenizer = Tokenizer.train(texts, kind="wordpiece", vocab_size=80, exact=False)
    figures, findings = look(folder, tokenizer=tokenizer)
    measured = figures["tokenizer"]
    assert measured["tokens"] == sum(len(tokenizer.encode(text)) for text in texts)
    assert measured["tokens_per_document"]["count"] == 150
    assert measured["unknown"] == 0
    assert {fit["recipe"].partition("-")[0] for fit in figures["recipes"]} == {"bert"}
    assert "unknown characters" not in findings
    planted(folder, zebra="ζ ζ ж " * 2000)
    figures, findings = look(folder, tokenizer=tokenizer)
    assert figures["tokenizer"]["unknown"] == 6000
    assert figures["tokenizer"]["unknown_examples"] == [["ζ U+03B6", 1], ["ж U+0436", 1]]
    assert figures["tokenizer"]["languages"]["other"]["texts"] == 1
    assert "such as ζ U+03B6, ж U+0436" in findings["unknown characters"].fact


def test_recipes_fit_by_the_tokens_that_there_are():
    fits = {fit["recipe"]: fit for fit in recipe_fits(10_000_000)}
    tiny, mini = fits["gpt-tiny"], fits["gpt-mini"]
    assert tiny["parameters"] == 1_249_856
    assert tiny["passes"] == pytest.approx(20 * tiny["parameters"] / 10_000_000, rel=0.01)
    assert (tiny["verdict"], mini["verdict"]) == ("fits", "too large")
    assert [suitable_vocabulary(tokens) for tokens in (0, 60_000, 409_599, 409_600, 10**7)] == [
        512,
        512,
        2048,
        4096,
        65536,
    ]
    assert all(fit["parameters"] < tiny["parameters"] for fit in recipe_fits(10**7, vocab_size=512, kind="bpe")[:1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "there is no text: 1 file with 0 lines, 0 empty and 0 bad"),
        ("blank.txt", b"\n \n\t\n", "there is no text: 1 file with 3 lines, 3 empty and 0 bad"),
        ("key.jsonl", b'{"body": "x"}\n', "1 bad, the first .*key.jsonl, line 1: unknown column 'text'; legal: body"),
        ("latin.txt", b"caf\xe9\n", "0 empty and 1 bad, the first .*latin.txt, line 1"),
        ("wide.txt", "wide".encode("utf-16"), "not one document can be read: .*UTF-16"),
        ("missing.txt", None, "does not exist"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_numbers(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        look_at_text([tmp_path / name])


def test_standard_input_is_read_in_parts(monkeypatch, folder):
    texts = [path.read_text() for path in sorted(folder.iterdir())]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts) + "no json\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    figures, findings = look(Path("-"))
    assert figures["documents"] == 150
    assert figures["bytes"] == sum(map(len, texts))
    assert "<stdin>, line 151" in findings["bad lines"].fact
    with pytest.raises(UserError, match="no other path"):
        look_at_text([Path("-"), folder])


def test_beyond_a_limit_only_some_documents_are_looked_at_closely():
    rng = random.Random(0)
    survey = Survey(close_bytes=20_000)
    texts = [f"{number} " + english(rng, 20) for number in range(2000)]
    for number, text in enumerate(texts):
        survey.add(text, str(number))
    figures = survey.to_dict()
    assert figures["documents"] == 2000
    assert figures["characters"] == sum(map(len, texts))
    assert 0.01 < figures["close_share"] < 0.1
    assert figures["words"] == pytest.approx(sum(len(text.split()) for text in texts), rel=0.01)


def test_a_long_text_is_looked_at_in_pieces(monkeypatch):
    text = "one line of words\n" * 1000 + "x" * 5000
    monkeypatch.setattr(corpus, "PIECE", 1000)
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= 1000
    assert all(piece.endswith("\n") for piece in cut[:10])


def test_memory_does_not_grow_with_the_number_of_documents():
    survey = Survey()
    survey.frequent = Frequent(limit=500)
    rng = random.Random(0)

    def add(count):
        for _ in range(count):
            survey.add(f"{rng.random()} and {rng.random()} are some words of a short text", "file.txt:1")

    add(1500)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    add(3000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 150_000, "500 lines of a hundred bytes come and go, and nothing is kept of 3,000 documents"


def test_every_finding_has_numbers_or_names_and_a_remedy(folder):
    figures, _ = look_at_text([folder])
    for finding in corpus_findings(figures):
        assert finding.remedy
        assert not finding.fact.endswith(".")
        assert "; " in str(finding)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
    suffix=st.sampled_from(["txt", "jsonl", "csv"]),
)
def test_no_bytes_break_the_doctor(tmp_path, content, suffix):
    file = tmp_path / f"any.{suffix}"
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        found = inspect(file, text_column="a")
        ingest = found.figures["ingest"]
        assert ingest["lines"] == ingest["kept"] + ingest["empty"] + ingest["rejected"]
        assert ingest["bytes"] == len(content)
        json.dumps(found.to_dict(), allow_nan=False)
        assert found.to_html().encode("utf-8", "backslashreplace")


ODD_TEXTS = {
    "ANSI escapes": "\x1b[31mred\x1b[0m text of some words",
    "bidi overrides": "left \u202eto right\u202c and back",
    "noncharacters": "a \ufffe and \uffff here",
    "combining": "e" + "\u0301" * 1000,
    "one word": "x" * 100_000,
    "line separators": "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "zero width": "\u200b\u200d\ufeff inside \ufeff",
    "formula": "=cmd|' /C calc'!A0",
    "markup": "</style><script>alert(1)</script>]]>",
}


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_texts_are_looked_at_and_shown(tmp_path, name):
    write_lines(tmp_path / "odd.jsonl", [{"text": ODD_TEXTS[name]}, {"text": "a plain text"}])
    found = inspect(tmp_path / "odd.jsonl")
    assert found.figures["documents"] == 2
    assert found.figures["characters"] == len(ODD_TEXTS[name]) + len("a plain text")
    page = found.to_html()
    assert "<script" not in page
    assert page.count("<style>") == page.count("</style>") == 1


def test_the_most_repetitive_document_is_named(folder):
    planted(folder, parrot="polly wants a cracker and " * 60)
    figures, _ = look(folder)
    first = figures["worst"]["most repetitive"][0]
    assert first["source"] == "texts/parrot.txt"
    assert first["value"] > 0.9
    assert repetition(["a", "b", "c", "d", "e", "f"]) == 0
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repetition([]) == 0
