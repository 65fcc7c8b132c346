import subprocess
import sys
from pathlib import Path

import pytest

from bothways.errors import UserError
from bothways.text.reading.accounting import IngestReport
from bothways.text.reading.documents import FORMATS, read_documents, read_records
from bothways.text.reading.files import find_files
from bothways.text.reading.parts import Account, divide, read_part

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def ingest(paths, **options):
    report = IngestReport()
    documents = list(read_documents(paths, report=report, **options))
    assert report.lines == report.kept + report.empty + report.rejected
    return documents, report


def parquet(path: Path, columns: dict, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def broken_texts() -> "pyarrow.Array":
    """Return the texts ``a``, ``b<0xff>`` and null."""
    offsets, data = pyarrow.array([0, 1, 3, 3], pyarrow.int32()), b"ab\xff"
    return pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [pyarrow.py_buffer(b"\x03"), offsets.buffers()[1], pyarrow.py_buffer(data)]
    )


# Parquet


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("group", [1, 1000])
def test_parquet_rows_are_documents(tmp_path, kind, group):
    texts = ["one", "NA", " ", "", "汉字\n" * 50, "a\0b", "one"]
    column = pyarrow.array(texts)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    file = parquet(tmp_path / "a.parquet", {"id": range(7), "text": column}, row_group_size=group)
    documents, report = ingest(file)
    assert [document.text for document in documents] == [text for text in texts if text.strip()]
    assert [document.source for document in documents][-1] == "a.parquet:7"
    assert (report.lines, report.empty, report.documents) == (7, 2, 5)
    assert report.bytes == report.compressed_bytes == file.stat().st_size
    assert next(read_records(file, columns=["id"])).values == {"id": 0, "text": "one"}


def test_parquet_rows_that_hold_no_text_are_rejected(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"text": ["a", None, "b"], "raw": [b"a", b"b", b"c"], "n": [1, 2, 3]})
    _, report = ingest(file, on_bad="skip", max_bad=1)
    assert report.rejected_by_reason == {"not text": 1}
    assert str(report.first_rejected[0]) == f"{file}, row 2: column 'text' holds null where text is needed"
    with pytest.raises(UserError, match="holds bytes where text is needed"):
        ingest(file, text_column="raw")
    with pytest.raises(UserError, match="unknown column 'txt'; legal: n, raw, text"):
        ingest(file, text_column="txt")


def test_parquet_texts_that_are_not_utf8_are_bad_rows(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"text": broken_texts()})
    documents, report = ingest(file, on_bad="skip", max_bad=1)
    assert [document.text for document in documents] == ["a"]
    assert report.rejected_by_reason == {"not UTF-8": 1, "not text": 1}
    documents, report = ingest(file, on_bad="replace", max_bad=1)
    assert [document.text for document in documents] == ["a", "b\ufffd"]
    assert (report.replaced, report.rejected) == (1, 1)


def test_a_parquet_text_over_the_limit_is_rejected(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"text": ["a", "x" * ((16 << 20) + 1), "x" * (16 << 20)]})
    documents, report = ingest(file, on_bad="skip", max_bad=1)
    assert [len(document.text) for document in documents] == [1, 16 << 20]
    assert report.rejected_by_reason == {"line too long": 1}


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda _: b"PAR1" + bytes(40), lambda _: b"", lambda _: b"no parquet"]
)
def test_damaged_parquet_is_refused_in_one_sentence(tmp_path, damage):
    file = parquet(tmp_path / "a.parquet", {"text": ["a"] * 100})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"a\.parquet' cannot be read") as caught:
        ingest(file, on_bad="skip", max_bad=1)
    assert "\n" not in str(caught.value)


def test_a_parquet_bomb_is_refused(tmp_path):
    texts = ["x" * 1_000_000 + str(number) for number in range(80)]
    file = parquet(tmp_path / "a.parquet", {"text": texts}, compression="zstd", use_dictionary=False)
    assert file.stat().st_size * 200 < 80_000_000
    with pytest.raises(UserError, match="unpacks to over 200 times its size"):
        ingest(file)


# Saved data sets


@pytest.fixture
def saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    train = datasets.Dataset.from_dict({"text": [f"text {number}" for number in range(2500)], "n": range(2500)})
    test = datasets.Dataset.from_dict({"text": ["held out", ""], "n": [1, 2]})
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(folder, num_shards={"train": 3, "test": 1})
    return folder


def test_a_saved_data_set_is_read_as_it_was_saved(saved):
    documents, report = ingest(saved)
    assert [document.text for document in documents] == ["held out", *(f"text {number}" for number in range(2500))]
    assert documents[0].source == "saved/test/data-00000-of-00001.arrow:1"
    assert (report.files, report.lines, report.empty) == (4, 2502, 1)
    assert report.bytes == sum(path.stat().st_size for path in saved.rglob("*.arrow"))
    assert report.skipped_files == {"data set card": 5}
    assert len(ingest(saved / "train")[0]) == 2500
    assert [record.values["n"] for record in read_records(saved / "test")] == [1, 2]


def test_only_the_files_that_a_saved_data_set_names_are_read(saved):
    leftover = saved / "train" / "cache-1234.arrow"
    leftover.write_bytes((saved / "train" / "data-00000-of-00003.arrow").read_bytes())
    (saved / "train" / "notes.txt").write_text("no part of it")
    assert len(ingest(saved / "train")[0]) == 2500


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("no json", "state.json is damaged"),
        ("[]", "state.json is damaged"),
        ('{"_data_files": [{"filename": "../../secret.arrow"}]}', "which is no .arrow file of this folder"),
        ('{"_data_files": [{"filename": "notes.txt"}]}', "which is no .arrow file of this folder"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "does not exist"),
    ],
)
def test_a_hostile_saved_data_set_is_refused(saved, state, message):
    (saved / "train" / "state.json").write_text(state)
    with pytest.raises(UserError, match=message):
        find_files(saved / "train", FORMATS)


def test_a_damaged_arrow_file_is_refused(saved):
    file = saved / "test" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        ingest(saved)


def test_a_cloned_hub_folder_is_its_data(tmp_path):
    for split in ("train", "test"):
        parquet(tmp_path / "set" / "data" / f"{split}.parquet", {"text": [split]})
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n# A data set\n")
    (tmp_path / "set" / ".gitattributes").write_text("*.parquet filter=lfs\n")
    documents, report = ingest(tmp_path / "set")
    assert [document.text for document in documents] == ["test", "train"]
    assert report.skipped_files == {"data set card": 1}


def test_parts_of_published_data_add_up(saved, tmp_path):
    parquet(tmp_path / "b" / "a.parquet", {"text": ["a", None]})
    report = IngestReport()
    alone = list(read_documents([saved, tmp_path / "b"], on_bad="skip", max_bad=1, report=report))
    account, together = Account(1.0), []
    files, account.report.skipped_files = find_files([saved, tmp_path / "b"], FORMATS)
    for part in divide(files, 1000):
        own = IngestReport()
        together += read_part(part, report=own, on_bad="skip")
        account.add(part, own)
    assert together == alone
    assert account.finish() == report


# The hub


def test_a_name_on_the_hub_that_cannot_be_reached_says_so(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match="'someone/something' does not exist here, and as a data set on the Hugging Face"
    ):
        ingest("someone/something")


def test_a_local_path_is_never_taken_for_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for path in ("folder/missing", "other/missing.txt", "other/missing.jsonl.gz", "a/b/c", "missing", "/a/b"):
        with pytest.raises(UserError, match=f"{path!r} does not exist$"):
            read_documents(path)


def test_rows_of_the_hub_are_counted(monkeypatch):
    """Stands in for the network alone: the rows come from a real streaming data set."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["汉字", "", "b"]}).to_iterable_dataset()
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {"train": rows})
    documents, report = ingest("someone/something")
    assert [document.source for document in documents] == ["someone/something:1", "someone/something:3"]
    assert (report.files, report.lines, report.empty, report.bytes) == (1, 3, 1, 7)


# What is not installed

HIDDEN = """
import sys
for name in ("pyarrow", "datasets"):
    sys.modules[name] = None
from bothways.text.reading.documents import read_documents
try:
    next(read_documents(sys.argv[1]))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "someone/something"])
def test_a_missing_library_is_named(tmp_path, name):
    path = name if "/" in name else tmp_path / name
    if "/" not in name:
        path.write_bytes(b"PAR1")
    done = subprocess.run([sys.executable, "-c", HIDDEN, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("pip install 'bothways[data]'\n")


def test_reading_brings_along_nothing_heavy():
    script = "import sys, bothways.text.reading.parts; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "pyarrow", "datasets", "pandas", "zstandard"} & set(done.stdout.split())
    assert "bothways.text.reading.parts" in done.stdout.split()
