import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from bothways.errors import DamagedFileError, UserError
from bothways.text.shards import EncodedDocument, Shards, ShardWriter, describe, gather, write_manifest


def document(*sentences, num_bytes=0, words=None):
    ids = np.array([token for sentence in sentences for token in sentence], dtype=np.int64)
    return EncodedDocument(
        input_ids=ids,
        sentence_starts=np.cumsum([0, *map(len, sentences[:-1])]),
        num_bytes=num_bytes,
        word_starts=None if words is None else np.array(words, dtype=bool),
    )


DOCUMENTS = [
    document([1, 2, 3], [4], [5, 6], num_bytes=20),
    document([7], num_bytes=3),
    document([8, 9], [65_535, 0], num_bytes=400),
]


def write(folder, *, vocab_size=65_536, splits=("train", "validation"), documents=DOCUMENTS, shard_tokens=2**20):
    folder.mkdir()
    files = {}
    for split in splits:
        with ShardWriter(folder, split, vocab_size=vocab_size, shard_tokens=shard_tokens) as writer:
            for each in documents:
                writer.write(each)
        files |= writer.files
    (folder / "tokenizer.json").write_text('{"some": "file"}')
    write_manifest(folder, {"vocab_size": vocab_size, "splits": {split: {} for split in splits}}, files)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "data")


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_what_is_written_is_read_back(tmp_path, vocab_size, dtype):
    largest = vocab_size - 1
    documents = [*DOCUMENTS, document([largest, 10], [11], num_bytes=7)]
    corpus = Shards(write(tmp_path / "data", vocab_size=vocab_size, documents=documents)).corpus("train")
    assert corpus.shards[0].input_ids.dtype == dtype
    assert (len(corpus), corpus.num_tokens, corpus.num_bytes) == (4, 14, 430)
    assert corpus.document(0).tolist() == [1, 2, 3, 4, 5, 6]
    assert corpus.document(3).tolist() == [largest, 10, 11]
    assert corpus.document(0).dtype == np.int64
    sentences = [[part.tolist() for part in corpus.document_sentences(index)] for index in range(4)]
    assert sentences == [[[1, 2, 3], [4], [5, 6]], [[7]], [[8, 9], [65_535, 0]], [[largest, 10], [11]]]
    assert corpus.document_bytes.tolist() == [20, 3, 400, 7]


@pytest.mark.parametrize(
    ("sentence", "tokens", "expected"),
    [
        (0, -3, [1, 2, 3]),
        (0, 1, [1, 2, 3]),
        (0, 3, [1, 2, 3]),
        (0, 4, [1, 2, 3, 4]),
        (0, 99, [1, 2, 3, 4, 5, 6]),
        (1, 2, [4, 5, 6]),
        (2, 1, [5, 6]),
        (2, 99, [5, 6]),
    ],
)
def test_a_document_is_read_from_a_sentence_on(folder, sentence, tokens, expected):
    corpus = Shards(folder).corpus("train")
    assert corpus.num_sentences(0) == 3
    found = corpus.document_from(0, sentence, tokens)
    assert (found.tolist(), found.dtype) == (expected, np.int64)


def test_a_corpus_is_not_read_into_memory(folder):
    (shard,) = Shards(folder).corpus("train").shards
    for part in (shard.input_ids, shard.sentences, shard.documents, shard.document_bytes):
        assert isinstance(part, np.memmap)


def test_gather_leaves_out_documents_without_a_token():
    empty = EncodedDocument(input_ids=np.zeros(0, int), sentence_starts=np.zeros(0, int), num_bytes=0)
    corpus = gather([empty, DOCUMENTS[1], empty, DOCUMENTS[0], empty])
    assert [corpus.document(index).tolist() for index in range(len(corpus))] == [[7], [1, 2, 3, 4, 5, 6]]
    assert len(gather([empty])) == 0
    assert gather([]).num_tokens == 0


WORDY = [
    document([1, 2, 3], [4], [5, 6], num_bytes=20, words=[1, 0, 1, 1, 1, 0]),
    document([7], num_bytes=3, words=[1]),
    document([8, 9], [10, 11, 12, 13], num_bytes=40, words=[1, 0, 0, 1, 0, 1]),
]


@pytest.mark.parametrize("shard_tokens", [1, 6, 7, 8, 100])
@pytest.mark.parametrize("documents", [DOCUMENTS, WORDY])
def test_a_split_of_many_shards_reads_like_one_of_one(tmp_path, shard_tokens, documents):
    corpus = Shards(write(tmp_path / "data", documents=documents, shard_tokens=shard_tokens)).corpus("train")
    whole = gather(documents)
    assert len(corpus.shards) == {1: 3, 6: 2, 7: 2, 8: 1, 100: 1}[shard_tokens]
    assert (len(corpus), corpus.num_tokens, corpus.num_bytes) == (3, whole.num_tokens, whole.num_bytes)
    assert corpus.document_bytes.tolist() == [each.num_bytes for each in documents]
    assert corpus.document_tokens.tolist() == [len(each.input_ids) for each in documents]
    for index, each in enumerate(documents):
        assert corpus.document(index).tolist() == each.input_ids.tolist()
        assert corpus.num_sentences(index) == len(each.sentence_starts)
        for sentence in range(len(each.sentence_starts)):
            found, words = corpus.document_from(index, sentence, 2), corpus.word_starts_from(index, sentence, 2)
            assert found.tolist() == whole.document_from(index, sentence, 2).tolist()
            start = each.sentence_starts[sentence]
            if each.word_starts is None:
                assert words is corpus.document_word_starts(index) is None
            else:
                assert words.tolist() == each.word_starts[start : start + len(found)].tolist()
                assert corpus.document_word_starts(index).tolist() == each.word_starts.tolist()


def test_the_writer_counts_and_hashes_what_it_writes(tmp_path):
    empty = EncodedDocument(input_ids=np.zeros(0, int), sentence_starts=np.zeros(0, int), num_bytes=9)
    with ShardWriter(tmp_path, "train", vocab_size=100, shard_tokens=6) as writer:
        for each in [empty, *WORDY, empty]:
            writer.write(each)
    assert writer.counts == {"documents": 3, "sentences": 6, "tokens": 13, "bytes": 63}
    assert sorted(writer.files) == sorted(file.name for file in tmp_path.iterdir())
    assert all(writer.files[file.name] == describe(file) for file in tmp_path.iterdir())


def test_no_documents_leave_no_file(tmp_path):
    with ShardWriter(tmp_path, "train", vocab_size=100) as writer:
        pass
    assert writer.files == {}
    assert list(tmp_path.iterdir()) == []


def flip(data, place, bit):
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00000.idx", "validation-00000.bin", "tokenizer.json"])
def test_every_flipped_bit_is_found(folder, name):
    file = folder / name
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(flip(whole, place, place % 8))
        with pytest.raises(DamagedFileError, match=r"is damaged: expected \d+ bytes with SHA-256"):
            Shards(folder)
    file.write_bytes(whole)
    assert Shards(folder).corpus("train").num_tokens == 11


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00000.idx", "tokenizer.json"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_cut_off_or_grown_is_found(folder, name, verify):
    file = folder / name
    whole = file.read_bytes()
    for data in (b"", whole[:1], whole[:-1], whole + b"\0"):
        file.write_bytes(data)
        with pytest.raises(DamagedFileError, match=f"{name}' is damaged"):
            Shards(folder, verify=verify)


def test_a_file_that_is_no_longer_there_is_found(folder):
    (folder / "train-00000.idx").unlink()
    with pytest.raises(DamagedFileError, match=r"train-00000.idx' is named in the manifest and is not there"):
        Shards(folder)


@pytest.mark.parametrize(
    "make", [lambda file, _: file.mkdir(), lambda file, other: file.symlink_to(other), lambda file, _: os.mkfifo(file)]
)
def test_only_a_plain_file_is_taken_for_one(folder, tmp_path, make):
    file = folder / "train-00000.bin"
    other = shutil.copy(file, tmp_path / "elsewhere.bin")
    file.unlink()
    make(file, other)
    with pytest.raises(DamagedFileError, match=r"train-00000.bin' is named in the manifest and is not there"):
        Shards(folder)


def test_two_files_in_each_others_place_are_found(folder):
    for name in ("train-00000.bin", "train-00000.idx"):
        (folder / name).rename(folder / f"{name}.old")
    (folder / "train-00000.bin.old").rename(folder / "train-00000.idx")
    (folder / "train-00000.idx.old").rename(folder / "train-00000.bin")
    with pytest.raises(DamagedFileError):
        Shards(folder)


def test_every_flipped_bit_in_the_manifest_is_found(folder):
    file = folder / "manifest.json"
    whole = file.read_bytes()
    for place in range(len(whole)):
        changed = flip(whole, place, place % 7)
        file.write_bytes(changed)
        try:
            same = json.loads(changed) == json.loads(whole)  # another white space says the same
        except ValueError:
            same = False
        if not same:
            with pytest.raises((UserError, DamagedFileError)):
                Shards(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"files": []},
        {"files": {"train-00000.bin": 3}},
        {"files": {"train-00000.bin": {"bytes": 3}}},
        {"files": {"train-00000.bin": None}},
        {"files": {}},
        {"splits": 3},
        {"fingerprint": None},
        {"fingerprint": "0" * 64},
    ],
)
def test_a_manifest_that_makes_no_sense_is_damaged(folder, values):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **values}))
    with pytest.raises(DamagedFileError, match=r"the manifest of .* is damaged; prepare the corpus again"):
        Shards(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/file", "..", "."])
def test_a_manifest_cannot_lead_out_of_its_folder(folder, tmp_path, name):
    (tmp_path / "outside").write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("x")
    manifest = json.loads((folder / "manifest.json").read_text())
    target = folder / name
    manifest["files"][name] = describe(target) if target.is_file() else {"bytes": 1, "sha256": "0" * 64}
    values = json.dumps({**manifest, "fingerprint": None}, sort_keys=True)
    manifest["fingerprint"] = hashlib.sha256(values.encode()).hexdigest()  # all is in order but the place
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="is named in the manifest and is not there"):
        Shards(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 1}', '{"version": "2"}'])
def test_another_version_is_told_from_damage(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="prepared by another version of bothways; prepare it again"):
        Shards(folder)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a prepared corpus; make one with: bothways prepare TEXT --out"):
        Shards(tmp_path)
    with pytest.raises(UserError, match="is not a prepared corpus"):
        Shards(tmp_path / "nowhere")


def test_a_split_that_is_not_there_is_named(folder):
    with pytest.raises(UserError, match="has no test split"):
        Shards(folder).corpus("test")


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the train split of .* is empty; give more text"):
        Shards(write(tmp_path / "data", documents=[])).corpus("train")


def test_the_fingerprint_changes_with_all_but_the_report_of_reading(tmp_path):
    first, same = write(tmp_path / "first"), write(tmp_path / "same")
    manifest = json.loads((same / "manifest.json").read_text())
    (same / "ingest_report.json").write_text('{"read": "elsewhere"}')
    details = {name: manifest[name] for name in ("vocab_size", "splits")}
    write_manifest(same, details, {})
    others = [write(tmp_path / "other", documents=DOCUMENTS[::-1]), write(tmp_path / "larger", vocab_size=60_000)]
    fingerprints = [Shards(folder).fingerprint for folder in (first, same, *others)]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
