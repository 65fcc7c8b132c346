"""Small corpora of every kind of bad input, each with known truth: no line and no byte of them gets lost."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.reading.accounting import IngestReport
from bothways.text.reading.documents import FORMATS, read_documents, read_records
from bothways.text.reading.files import find_files
from bothways.text.reading.parts import Account, divide, read_part

GOOD = b'{"text": "good"}\n'


class Corpus(NamedTuple):
    files: dict[str, bytes]
    kept: int
    empty: int = 0
    rejected: int = 0
    packed: bool = False


def one(name: str, content: bytes | str, kept: int, empty: int = 0, rejected: int = 0) -> Corpus:
    data = content.encode() if isinstance(content, str) else content
    return Corpus({name: data}, kept, empty, rejected)


def packed(name: str, content: bytes, kept: int, empty: int = 0, rejected: int = 0) -> Corpus:
    return Corpus({name: content}, kept, empty, rejected, packed=True)


def bad_line(line: bytes) -> Corpus:
    """Return three lines of which the second is bad."""
    return one("a.jsonl", GOOD + line + b"\n" + GOOD, 2, 0, 1)


KEYS = json.dumps({"text": "x", **{f"key {number}": number for number in range(100_000)}})
LONG = "x" * 131_073

CORPORA: dict[str, Corpus] = {
    # 126 next to nothing
    "no bytes, txt": one("a.txt", "", 0),
    "no bytes, jsonl": one("a.jsonl", "", 0),
    "one newline, txt": one("a.txt", "\n", 0, 1),
    "one newline, jsonl": one("a.jsonl", "\n", 0, 1),
    "white space, txt": one("a.txt", " \t \n\u3000\n  ", 0, 3),
    "white space, jsonl": one("a.jsonl", " \t \n\r\n  ", 0, 3),
    "mark alone, txt": one("a.txt", b"\xef\xbb\xbf", 0),
    "mark alone, jsonl": one("a.jsonl", b"\xef\xbb\xbf", 0),
    # 127 not UTF-8
    "bad first line, txt": one("a.txt", b"a\xffb\nsound\nlines\n", 2, 0, 1),
    "bad middle line, txt": one("a.txt", b"sound\n\xc0\xaf\nlines\n", 2, 0, 1),
    "bad last line, txt": one("a.txt", b"sound\n\nlines\n\xed\xa0\x80", 2, 1, 1),
    "bad first line, jsonl": one("a.jsonl", b'{"text": "\xff"}\n' + GOOD * 2, 2, 0, 1),
    "bad middle line, jsonl": bad_line(b'{"text": "\xc0\xaf"}'),
    "bad last line, jsonl": one("a.jsonl", GOOD * 2 + b'{"text": "\xed\xa0\x80"}', 2, 0, 1),
    "latin-1": one("a.txt", "caf\u00e9\ntea\n".encode("latin-1"), 1, 0, 1),
    "GBK": one("a.txt", "中文文本\n".encode("gbk") + b"ASCII\n", 1, 0, 1),
    # 128 characters that are odd and sound, and NULs, which are not
    "NUL, txt": one("a.txt", b"a line of some length\na\0b\n", 1, 0, 1),
    "NUL, jsonl": bad_line(b'{"text": "a\0b"}'),
    "control characters": one("a.txt", "\x01\x02\n\x1b[31mred\x1b[0m\n\x7f\n", 3),
    "mark inside, bidi, private, nonchars": one("a.txt", "a\ufeffb\n\u202eevil\n\ue000\n\ufffe\uffff\n", 4),
    "both normal forms": one("a.txt", "caf\u00e9\ncafe\u0301\n", 2),
    # 129 what ends a line and what does not
    "CR is no line end": one("a.txt", "a\rb\rc", 1),
    "CRLF": one("a.txt", "a\r\n\r\nb\r\n", 2, 1),
    "mixed line ends": one("a.jsonl", b'{"text": "a"}\r\n{"text": "b"}\n\r\n', 2, 1),
    "other separators, txt": one("a.txt", "a\u2028b\x85c\x0bd\x0ce\x1cf\n", 1),
    "other separators, jsonl": one("a.jsonl", '{"text": "a\u2028b\u2029c\x85d"}\n', 1),
    # 130 no final newline
    "no final newline, txt": one("a.txt", "a\nb", 2),
    "no final newline, jsonl": one("a.jsonl", b'{"text": "a"}\n{"text": "b"}', 2),
    # 131 long lines
    "a line of the most bytes": one("a.txt", b"x" * (16 << 20) + b"\nshort\n", 2),
    "a line of one byte more": one("a.txt", b"x" * ((16 << 20) + 1) + b"\nshort\n", 1, 0, 1),
    "a long line without end": one("a.txt", b"short\n" + b"x" * ((16 << 20) + 1), 1, 0, 1),
    "a long line, jsonl": one("a.jsonl", GOOD + b'{"text": "' + b"x" * (16 << 20) + b'"}\n' + GOOD, 2, 0, 1),
    "many lines of one character": one("a.txt", b"x\n" * 100_000, 100_000),
    # 132 JSON lines
    "last line cut off": one("a.jsonl", GOOD + b'{"text": "goo', 1, 0, 1),
    "a scalar": bad_line(b"5"),
    "an array": bad_line(b'["text"]'),
    "blank lines": one("a.jsonl", b"\n" + GOOD + b"  \n\t\n" + GOOD, 2, 3),
    "a comma at the end": bad_line(b'{"text": "a",}'),
    "single quotes": bad_line(b"{'text': 'a'}"),
    "NaN": bad_line(b'{"text": "a", "n": NaN}'),
    "a key twice": bad_line(b'{"text": "a", "text": "b"}'),
    "no such key": bad_line(b'{"content": "a"}'),
    "null": bad_line(b'{"text": null}'),
    "a number": bad_line(b'{"text": 5}'),
    "an object": bad_line(b'{"text": {"text": "a"}}'),
    "a hundred thousand keys": one("a.jsonl", KEYS + "\n" + KEYS, 2),
    "two objects on a line": bad_line(b'{"text": "a"}{"text": "b"}'),
    "printed over several lines": one("a.jsonl", json.dumps({"text": "a"}, indent=1), 0, 0, 3),
    "marks where files were joined": one("a.jsonl", b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf" + GOOD, 1, 0, 1),
    "half a surrogate pair": bad_line(b'{"text": "\\ud800"}'),
    "escaped NUL and emoji": one("a.jsonl", b'{"text": "a\\u0000 \\ud83d\\ude00"}\n', 1),
    "blank texts": one("a.jsonl", b'{"text": ""}\n{"text": " \\n\\u3000"}\n' + GOOD, 1, 2),
    "json list": one("a.json", '[{"text": "a"}, {"text": ""}, {"txt": "a"}, 5]', 1, 1, 2),
    # 133 tables
    "csv with mark": one("a.csv", "\ufefftext,n\na,1\n", 1),
    "csv without value": one("a.csv", "text\nNA\nnull\nNone\nnan\nTRUE\n007\n1e5\n", 7),
    "csv rows too short and long": one("a.csv", "text,n\na\nb,1\nc,1,2\n", 1, 0, 2),
    "csv, quote left open": one("a.csv", 'text\na\n"b\nc\n', 1, 0, 2),
    "csv, newline and quote in a cell": one("a.csv", 'text\n"a\n""b"""\nc\n', 2),
    "csv, NUL in a cell": one("a.csv", "text,more\nsome text,a\nb\0,c\n", 1, 0, 1),
    "csv, header only": one("a.csv", "text,n\n", 0),
    "csv, blank rows and cells": one("a.csv", 'text,n\n\n" ",1\na,2\n\n', 1, 3),
    "csv, long cell": one("a.csv", f"text\n{LONG}\n", 1),
    "csv, formula": one("a.csv", "text\n=cmd|' /C calc'!A0\n", 1),
    "tsv": one("a.tsv", 'text\tn\n"a\t1\n\nb\t2\t3\n', 1, 1, 1),
    # 134, 135 packed
    "gz of two members": packed("a.jsonl.gz", gzip.compress(GOOD) + gzip.compress(GOOD + b"bad\n"), 2, 0, 1),
    "bz2": packed("a.jsonl.bz2", bz2.compress(GOOD + b"\n"), 1, 1),
    "xz": packed("a.txt.xz", lzma.compress(b"a\n\nb"), 2, 1),
    "zst": packed("a.csv.zst", zstandard.compress(b"text\na\nb,c\n"), 1, 0, 1),
    # 137, 138 several files
    "several formats": Corpus(
        {"b.txt": b"a\n\nb\n", "a/c.jsonl": GOOD * 3 + b"bad\n", "z.csv": b"text\nx\ny,z\n", ".hidden.txt": b"no"},
        6,
        1,
        2,
    ),
    "all bad": one("a.jsonl", b"bad\n" * 30, 0, 0, 30),
    # 139 duplicates are read as they are
    "duplicates": one("a.jsonl", GOOD * 500, 500),
}


def lay_out(corpus: Corpus, folder: Path) -> Path:
    for name, content in corpus.files.items():
        (folder / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "corpus" / name).write_bytes(content)
    return folder / "corpus"


def known(corpus: Corpus) -> tuple[int, ...]:
    return corpus.kept + corpus.empty + corpus.rejected, corpus.kept, corpus.empty, corpus.rejected


def counted(report: IngestReport) -> tuple[int, ...]:
    return report.lines, report.kept, report.empty, report.rejected


def read_by_parts(folder: Path, part_bytes: int, **options) -> tuple[IngestReport, list[str]]:
    account = Account(max_bad=1)
    files, account.report.skipped_files = find_files(folder, FORMATS)
    texts = []
    for part in divide(files, part_bytes):
        report = IngestReport()
        texts += [document.text for document in read_part(part, report=report, **options)]
        account.add(part, report)
    return account.finish(), texts


@pytest.mark.parametrize("name", CORPORA)
def test_every_line_and_byte_is_accounted_for(tmp_path, name):
    corpus = CORPORA[name]
    folder = lay_out(corpus, tmp_path)
    report = IngestReport()
    for document in read_documents(folder, on_bad="skip", max_bad=1, report=report):
        assert document.text.strip()
        assert report.lines == report.kept + report.empty + report.rejected
    assert counted(report) == known(corpus)
    visible = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert report.compressed_bytes == sum(path.stat().st_size for path in visible)
    if not corpus.packed:
        assert report.bytes == report.compressed_bytes
    assert sum(report.rejected_by_reason.values()) == report.rejected
    assert len(report.first_rejected) == min(20, len(report.first_rejected))
    assert bool(report.first_rejected) == bool(report.rejected)
    assert IngestReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@pytest.mark.parametrize("on_bad", ["skip", "replace"])
@pytest.mark.parametrize("name", CORPORA)
def test_parts_add_up_to_the_report_of_one_reading(tmp_path, name, on_bad):
    folder = lay_out(CORPORA[name], tmp_path)
    report = IngestReport()
    texts = [each.text for each in read_documents(folder, on_bad=on_bad, max_bad=1, report=report)]
    for part_bytes in (1, 40) if sum(map(len, CORPORA[name].files.values())) < 20_000 else (1 << 20,):
        assert read_by_parts(folder, part_bytes, on_bad=on_bad) == (report, texts)


@pytest.mark.parametrize("name", [name for name, corpus in CORPORA.items() if corpus.rejected])
def test_a_bad_line_stops_at_its_place_by_parts_too(tmp_path, name):
    folder = lay_out(CORPORA[name], tmp_path)
    with pytest.raises(UserError) as caught:
        list(read_documents(folder))
    with pytest.raises(UserError) as by_parts:
        read_by_parts(folder, 40)
    assert str(by_parts.value) == str(caught.value)


def test_there_are_corpora_enough():
    assert len(CORPORA) >= 60


def test_one_bad_byte_in_the_last_of_a_hundred_thousand_lines(tmp_path):
    lines = b'{"text": "a sound line"}\n' * 99_999
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines + b'{"text": "a b\xffd line"}\n')
    with pytest.raises(UserError, match=rf"line 100000, byte {len(lines) + 13}: byte 0xff is not valid UTF-8"):
        list(read_documents(file))
    text = tmp_path / "a.txt"
    text.write_bytes(b"a sound line\n" * 99_999 + b"a b\xffd line")
    with pytest.raises(UserError, match=rf"line 100000, byte {13 * 99_999 + 3}: byte 0xff is not valid UTF-8"):
        list(read_documents(text))


@pytest.mark.parametrize(
    ("on_bad", "text"),
    [("skip", "one\n\nthree\n"), ("replace", "one\n\nt\ufffdo\nthree\n")],
)
def test_a_text_keeps_its_other_lines(tmp_path, on_bad, text):
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\r\n\nt\xffo\nthree\n")
    report = IngestReport()
    assert [each.text for each in read_documents(file, on_bad=on_bad, max_bad=1, report=report)] == [text]
    assert (report.lines, report.empty, report.rejected, report.replaced) == (
        4,
        1,
        int(on_bad == "skip"),
        int(on_bad != "skip"),
    )
    [bad] = report.first_rejected + report.first_replaced
    assert (bad.line, bad.byte_offset) == (3, 7)


def test_a_quote_left_open_takes_sixteen_megabytes_at_most(tmp_path):
    row = b"a row of sixty-four bytes, with its newline at the very end,,,,\n"
    assert len(row) == 64
    taken = (16 << 20) // 64
    file = tmp_path / "a.csv"
    file.write_bytes(b"text,a,b,c,d,e\n" + b'"' + row * (taken + 1000))
    report = IngestReport()
    list(read_documents(file, on_bad="skip", max_bad=1, report=report))
    assert report.rejected_by_reason == {"line too long": taken}
    assert (report.kept, report.lines) == (1000, taken + 1000)
    [rejected] = report.first_rejected
    assert (rejected.line, rejected.byte_offset) == (2, 15)
    assert "is a quote left open?" in rejected.reason


@pytest.mark.parametrize(("header", "named"), [("text;n", "';'"), ("text\tn", "a tab")])
def test_another_delimiter_must_be_declared(tmp_path, header, named):
    file = tmp_path / "a.csv"
    file.write_text(f"{header}\na{header[4]}1\n")
    with pytest.raises(UserError, match=f"seems to be delimited by {named}"):
        list(read_documents(file, on_bad="skip", max_bad=1))
    assert [each.text for each in read_documents(file, delimiter=header[4])] == ["a"]
    assert [each.values for each in read_records(file, delimiter=header[4])] == [{"text": "a", "n": "1"}]
    assert [each.values for each in read_records(file, delimiter=",")] == [{header: f"a{header[4]}1"}]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_is_one_character(tmp_path, delimiter):
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(UserError, match="one character"):
        read_documents(tmp_path / "a.csv", delimiter=delimiter)


def test_json_over_64_mib_is_refused_with_advice(tmp_path):
    file = tmp_path / "a.json"
    with file.open("wb") as out:
        out.write(b"[" + b" " * 5000)
        out.truncate(65 << 20)
    with pytest.raises(UserError, match=r"over 64 MiB.*convert it to \.jsonl"):
        list(read_documents(file, on_bad="skip", max_bad=1))


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(CELL, CELL), max_size=6), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_csv_cells_survive(tmp_path_factory, rows, delimiter, end):
    lines = [delimiter.join(map(quoted, row)) + end for row in [("a", "b"), *rows]]
    file = tmp_path_factory.mktemp("law") / "a.csv"
    file.write_bytes("".join(lines).encode())
    report = IngestReport()
    found = read_records(file, delimiter=delimiter, report=report)
    assert [tuple(record.values.values()) for record in found] == rows
    assert report.lines == report.kept == len(rows)


@given(st.lists(st.tuples(CELL, CELL), max_size=6))
def test_tsv_cells_survive(tmp_path_factory, rows):
    clean = [tuple(cell.translate({9: " ", 10: " ", 13: " ", 34: "'"}) for cell in row) for row in rows]
    file = tmp_path_factory.mktemp("law") / "a.tsv"
    file.write_bytes(("a\tb\n" + "".join("\t".join(row) + "\n" for row in clean)).encode())
    assert [tuple(record.values.values()) for record in read_records(file)] == clean


PROBLEMS: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_no_file_is_refused(tmp_path, name):
    PROBLEMS[name](tmp_path / "a.txt")
    with pytest.raises(UserError):
        find_files(tmp_path, FORMATS)
