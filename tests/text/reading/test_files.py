import bz2
import gzip
import lzma
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zstandard

from bothways.errors import UserError
from bothways.text.reading.documents import FORMATS, IngestReport, read_documents
from bothways.text.reading.files import find_files

ZSTD = zstandard.ZstdCompressor(write_checksum=True)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(paths, **options) -> list[str]:
    return [document.text for document in read_documents(paths, **options)]


def names(paths) -> list[str]:
    return [file.name for file in find_files(paths, FORMATS)[0]]


# Globs


@pytest.fixture
def tree(tmp_path):
    for name in ["b.txt", "a.txt", "x/c.txt", "x/y/d.txt", "x/y/e.md", "x/.hidden/f.txt", "x/picture.png", "z/g.jsonl"]:
        write(tmp_path / "corpus" / name, '{"text": "t"}\n')
    return tmp_path / "corpus"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[b-z].txt", ["b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "x/c.txt", "x/y/d.txt"]),
        ("x/**", ["x/c.txt", "x/y/d.txt", "x/y/e.md"]),
        ("**/y/*", ["x/y/d.txt", "x/y/e.md"]),
        ("*/y", ["x/y/d.txt", "x/y/e.md"]),
        ("*/c.*", ["x/c.txt"]),
        ("*", ["a.txt", "b.txt", "x/c.txt", "x/y/d.txt", "x/y/e.md", "z/g.jsonl"]),
    ],
)
def test_globs_give_files_in_a_fixed_order(tree, monkeypatch, pattern, found):
    names_there = names(tree / pattern)
    assert [name.removeprefix("corpus/").removeprefix("x/") for name in names_there] == [
        name.removeprefix("x/") for name in found
    ]
    monkeypatch.chdir(tree)
    assert [Path(name).name for name in names(pattern)] == [Path(name).name for name in found]


def test_a_glob_that_matches_nothing_to_read_is_refused(tree):
    for pattern in ("*.pdf", "nowhere/*.txt", "nowhere/**/*.txt", "**/*.pdf"):
        with pytest.raises(UserError, match="matches no file"):
            find_files(tree / pattern, FORMATS)
    with pytest.raises(UserError, match=r"matches \.png \(1\): nothing to read"):
        find_files(tree / "x/*.png", FORMATS)


def test_what_a_glob_matches_but_nobody_reads_is_counted(tree):
    assert find_files(tree / "x" / "*", FORMATS)[1] == {".png": 1}


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    write(tmp_path / "a[1].txt", "x")
    write(tmp_path / "a1.txt", "y")
    assert names(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_deep_globs_do_not_follow_links_in_circles(tree):
    (tree / "x" / "loop").symlink_to(tree)
    assert len(names(tree / "**" / "*.txt")) == 4


def test_files_given_by_glob_folder_and_name_are_read_once(tree):
    assert len(names([tree, tree / "*.txt", tree / "a.txt"])) == 6


def test_a_name_that_is_not_utf8_can_be_written(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "wb") as out:
        out.write(b'{"text": "x"}\nbad\n')
    report = IngestReport()
    [document] = read_documents(tmp_path, on_bad="skip", max_bad=1, report=report)
    assert document.source.endswith("/caf\\xe9.jsonl:1")
    assert report.first_rejected[0].file.encode().endswith(b"/caf\\xe9.jsonl")


# Data set cards


def test_a_card_beside_records_is_no_document(tmp_path):
    for name in ["README.md", "LICENSE.txt", "data/eltec.README.txt", "data/README", "dataset_infos.json", "notes.md"]:
        write(tmp_path / "set" / name, "card")
    write(tmp_path / "set" / "data" / "train.jsonl", '{"text": "t"}\n')
    files, skipped = find_files(tmp_path / "set", FORMATS)
    assert [file.name for file in files] == ["set/data/train.jsonl", "set/notes.md"]
    assert skipped == {"data set card": 4, "no suffix": 1}


def test_a_readme_among_texts_is_a_document(tmp_path):
    write(tmp_path / "docs" / "README.md", "x")
    write(tmp_path / "docs" / "a.md", "x")
    write(tmp_path / "docs" / "other" / "a.jsonl", "")
    write(tmp_path / "docs" / "sub" / "README.md", "x")
    assert names(tmp_path / "docs") == ["docs/a.md", "docs/other/a.jsonl", "docs/sub/README.md"]
    assert names(tmp_path / "docs" / "README.md") == ["README.md"]


# Packed files


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": ZSTD.compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_members_follow_each_other(tmp_path, suffix):
    pack = PACKERS[suffix]
    report = IngestReport()
    file = write(tmp_path / f"a.txt{suffix}", b"".join(pack(word) for word in (b"one ", b"", b"two ", b"three")))
    assert texts(file, report=report) == ["one two three"]
    assert (report.bytes, report.compressed_bytes) == (13, file.stat().st_size)


@pytest.mark.parametrize("suffix", PACKERS)
def test_large_content_comes_back_whole(tmp_path, suffix):
    content = (
        b"".join(b'{"text": "%d"}\n' % (number * number) for number in range(100_000))
        + b'{"text": "'
        + b"x" * 3_000_000
        + b'"}'
    )
    report = IngestReport()
    found = texts(write(tmp_path / f"a.jsonl{suffix}", PACKERS[suffix](content)), report=report)
    assert len(found) == 100_001
    assert len(found[-1]) == 3_000_000
    assert report.bytes == len(content)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[: len(packed) // 2], "cut off"),
        (lambda packed: packed[:-1], "cut off"),
        (lambda packed: packed[:11], "cut off"),
        (lambda packed: packed + b"junk", "not packed follows"),
        (lambda packed: packed + b"much more junk than that", "not packed follows"),
        (lambda _: b"", "not packed as"),
        (lambda _: b"plain text, as long as it may be\n", "not packed as"),
        (
            lambda packed: packed[: len(packed) // 2] + bytes(8) + packed[len(packed) // 2 + 8 :],
            "damaged|checksum|Corrupt|corrupt",
        ),
    ],
)
def test_damaged_packed_files_are_refused_in_one_sentence(tmp_path, suffix, damage, message):
    content = b"".join(b"%d " % (number * number) for number in range(20_000))
    file = write(tmp_path / f"a.txt{suffix}", damage(PACKERS[suffix](content)))
    with pytest.raises(UserError, match=message) as caught:
        texts(file, on_bad="skip", max_bad=1)
    assert f"{str(file)!r} cannot be read as {suffix}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_wrong_checksum_is_noticed(tmp_path, suffix):
    packed = bytearray(PACKERS[suffix](b"some text to be packed"))
    place = -3 if suffix == ".zst" else -6 if suffix == ".gz" else len(packed) // 2
    packed[place] ^= 1
    with pytest.raises(UserError, match=r"cannot be read as"):
        texts(write(tmp_path / f"a.txt{suffix}", bytes(packed)))


def test_zero_bytes_may_pad_gz_and_xz(tmp_path):
    for suffix in (".gz", ".xz"):
        assert texts(
            write(tmp_path / f"a.txt{suffix}", PACKERS[suffix](b"x") + bytes(512) + PACKERS[suffix](b"y") + bytes(8))
        ) == ["xy"]


def test_skippable_frames_of_zst_are_skipped(tmp_path):
    skippable = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"
    file = write(
        tmp_path / "a.txt.zst", skippable + ZSTD.compress(b"one") + skippable + ZSTD.compress(b" two") + skippable
    )
    assert texts(file) == ["one two"]
    with pytest.raises(UserError, match="cut off"):
        texts(write(tmp_path / "b.txt.zst", ZSTD.compress(b"one") + skippable[:-2]))


def test_zst_that_needs_much_memory_or_a_dictionary_says_so(tmp_path):
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(UserError, match="--long=31"):
        texts(write(tmp_path / "a.txt.zst", packer.compress(b"some text") + packer.flush()))
    packed = zstandard.ZstdCompressor(
        dict_data=zstandard.train_dictionary(400, [b"word %d and more" % n for n in range(400)])
    ).compress(b"word 12")
    with pytest.raises(UserError, match="zstd -d -D DICTIONARY"):
        texts(write(tmp_path / "b.txt.zst", packed))


def test_xz_that_needs_much_memory_says_so(tmp_path):
    small = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}
    packed = bytearray(lzma.compress(b"x", filters=[small]))
    place = packed.index(b"\x21\x01", 12) + 2
    packed[place] = 36  # the size of the dictionary: 1 GiB
    header = packed[12 : 12 + (packed[12] + 1) * 4 - 4]
    packed[12 + len(header) : 12 + len(header) + 4] = struct.pack("<I", zlib.crc32(header))
    with pytest.raises(UserError, match="xz -d"):
        texts(write(tmp_path / "a.txt.xz", bytes(packed)))


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_packed_twice_is_named(tmp_path, suffix):
    packed = PACKERS[suffix](PACKERS[suffix](b"text" * 100))
    with pytest.raises(UserError, match=f"holds {suffix} data, which its name does not say"):
        texts(write(tmp_path / f"a.txt{suffix}", packed))


READ = r"""
import re, sys
from bothways.errors import UserError
from bothways.text.reading.documents import IngestReport, read_documents
report = IngestReport()
try:
    for document in read_documents(sys.argv[1], on_bad=sys.argv[2], max_bad=1, report=report):
        pass
except UserError as error:
    print(error)
print(report.lines, report.kept, report.empty, report.rejected, report.bytes, report.documents)
print(report.first_rejected)
print("MiB", int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) >> 10)
"""


# VmHWM and not ru_maxrss, in which the process that started this one counts.
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def read_alone(path: Path, on_bad: str = "error", most_mib: int = 500) -> list[str]:
    """Read in a process of its own, which is given so much address space, and return what it says."""
    space = 1200 << 20
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), on_bad],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (space, space)),
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert int(said[-1].removeprefix("MiB ")) < most_mib
    return said


@needs_proc
@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("unit", [pytest.param(b"\n", marks=pytest.mark.slow), b"x"], ids=["newlines", "one line"])
def test_a_bomb_is_refused_in_little_memory(tmp_path, suffix, unit):
    packed = PACKERS[suffix](unit * (80 << 20))
    name = f"a.txt{suffix}" if unit == b"\n" else f"a.jsonl{suffix}"
    said = read_alone(write(tmp_path / name, packed), "skip", most_mib=200)
    assert "unpacks to over 200 times its size" in said[0]


# Changes


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 2_000_000),
        lambda path: path.open("ab").write(b'{"text": "new"}\n'),
        lambda path: path.open("r+b").write(b'{"text": "X"}\n'),
        lambda path: os.truncate(path, 0),
    ],
    ids=["cut", "longer", "edited", "emptied"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, name, change):
    file = write(tmp_path / name, "text\n" + '{"text": "x"}\n' * 200_000)
    stream = read_documents(file, on_bad="skip", max_bad=1)
    next(stream)
    change(file)
    with pytest.raises(UserError, match=r"was changed while it was being read") as caught:
        list(stream)
    assert str(file) in str(caught.value)


def test_a_file_that_changes_between_finding_and_reading_is_refused(tmp_path):
    file = write(tmp_path / "a.txt", "one\n")
    stream = read_documents(file)
    write(file, "one\ntwo\n")
    with pytest.raises(UserError, match="was changed"):
        list(stream)


# Size


@needs_proc
def test_a_million_lines_of_one_character(tmp_path):
    file = write(tmp_path / "a.txt", "x\n" * 1_000_000)
    said = read_alone(file, most_mib=120)
    assert said[0] == "1000000 1000000 0 0 2000000 20"


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv", "a.tsv"])
def test_a_line_of_a_gigabyte_is_passed_over(tmp_path, name):
    first, last = b"text\n", b'\n{"text": "last"}\n'
    file = tmp_path / name
    with file.open("wb") as out:
        out.write(first)
        for _ in range(1000):
            out.write(b"x" * (1 << 20))
        out.write(last)
    said = read_alone(file, "skip", most_mib=300)
    assert "a line of 1,048,576,001 bytes is over the 16 MiB" in said[1]
    assert "line=2, byte_offset=5" in said[1]
    assert said[0].split()[4] == str(file.stat().st_size)


@needs_proc
@pytest.mark.slow
def test_twenty_thousand_files(tmp_path):
    for number in range(20_000):
        write(tmp_path / "corpus" / f"{number % 100}" / f"{number}.txt", f"text {number}\n")
    assert read_alone(tmp_path / "corpus", most_mib=150)[0].startswith("20000 20000 0 0")
