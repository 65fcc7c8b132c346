import random

import pytest

from bothways.errors import DamagedFileError
from bothways.evaluation import training_overlap
from bothways.evaluation.training_overlap import (
    TRAINING_TEXTS,
    UNKNOWN,
    Seen,
    in_words,
    keep_training_texts,
    queries_in_collection,
    seen_in_training,
    texts,
)
from bothways.tasks.classification import Classification
from bothways.tasks.retrieval import Retrieval
from bothways.tasks.summarization import Summarization
from bothways.text.overlap.overlap import Found, OverlapReport


def sentence(rng, length=20):
    return " ".join(f"w{rng.randrange(3000)}" for _ in range(length))


@pytest.fixture
def examples():
    rng = random.Random(0)
    return [{"text": sentence(rng), "label": rng.choice(["good", "bad"]), "id": "7"} for _ in range(50)]


def sources(name, count):
    return [f"{name}:{number}" for number in range(1, count + 1)]


def keep(folder, task, examples):
    return keep_training_texts(
        folder, task, examples, sources=sources("train.csv", len(examples)), files=["data/train.csv"]
    )


def test_labels_and_columns_that_no_task_reads_are_no_texts():
    example = {"text": "a", "label": "b", "id": "c"}
    assert texts(Classification(), [example]) == [{"text": "a"}]
    assert set(texts(Summarization(), [{"text": "a", "summary": "b", "document": "c"}])[0]) >= {"summary"}


def test_a_run_knows_what_it_was_trained_on(tmp_path, examples):
    rng = random.Random(1)
    task = Classification()
    keep(tmp_path, task, examples)
    clean = [{"text": sentence(rng), "label": "good"} for _ in range(8)]
    near = {**examples[3], "text": examples[3]["text"].replace(examples[3]["text"].split()[6], "other")}
    cased = {**examples[4], "text": examples[4]["text"].upper()}
    tests = [*clean, near, cased]
    seen = seen_in_training(tmp_path, task, tests, sources=sources("test.csv", 10))
    assert seen.to_dict() == {"exact": 1, "ngram": 1, "near": 0, "share": 0.2, "of": 10, "train": ["data/train.csv"]}
    assert seen.found == 2
    assert [(each.test, each.train) for each in seen.report.examples] == [
        ("test.csv:9", "train.csv:4"),
        ("test.csv:10", "train.csv:5"),
    ]
    assert seen.note == ""
    [told] = seen.sentences()
    assert told == (
        "Overlap with the training files: 2 of 10 examples (20.0%: 1 the same, 1 13 words in a row); "
        "the first is test.csv:9, which train.csv:4 holds"
    )
    nothing = seen_in_training(tmp_path, task, clean, sources=sources("test.csv", 8))
    assert nothing.to_dict()["share"] == 0
    assert nothing.sentences() == ["Overlap with the training files: none of 8 examples"]


def test_a_shared_label_is_no_overlap(tmp_path):
    rng = random.Random(2)
    keep(tmp_path, Classification(), [{"text": sentence(rng), "label": "good"}])
    seen = seen_in_training(tmp_path, Classification(), [{"text": sentence(rng), "label": "good"}], sources=["t:1"])
    assert seen.found == 0


def test_of_another_folder_nothing_is_known(tmp_path, examples):
    seen = seen_in_training(tmp_path, Classification(), examples, sources=sources("t", 50))
    assert seen.report is seen.to_dict() is None
    assert seen.note == UNKNOWN
    assert seen.found == 0
    assert seen.sentences() == [f"Overlap with the training files: {UNKNOWN}"]


def test_of_too_many_words_the_files_alone_are_kept(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(training_overlap, "MOST_WORDS", 50 * 20)
    assert len(keep(tmp_path, Classification(), examples)) == 50
    assert seen_in_training(tmp_path, Classification(), examples, sources=sources("t", 50)).found == 50
    monkeypatch.setattr(training_overlap, "MOST_WORDS", 50 * 20 - 1)
    assert len(keep(tmp_path, Classification(), examples)) == 50  # the validation files are still compared with all
    seen = seen_in_training(tmp_path, Classification(), examples, sources=sources("t", 50))
    assert seen.to_dict() is None
    assert seen.files == ("data/train.csv",)
    assert "more than 999 words" in seen.note


def test_the_file_holds_no_text_and_is_the_same_each_time(tmp_path, examples):
    keep(tmp_path, Classification(), examples)
    first = (tmp_path / TRAINING_TEXTS).read_bytes()
    keep(tmp_path, Classification(), examples)
    assert (tmp_path / TRAINING_TEXTS).read_bytes() == first
    assert len(first) < 12 * 50 * 20


def test_a_damaged_file_is_refused(tmp_path, examples):
    (tmp_path / TRAINING_TEXTS).write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DamagedFileError, match=r"training_texts\.npz"):
        seen_in_training(tmp_path, Classification(), examples, sources=sources("t", 50))


def test_queries_that_stand_in_the_collection_as_they_are_are_flagged(tmp_path):
    rng = random.Random(3)
    pairs = [{"query": sentence(rng, 6), "document": sentence(rng, 50)} for _ in range(20)]
    assert queries_in_collection(pairs, sources("t", 20)).found == 0
    pairs[5]["document"] = pairs[5]["query"].upper() + "?"  # its own
    pairs[9]["document"] = pairs[2]["query"]  # another's
    pairs[11]["document"] += " " + pairs[11]["query"]  # a part of one
    found = queries_in_collection(pairs, sources("t", 20))
    assert (found.exact, found.found, found.of) == (2, 2, 20)
    assert [each.test for each in found.examples] == ["t:3", "t:6"]
    seen = seen_in_training(tmp_path, Retrieval(), pairs, sources=sources("t", 20))
    assert seen.found == 2
    assert seen.report is None
    assert seen.sentences()[1].startswith("2 of 20 queries stand in the collection as they are")
    assert queries_in_collection([{"text": "a"}], ["t:1"]) is None


def test_retrieval_examples_are_found_by_query_and_by_document(tmp_path):
    rng = random.Random(4)
    pairs = [{"query": sentence(rng, 6), "document": sentence(rng, 50)} for _ in range(20)]
    keep(tmp_path, Retrieval(), pairs)
    tests = [
        {"query": pairs[0]["query"], "document": sentence(rng, 50)},
        {"query": sentence(rng, 6), "document": pairs[1]["document"]},
        {"query": sentence(rng, 6), "document": pairs[2]["query"]},  # in another column
        {"query": sentence(rng, 6), "document": sentence(rng, 50)},
    ]
    assert seen_in_training(tmp_path, Retrieval(), tests, sources=sources("t", 4)).report.exact == 3


def test_kinds_that_do_not_occur_are_not_spoken_of():
    found = Found(test="t:1", train="r:2", kind="near", excerpt="")
    assert in_words(OverlapReport(of=1000, exact=0, ngram=0, near=1, examples=(found,))) == (
        "1 of 1,000 examples (0.1%: 1 all but one word); the first is t:1, which r:2 holds"
    )
    assert Seen(report=OverlapReport(of=3, exact=0, ngram=0, near=0)).found == 0
