import copy
import io
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import OutOfDiskError, UserError
from bothways.execution.execution import map_items
from bothways.text.cutting import LONGEST, cut
from bothways.text.reading.accounting import IngestReport, Rejected, judge
from bothways.text.reading.documents import FORMATS, Document, read_documents
from bothways.text.reading.files import find_files
from bothways.text.reading.parts import PART_BYTES, Account, Part, divide, read_part, spool


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parts_of(paths, part_bytes: int) -> list[Part]:
    return divide(find_files(paths, FORMATS)[0], part_bytes)


def read_all(parts, *, max_bad: float = 1.0, **options) -> tuple[list[Document], IngestReport]:
    account = Account(max_bad)
    documents = []
    for part in parts:
        report = IngestReport()
        documents += read_part(part, report=report, **options)
        account.add(part, report)
    return documents, account.finish()


def lines(texts) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


# Dividing


def test_small_files_are_grouped_in_their_order(tmp_path):
    for number in range(10):
        write(tmp_path / "corpus" / f"{number}.txt", "x" * 40)
    parts = parts_of(tmp_path / "corpus", 100)
    assert [[file.path.stem for file in part.files] for part in parts] == [
        list("01"),
        list("23"),
        list("45"),
        list("67"),
        list("89"),
    ]
    assert [part.index for part in parts] == [0, 1, 2, 3, 4]
    assert len(parts_of(tmp_path / "corpus", PART_BYTES)) == 1


def test_packed_files_count_fourfold(tmp_path):
    for number in range(8):
        write(tmp_path / f"{number}.txt.gz", "x" * 40)
    assert [len(part.files) for part in parts_of(tmp_path, 400)] == [2, 2, 2, 2]


def test_only_plain_json_lines_are_divided(tmp_path):
    for name in ("a.txt", "b.csv", "c.jsonl.gz", "d.ndjson", "e.jsonl"):
        write(tmp_path / "corpus" / name, b"0123456\n" * 100)
    parts = parts_of(tmp_path / "corpus", 400)
    assert [(part.files[0].path.name, part.start, part.stop) for part in parts] == [
        ("a.txt", 0, None),
        ("b.csv", 0, None),
        ("c.jsonl.gz", 0, None),
        ("d.ndjson", 0, 400),
        ("d.ndjson", 400, 800),
        ("e.jsonl", 0, 400),
        ("e.jsonl", 400, 800),
    ]
    assert [part.index for part in parts] == list(range(7))


def test_a_line_belongs_to_the_part_in_which_it_begins(tmp_path):
    file = write(tmp_path / "a.jsonl", b"a" * 9 + b"\n" + b"b" * 99 + b"\n" + b"c" * 4 + b"\n" + b"d" * 4)
    assert [(part.start, part.stop) for part in parts_of(file, 10)] == [(0, 10), (10, 110), (110, 119)]
    assert [(part.start, part.stop) for part in parts_of(file, 30)] == [(0, 110), (110, 119)]


def test_a_part_travels_as_json_and_between_processes(tmp_path):
    write(tmp_path / "a.jsonl", lines("ab"))
    write(tmp_path / "b.txt", "x")
    parts = parts_of(tmp_path, 15)
    assert [Part.from_dict(json.loads(json.dumps(part.to_dict()))) for part in parts] == parts
    assert list(map_items(copy.copy, parts, workers=2, describe="sending")) == parts


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20)


@given(TEXTS, st.integers(1, 200), st.booleans(), st.booleans())
def test_parts_of_any_size_give_what_one_reading_gives(tmp_path_factory, texts, part_bytes, final, marked):
    content = b"\n".join([b"bad" if len(text) % 7 == 3 else json.dumps({"text": text}).encode() for text in texts])
    content = (b"\xef\xbb\xbf" if marked else b"") + content + (b"\n" if final else b"")
    file = write(tmp_path_factory.mktemp("law") / "a.jsonl", content)
    report = IngestReport()
    alone = list(read_documents(file, on_bad="skip", max_bad=1, report=report))
    documents, total = read_all(parts_of(file, part_bytes), on_bad="skip")
    assert [document.text for document in documents] == [document.text for document in alone]
    assert total == report
    assert total.bytes == len(content)


def test_lines_are_counted_anew_in_every_divided_file(tmp_path):
    for name in "abc":
        write(tmp_path / "corpus" / f"{name}.jsonl", lines("xxxx") + b"bad\n" + lines("xxxx"))
    write(tmp_path / "corpus" / "b.txt", b"bad \xff\n")
    report = IngestReport()
    list(read_documents(tmp_path / "corpus", on_bad="skip", max_bad=1, report=report))
    assert [each.line for each in report.first_rejected] == [5, 5, 1, 5]
    assert read_all(parts_of(tmp_path / "corpus", 30), on_bad="skip")[1] == report


def test_sources_in_later_ranges_name_the_byte(tmp_path):
    file = write(tmp_path / "a.jsonl", lines("abcd"))
    documents, _ = read_all(parts_of(file, 28))
    assert [document.source for document in documents] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl@28", "a.jsonl@42"]


def test_an_error_in_a_later_range_names_the_line_of_the_file(tmp_path):
    content = lines("x" * 500)
    file = write(tmp_path / "a.jsonl", content + b"bad\n" + lines("y"))
    part = next(part for part in parts_of(file, 1000) if part.start <= len(content) < part.stop)
    assert part.start > 5000
    with pytest.raises(UserError, match=rf"line 501, byte {len(content)}: not one JSON"):
        list(read_part(part, report=IngestReport()))


# The account


def test_bad_lines_are_judged_over_all_parts(tmp_path):
    sound = lines("x") * 3000
    file = write(tmp_path / "a.jsonl", sound + b"bad\n" * 3 + sound)
    with pytest.raises(UserError, match=r"3 of 3,574 lines are bad .*; the first is .*a\.jsonl, line 3001, byte 42000"):
        read_all(parts_of(file, 10_000), max_bad=0.0005, on_bad="skip")
    assert len(read_all(parts_of(file, 10_000), on_bad="skip")[0]) == 6000


def test_few_lines_are_judged_at_the_end_only():
    rejected = Rejected(file="a", line=1, byte_offset=0, reason="bad")
    part = Part(index=0, files=())
    account = Account(0.1)
    account.add(part, IngestReport(lines=900, kept=800, rejected=100, first_rejected=[rejected]))
    with pytest.raises(UserError, match="100 of 900 lines are bad"):
        account.finish()
    account.add(part, IngestReport(lines=99_100, kept=99_100))
    assert account.finish().lines == 100_000
    with pytest.raises(UserError, match="the first is a, line 1, byte 0: bad"):
        judge(account.report, 0.0001)
    account = Account(0.1)
    with pytest.raises(UserError, match="500 of 1,000 lines are bad"):
        account.add(part, IngestReport(lines=1000, kept=500, rejected=500, first_rejected=[rejected]))


def test_sums_of_reports_keep_twenty_places():
    reports = [
        IngestReport(
            files=1,
            lines=30,
            rejected=30,
            rejected_by_reason={f"r{number % 2}": 30},
            skipped_files={".png": number},
            first_rejected=[Rejected(file=f"f{number}", line=line, byte_offset=None, reason="") for line in range(15)],
        )
        for number in range(3)
    ]
    total = IngestReport.sum(reports)
    assert (total.files, total.lines, total.rejected) == (3, 90, 90)
    assert total.rejected_by_reason == {"r0": 60, "r1": 30}
    assert total.skipped_files == {".png": 3}
    assert [(each.file, each.line) for each in total.first_rejected] == [
        *(("f0", line) for line in range(15)),
        *(("f1", line) for line in range(5)),
    ]
    assert str(total.first_rejected[0]) == "f0, row 0: "


# Long texts


def novel(seed: int, characters: int) -> str:
    draw = random.Random(seed)
    marks = ["\n\n"] * 3 + ["\n"] * 10 + [". "] * 60 + ["。"] * 20 + [" "] * 900
    found = []
    while sum(map(len, found)) < characters:
        found.append("".join(draw.choice(["word", "字", "é", "longerword"]) + draw.choice(marks) for _ in range(5000)))
    return "".join(found)[:characters]


@pytest.mark.parametrize(
    "text",
    [
        novel(1, 1_000_000),
        novel(2, LONGEST),
        novel(3, LONGEST + 1),
        "x" * 350_001,
        "字" * 300_000,
        ("x" * 70_000 + "\n") * 9,
        "x" * 60_000 + "\n\n" + "y" * 30_000 + "\n" + "z" * 200_000,
    ],
    ids=["novel", "just fits", "one more", "no mark", "no mark zh", "lines", "paragraph"],
)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_long_text_is_cut_while_reading_as_it_would_be_whole(tmp_path, text, ending):
    documents = list(read_documents(write(tmp_path / "a.txt", text + ending)))
    pieces = cut(text + ending)
    assert [document.text for document in documents] == [piece for piece in pieces if piece.strip()]
    assert "".join(pieces) == text + ending
    assert max(map(len, pieces)) <= LONGEST
    assert [document.source for document in documents][:3] == ["a.txt", "a.txt#1", "a.txt#2"][: len(documents)]


def test_the_cut_lies_between_paragraphs_then_lines_then_sentences_then_words():
    assert cut("aaaaaa\n\nb\nc. d e", 12) == ["aaaaaa\n\n", "b\nc. d e"]
    assert cut("aaaaaa\nb. c d e", 12) == ["aaaaaa\n", "b. c d e"]
    assert cut("aaaaaa. b c d e", 12) == ["aaaaaa. ", "b c d e"]
    assert cut("一二三四五六。七八九十一二三", 12) == ["一二三四五六。", "七八九十一二三"]
    assert cut("aaaaaa b c d eeee", 12) == ["aaaaaa b c ", "d eeee"]
    assert cut("a\n\naaaaaaaaaaaaaaaa", 12) == ["a\n\naaaaaaaaa", "aaaaaaa"]


def test_white_space_alone_is_no_piece(tmp_path):
    file = write(tmp_path / "a.txt", "\n" * 250_000 + "text\n" + "\n" * 250_000)
    report = IngestReport()
    documents = list(read_documents(file, report=report))
    assert [document.text.strip() for document in documents] == ["text"]
    assert (report.lines, report.kept, report.empty, report.documents) == (500_001, 1, 500_000, 1)


# A pipe


def read_spooled(content: bytes, folder: Path, part_bytes: int, **options) -> tuple[list[Document], IngestReport]:
    def one_after_the_other():
        for part in spool(io.BytesIO(content), folder, part_bytes):
            yield part
            part.files[0].path.unlink()
            assert list(folder.iterdir()) == []

    return read_all(one_after_the_other(), **options)


@given(TEXTS, st.integers(1, 200), st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf", b" \n\r\n"]))
def test_a_pipe_of_json_lines_is_read_as_a_file_would_be(tmp_path_factory, texts, part_bytes, final, head):
    folder = tmp_path_factory.mktemp("law")
    records = [b"bad" if len(text) % 7 == 3 else json.dumps({"text": text}).encode() for text in ["first", *texts]]
    content = head + b"\n".join(records) + (b"\n" if final else b"")
    report = IngestReport()
    file = write(folder / "a.jsonl", content)
    alone = list(read_documents(file, on_bad="skip", max_bad=1, report=report))
    (folder / "spool").mkdir()
    documents, total = read_spooled(content, folder / "spool", part_bytes, on_bad="skip")
    assert [document.text for document in documents] == [document.text for document in alone]
    assert [document.source for document in documents] == [
        document.source.replace("a.jsonl", "<stdin>") for document in alone
    ]
    assert [(each.line, each.byte_offset) for each in total.first_rejected] == [
        (each.line, each.byte_offset) for each in report.first_rejected
    ]
    assert {each.file for each in total.first_rejected} <= {"<stdin>"}
    total.first_rejected = report.first_rejected
    assert total == report


def test_a_pipe_of_text_is_one_document_in_pieces(tmp_path):
    content = b"".join(b"line %d\n" % number for number in range(1000)) + b"b\xffd\n\nlast"
    documents, report = read_spooled(content, tmp_path, 4000, on_bad="skip")
    assert "".join(document.text for document in documents).encode() == content.replace(b"b\xffd\n", b"")
    assert [document.source for document in documents] == ["<stdin>", "<stdin>@4003", "<stdin>@8008"]
    assert (report.files, report.lines, report.empty, report.bytes) == (1, 1003, 1, len(content))
    [rejected] = report.first_rejected
    assert (rejected.line, rejected.byte_offset) == (1001, content.index(b"\xff"))
    with pytest.raises(UserError, match="<stdin>, line 1001, byte"):
        read_spooled(content, tmp_path / os.curdir, 4000)


def test_parts_of_a_pipe_come_as_soon_as_they_are_whole(tmp_path):
    class Pipe(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            self.taken += size
            return super().read(size)

    pipe = Pipe(lines(["x" * 1000] * 10_000))
    first = next(spool(pipe, tmp_path, 2 << 20))
    assert pipe.taken <= 4 << 20
    assert first.files[0].size - (2 << 20) < 2000
    assert first.files[0].path == tmp_path / "stdin-00000.jsonl"


def test_an_empty_pipe_has_no_parts(tmp_path):
    assert list(spool(io.BytesIO(b""), tmp_path)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x1f\x8b\x08", "'<stdin>' holds .gz data"), ("text".encode("utf-16"), "'<stdin>' looks like a UTF-16 file")],
)
def test_a_pipe_of_something_else_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        next(spool(io.BytesIO(content), tmp_path))


def test_a_disk_that_takes_no_more_is_said(tmp_path):
    with pytest.raises(OutOfDiskError, match="could not be written"):
        next(spool(io.BytesIO(b"text"), tmp_path / "missing"))


PIPE = r"""
import re, sys
from pathlib import Path
from bothways.text.reading.accounting import IngestReport
from bothways.text.reading.parts import Account, read_part, spool
account = Account(1.0)
for part in spool(sys.stdin.buffer, Path(sys.argv[1])):
    report = IngestReport()
    for document in read_part(part, report=report, on_bad="skip"):
        pass
    account.add(part, report)
    part.files[0].path.unlink()
report = account.finish()
print(report.lines, report.kept, report.empty, report.rejected, report.bytes)
print(report.first_rejected[0].line, report.first_rejected[0].byte_offset, report.rejected_by_reason)
print(int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) >> 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_pipe_with_a_line_of_a_gigabyte(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PIPE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1200 << 20, 1200 << 20)),
    ) as reader:
        reader.stdin.write(b'{"text": "first"}\n')
        for _ in range(1000):
            reader.stdin.write(b"x" * (1 << 20))
        reader.stdin.write(b'\n{"text": "last"}\n')
        reader.stdin.close()
        said = reader.stdout.read().decode().splitlines()
    assert said[0] == f"3 2 0 1 {(1000 << 20) + 36}"
    assert said[1] == "2 18 {'line too long': 1}"
    assert int(said[2]) < 300
