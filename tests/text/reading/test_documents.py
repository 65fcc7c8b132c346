import bz2
import gzip
import json
import lzma
import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.reading.documents import Document, IngestReport, read_documents, read_records


@pytest.fixture
def notes(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("bothways.text.reading.files.note", lines.append)
    return lines


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(paths, **options) -> list[str]:
    return [document.text for document in read_documents(paths, **options)]


def ingest(paths, **options) -> tuple[list[Document], IngestReport]:
    report = IngestReport()
    documents = list(read_documents(paths, report=report, **options))
    assert report.lines == report.kept + report.empty + report.rejected
    assert sum(report.rejected_by_reason.values()) == report.rejected
    assert report.documents == len(documents)
    return documents, report


# Formats


def test_a_text_file_is_one_document_even_with_blank_lines(tmp_path):
    file = write(tmp_path / "a.txt", "First sentence.\nSecond.\n\nNext block.\n")
    assert list(read_documents(file)) == [
        Document(text="First sentence.\nSecond.\n\nNext block.\n", source="a.txt"),
    ]


def test_text_files_lose_carriage_returns_of_crlf_only(tmp_path):
    assert texts(write(tmp_path / "a.md", b"a\r\nb\rc\n")) == ["a\nb\rc\n"]


ROWS = [("plain", "x"), ('with "quotes", comma', "y"), ("NA", "007"), ("中文，标点", "1e5")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in ROWS)),
        ("a.ndjson", "\r\n".join(json.dumps({"text": t, "label": v}, ensure_ascii=False) for t, v in ROWS)),
        ("a.json", json.dumps([{"text": t, "label": v} for t, v in ROWS], indent=2)),
        ("a.csv", 'text,label\nplain,x\n"with ""quotes"", comma",y\nNA,007\n中文，标点,1e5\n'),
        ("a.CSV", '\ufefftext,label\r\nplain,x\r\n"with ""quotes"", comma",y\r\nNA,007\r\n中文，标点,1e5'),
        ("a.tsv", 'text\tlabel\nplain\tx\nwith "quotes", comma\ty\nNA\t007\n中文，标点\t1e5\n'),
        ("a.tsv", 'text\tlabel\r\nplain\tx\r\n"with ""quotes"", comma"\ty\r\nNA\t007\r\n中文，标点\t1e5\r\n'),
    ],
)
def test_tables_of_every_format_hold_the_same_cells(tmp_path, name, content):
    file = write(tmp_path / name, content)
    assert [tuple(record.values.values()) for record in read_records(file, columns=["text", "label"])] == ROWS
    documents, report = ingest(file)
    assert [document.text for document in documents] == [text for text, _ in ROWS]
    assert report.bytes == file.stat().st_size


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files_are_unpacked_and_counted_unpacked(tmp_path, suffix, pack):
    content = b'{"text": "one"}\n{"text": "two"}\n'
    documents, report = ingest(write(tmp_path / f"a.jsonl{suffix}", pack(content)))
    assert [document.source for document in documents] == [f"a.jsonl{suffix}:1", f"a.jsonl{suffix}:2"]
    assert report.bytes == len(content)


def test_a_packed_file_of_several_members_is_read_to_its_end(tmp_path):
    assert texts(write(tmp_path / "a.txt.gz", gzip.compress(b"one ") + gzip.compress(b"two"))) == ["one two"]


@pytest.mark.parametrize(
    "content",
    [
        b"plain text",
        gzip.compress(random.Random(0).randbytes(9000).hex().encode(), mtime=0)[:4000],
        gzip.compress(b"x", mtime=0) + b"junk",
    ],
    ids=["not packed", "truncated", "junk behind"],
)
def test_a_damaged_packed_file_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"a\.txt\.gz' cannot be read"):
        texts(write(tmp_path / "a.txt.gz", content))


def test_a_wrong_checksum_is_refused(tmp_path):
    packed = bytearray(gzip.compress(b"some text"))
    packed[-5] ^= 1
    with pytest.raises(UserError, match="cannot be read"):
        texts(write(tmp_path / "a.txt.gz", bytes(packed)))


def test_a_compression_bomb_is_refused(tmp_path):
    file = write(tmp_path / "a.jsonl.gz", gzip.compress(b" " * (80 << 20), compresslevel=9))
    with pytest.raises(UserError, match="200 times"):
        texts(file)


def test_one_object_or_a_list_in_json(tmp_path):
    assert texts(write(tmp_path / "one.json", '{"text": "only"}')) == ["only"]
    assert texts(write(tmp_path / "none.json", " [ ] ")) == []
    documents, _ = ingest(write(tmp_path / "two.json", '[\n {"text": "a"},\n {"text": "b"}\n]\n'))
    assert [document.source for document in documents] == ["two.json:2", "two.json:3"]


@pytest.mark.parametrize(
    "content", ["", "[1", '[{"text": "a"},]', '[{"text": "a"} {"text": "b"}]', '{"text": "a"} x', "[] 1", "[" * 100_000]
)
def test_broken_json_files_are_refused_whatever_the_policy(tmp_path, content):
    with pytest.raises(UserError, match=r"a\.json.* is not valid JSON"):
        texts(write(tmp_path / "a.json", content), on_bad="skip", max_bad=1)


def test_places_in_a_json_list_are_bytes_and_lines(tmp_path):
    content = '\ufeff[\n  {"text": "汉字"},\n  {"text": 5}\n]'
    _, report = ingest(write(tmp_path / "a.json", content), on_bad="skip", max_bad=1)
    [rejected] = report.first_rejected
    assert rejected.line == 3
    assert content.encode()[rejected.byte_offset :].startswith(b'{"text": 5}')


def test_csv_cells_may_hold_line_ends_and_be_long(tmp_path):
    long = "x" * 200_000
    file = write(tmp_path / "a.csv", f'id,text\n1,"two\r\nlines"\n2,{long}\n')
    documents, _ = ingest(file)
    assert [(document.text, document.source) for document in documents] == [
        ("two\r\nlines", "a.csv:2"),
        (long, "a.csv:4"),
    ]


def test_tsv_leaves_stray_quotes_alone(tmp_path):
    file = write(tmp_path / "a.tsv", 'text\tlabel\n"He left\t0\n"Whole"\t1\n5" wide\t2\n')
    assert texts(file) == ['"He left', '"Whole"', '5" wide']


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_newlines_end_a_record(tmp_path, separator):
    text = f"one{separator}two"
    line = json.dumps({"text": text}, ensure_ascii=False)
    assert texts(write(tmp_path / "a.jsonl", line + "\n" + line)) == [text, text]
    assert texts(write(tmp_path / "b.csv", f'text\n"{text}"\n')) == [text]
    assert texts(write(tmp_path / "c.tsv", f"text\n{text}\n")) == [text]


def test_blank_lines_and_blank_texts_are_empty(tmp_path):
    write(tmp_path / "a.jsonl", '\n{"text": " \\n"}\n  \r\n{"text": "x"}\n')
    write(tmp_path / "b.csv", "text\n\nx\n   \n")
    write(tmp_path / "c.txt", "")
    write(tmp_path / "d.txt", b"\xef\xbb\xbf")
    documents, report = ingest(tmp_path)
    assert len(documents) == 2
    assert (report.files, report.lines, report.empty) == (4, 7, 5)
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


# Bad records


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a\xff"}', "0xff is not valid UTF-8"),
        (b'{"text": "a\xc0\xaf"}', "0xc0 is not valid UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "a"', "not one JSON object"),
        (b'{"text": "a"} {"text": "b"}', "not one JSON object"),
        (b"{'text': 'a'}", "not one JSON object"),
        (b'{"text": "a", "text": "b"}', "repeated"),
        (b'{"text": "a", "n": NaN}', "NaN"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"text": ' + b"[" * 100_000 + b"}", "nested too deeply"),
        (b'["a"]', "object is needed, not list"),
        (b"null", "object is needed, not null"),
        (b"{}", "column"),
        (b'{"txet": "a"}', "Did you mean 'txet'"),
        (b'{"text": null}', "holds null"),
        (b'{"text": 5}', "holds int"),
        (b'{"text": {"text": "a"}}', "holds dict"),
        (b'\xef\xbb\xbf{"text": "a"}', "not one JSON object"),
    ],
)
def test_a_bad_line_stops_with_its_place_or_is_skipped(tmp_path, line, reason):
    good = b'{"text": "good"}\n'
    file = write(tmp_path / "a.jsonl", good + line + b"\n" + good)
    with pytest.raises(UserError, match=reason) as caught:
        texts(file)
    assert f"{file}, line 2, byte " in str(caught.value)
    documents, report = ingest(file, on_bad="skip", max_bad=0.5)
    assert [document.text for document in documents] == ["good", "good"]
    [rejected] = report.first_rejected
    assert rejected.line == 2
    assert len(good) <= rejected.byte_offset < len(good) + len(line)
    assert reason in rejected.reason


def test_the_byte_offset_is_that_of_the_broken_byte(tmp_path):
    for name, head in [
        ("a.txt", "汉字\n"),
        ("b.jsonl", '{"text": "汉字"}\n{"text": "汉'),
        ("c.csv", 'text\n"汉\n字'),
        ("d.tsv", "text\n汉字\n汉"),
    ]:
        file = write(tmp_path / name, b"\xef\xbb\xbf" + head.encode() + b'\xff"}\n')
        with pytest.raises(UserError, match=f"line {head.count(chr(10)) + 1}, byte {3 + len(head.encode())}:"):
            texts(file)


def test_replace_mends_characters_and_skips_what_it_cannot_mend(tmp_path):
    write(
        tmp_path / "a.jsonl",
        b'{"text": "a\xffb"}\n{"text": "\\uD800c"}\n{"text": "\\ud83d\\ude00 \\udc00"}\n{"text": "d"\n',
    )
    write(tmp_path / "b.txt", b"e\xfff")
    write(tmp_path / "c.csv", b"text\n" + b"x\n" * 3000 + b"g\0h\n")
    write(tmp_path / "d.json", b'[{"text": "i\xff"}, {"text": "sound"}]')
    documents, report = ingest(tmp_path, on_bad="replace", max_bad=0.1)
    found = [document.text for document in documents if document.text != "x"]
    assert found == ["a\ufffdb", "\ufffdc", "\U0001f600 \ufffd", "e\ufffdf", "g\ufffdh", "i\ufffd", "sound"]
    assert (report.replaced, report.rejected) == (6, 1)


def test_bad_records_beyond_the_allowed_share_stop(tmp_path):
    lines = [b'{"text": "good"}\n'] * 5000
    lines[2000] = lines[2001] = lines[2002] = b"bad\n"
    file = write(tmp_path / "a.jsonl", b"".join(lines))
    read = []
    with pytest.raises(UserError, match=r"3 of 2,003 lines are bad \(0\.15%\).*line 2001, byte"):
        read.extend(read_documents(file, on_bad="skip"))
    assert len(read) == 2000
    assert len(texts(file, on_bad="skip", max_bad=0.002)) == 4997


def test_mended_records_count_as_bad(tmp_path):
    file = write(tmp_path / "a.jsonl", b'{"text": "a\xff"}\n{"text": "b"}\n')
    with pytest.raises(UserError, match="1 of 2 lines are bad"):
        texts(file, on_bad="replace", max_bad=0.4)
    sound = b'{"text": "b"}\n' * 1000
    many = write(tmp_path / "b.jsonl", sound + b'{"text": "a\xff"}\n{"text": "a\xff"}\n' + sound)
    with pytest.raises(UserError, match="2 of 1,002 lines are bad"):
        texts(many, on_bad="replace")


def test_a_small_file_is_judged_at_its_end(tmp_path):
    file = write(tmp_path / "a.jsonl", 'bad\n{"text": "x"}\n')
    stream = read_documents(file, on_bad="skip")
    assert next(stream).text == "x"
    with pytest.raises(UserError, match="1 of 2 lines are bad"):
        next(stream)


def test_the_report_lists_twenty_and_counts_all(tmp_path):
    _, report = ingest(write(tmp_path / "a.jsonl", "bad\n" * 30), on_bad="skip", max_bad=1)
    assert (report.lines, report.rejected, len(report.first_rejected)) == (30, 30, 20)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["first_rejected"][1] == {
        "file": str(tmp_path / "a.jsonl"),
        "line": 2,
        "byte_offset": 4,
        "reason": "not one JSON object on one line: Expecting value at column 1",
    }


def test_csv_rows_of_the_wrong_length_and_open_quotes(tmp_path):
    file = write(tmp_path / "a.csv", 'text,label\nshort\nlong,1,2\nfine,1\n"open,1\nlost,2\nlost,3\n')
    documents, report = ingest(file, on_bad="skip", max_bad=1)
    assert [document.text for document in documents] == ["fine"]
    assert (report.lines, report.rejected) == (6, 5)  # the open quote takes three lines and all three are counted
    assert [rejected.line for rejected in report.first_rejected] == [2, 3, 5]
    assert "1 cells, where the header has 2" in report.first_rejected[0].reason


def test_a_quote_left_open_to_the_end_is_no_cell(tmp_path):
    with pytest.raises(UserError, match=r"line 3, byte 7: not a CSV row: unexpected end of data"):
        texts(write(tmp_path / "a.csv", 'text\nx\n"open\nlost\n'))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "names the columns"), ("\n", "names the columns"), ("text,text\na,b\n", "twice"), (b"te\xffxt\na\n", "0xff")],
)
def test_a_table_needs_a_header(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        texts(write(tmp_path / "a.csv", content), on_bad="skip", max_bad=1)


def test_a_missing_column_lists_those_there_are(tmp_path):
    file = write(tmp_path / "a.csv", "body,title\nx,y\n")
    with pytest.raises(UserError, match="unknown column 'text'; legal: body, title"):
        texts(file)
    with pytest.raises(UserError, match="unknown column 'label'") as caught:
        list(read_records(file, columns=["body", "label"]))
    assert str(caught.value).endswith("; rename a column of the file to the one that is needed")


def test_a_bad_example_is_mended_in_its_file(tmp_path):
    with pytest.raises(UserError, match=r"; mend it, or take it out of the file$"):
        list(read_records(write(tmp_path / "a.jsonl", '{"text": 5')))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("text".encode("utf-16"), "UTF-16 file"),
        ("text".encode("utf-32"), "UTF-32 file"),
        ("plain".encode("utf-16-le"), "UTF-16 file without its mark"),
        ("plain".encode("utf-16-be"), "UTF-16 file without its mark"),
        ("plain text".encode("utf-32-le"), "UTF-32 file without its mark"),
        ("plain text".encode("utf-32-be"), "UTF-32 file without its mark"),
        ("中文".encode("utf-16"), "UTF-16 file"),
        (b"GIF\0\1", "binary file"),
        (bytes(range(64)) * 3 + bytes(99), "binary file"),
        (gzip.compress(b"x", mtime=0), r"holds \.gz data"),
        (bz2.compress(b"x"), r"holds \.bz2 data"),
        (bz2.compress(b""), r"holds \.bz2 data"),
        (lzma.compress(b"x"), r"holds \.xz data"),
        (b"PK\x03\x04\x14\0", r"holds \.zip data"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json", "a.txt.gz"])
def test_files_that_are_not_utf8_text_are_named(tmp_path, name, content, kind):
    packed = gzip.compress(content) if name.endswith(".gz") else content
    with pytest.raises(UserError, match=kind):
        texts(write(tmp_path / name, packed), on_bad="skip", max_bad=1)


def test_a_stray_nul_is_a_bad_line_and_not_a_binary_file(tmp_path):
    file = write(tmp_path / "a.jsonl", b'{"text": "some text"}\n{"text": "a\0b"}\n')
    assert texts(file, on_bad="skip", max_bad=0.5) == ["some text"]


@pytest.mark.parametrize(
    ("line", "guess"),
    [
        ("un café noir".encode("latin-1"), "Latin-1"),
        ("the user\u2019s own".encode("cp1252"), "Latin-1"),
        ("自然语言处理，很有用。".encode("gbk"), "GBK"),
        ("自然语言处理".encode() + b"\xff" + "很有用".encode(), "valid UTF-8; mend"),
        (b"a \xff b", "valid UTF-8; mend"),
    ],
)
def test_a_broken_line_is_told_what_it_looks_like(tmp_path, line, guess):
    with pytest.raises(UserError, match=guess):
        texts(write(tmp_path / "a.txt", line + b"\n"))


def test_wrong_options_are_refused_at_the_call(tmp_path):
    file = write(tmp_path / "a.txt", "x")
    with pytest.raises(UserError, match="legal: error, replace, skip"):
        read_documents(file, on_bad="ignore")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="share from 0 to 1"):
        read_documents(file, max_bad=5)


# Paths


def test_folders_are_read_to_the_bottom_in_a_fixed_order(tmp_path, notes):
    for name in [
        "b.txt",
        "a/z.txt",
        "a/b/c.txt",
        "a-b.txt",
        ".hidden.txt",
        ".git/x.txt",
        "a/picture.PNG",
        "LICENSE",
        "x.tar.gz",
    ]:
        write(tmp_path / "corpus" / name, name)
    documents, report = ingest(tmp_path / "corpus")
    assert [document.source for document in documents] == [
        "corpus/a/b/c.txt",
        "corpus/a/z.txt",
        "corpus/a-b.txt",
        "corpus/b.txt",
    ]
    assert report.skipped_files == {".png": 1, "no suffix": 1, ".tar.gz": 1}
    assert len(notes) == 1
    assert ".png (1)" in notes[0]


def test_sources_do_not_depend_on_where_the_folder_is(tmp_path, monkeypatch):
    write(tmp_path / "corpus" / "a.txt", "x")
    monkeypatch.chdir(tmp_path / "corpus")
    for path in [".", tmp_path / "corpus", "../corpus"]:
        assert next(read_documents(path)).source == "corpus/a.txt"


def test_a_folder_with_nothing_to_read_lists_what_could_be(tmp_path):
    write(tmp_path / "a.pdf", "x")
    with pytest.raises(UserError, match=r"\.pdf \(1\).*\.csv, \.json, \.jsonl, \.md"):
        read_documents(tmp_path)
    write(tmp_path / "a.txt", "x")
    with pytest.raises(UserError, match=r"end in \.arrow, \.csv, \.json, \.jsonl, \.ndjson, \.parquet, \.tsv,"):
        read_records(tmp_path)


@pytest.mark.parametrize("name", ["missing.txt", "", "a\0b.txt"])
def test_a_missing_path_is_refused_at_the_call(tmp_path, name):
    with pytest.raises(UserError, match=r"does not exist|cannot be read|no file to read|holds no files"):
        read_documents(tmp_path / name)


def test_no_path_is_refused():
    with pytest.raises(UserError, match="no file or folder"):
        read_documents([])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.zip", "unzip"),
        ("a.tar", "tar -xf"),
        ("a.tar.gz", "tar -xf"),
        ("a.tgz", "tar -xf"),
        ("a.parquet.gz", "unpack the .gz"),
        ("a.txt.gz.gz", "suffix"),
        ("a.docx", "suffix"),
    ],
)
def test_other_suffixes_are_refused_with_a_remedy(tmp_path, name, remedy):
    with pytest.raises(UserError, match=remedy):
        read_documents(write(tmp_path / name, "x"))


def test_pipes_sockets_and_dangling_links_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="pipe, socket or device"):
        read_documents(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="pipe, socket or device"):
        read_documents(tmp_path)
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.txt")
        with pytest.raises(UserError, match="pipe, socket or device"):
            read_documents("s.txt")
    (tmp_path / "link.txt").symlink_to("nowhere")
    with pytest.raises(UserError, match="link to nothing"):
        read_documents("link.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_without_permission_is_refused(tmp_path):
    file = write(tmp_path / "in" / "a.txt", "x")
    for path in (file, file.parent):
        path.chmod(0)
        with pytest.raises(UserError, match="cannot be read"):
            texts(tmp_path)
        path.chmod(0o700)


def test_links_to_folders_are_not_followed_and_links_to_files_are(tmp_path, notes):
    write(tmp_path / "corpus" / "sub" / "a.txt", "x")
    write(tmp_path / "other.txt", "other")
    (tmp_path / "corpus" / "sub" / "loop").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "link.txt").symlink_to(tmp_path / "other.txt")
    assert texts(tmp_path / "corpus") == ["other", "x"]
    assert "loop is a link to a folder" in notes[0]


def test_a_file_given_twice_is_read_once(tmp_path, notes):
    file = write(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").symlink_to(file)
    os.link(file, tmp_path / "c.txt")
    assert texts([tmp_path, file, str(file)]) == ["x"]
    assert len(notes) == 4


def test_different_files_of_one_name_are_both_read(tmp_path):
    assert texts([write(tmp_path / "x" / "a.txt", "1"), write(tmp_path / "y" / "a.txt", "2")]) == ["1", "2"]


@pytest.mark.parametrize("name", ["with space.txt", "line\nend.txt", "emoji 🙂.txt", "-o.txt"])
def test_odd_names(tmp_path, name):
    assert next(read_documents(write(tmp_path / name, "x"))).source == name


def test_reading_is_lazy(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"text": "x"}\n' * 500_000)
    report = IngestReport()
    next(read_documents(file, report=report))
    assert report.lines == 1
    assert report.bytes <= 1 << 20


# Laws


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.booleans())
def test_json_lines_give_back_what_was_written(tmp_path_factory, values, ascii_only):
    content = "".join(json.dumps({"text": value}, ensure_ascii=ascii_only) + "\n" for value in values)
    documents, report = ingest(write(tmp_path_factory.mktemp("law") / "a.jsonl", content))
    assert [document.text for document in documents] == [value for value in values if value.strip()]
    assert report.bytes == len(content.encode())


@given(st.binary(max_size=200), st.sampled_from(["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.json"]))
def test_any_bytes_are_read_or_refused_and_always_accounted_for(tmp_path_factory, content, name):
    file = write(tmp_path_factory.mktemp("law") / name, content)
    try:
        documents, report = ingest(file, on_bad="replace", max_bad=1)
    except UserError:
        return
    assert report.bytes == len(content)
    for document in documents:
        document.text.encode("utf-8")
