import io
import json
import random
import re
import sys

import pytest
from tokenizers import Tokenizer as Reference

import bothways
from bothways.errors import UserError
from bothways.text.cutting import cut
from bothways.text.shards import SPLITS, Shards

WORDS = re.findall(
    r"\w+",
    "the of and river stone house walked under quiet morning letter garden window answered slowly bright against "
    "captain letters winter evening forgotten people little beyond remember another voice nothing always before",
)


def make_text(seed, sentences=12):
    rng = random.Random(seed)
    made = [" ".join(rng.choices(WORDS, k=rng.randint(5, 14))).capitalize() + "." for _ in range(sentences)]
    return "\n\n".join(" ".join(made[at : at + 4]) for at in range(0, len(made), 4))


TEXTS = [make_text(seed) for seed in range(240)]


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def prepare(paths, out, **options):
    return bothways.prepare(paths, out=out, **{"vocab_size": 400, "workers": 1, **options})


def report(data):
    return json.loads((data.folder / "ingest_report.json").read_text("utf-8"))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def decoded(data, split="train"):
    tokenizer, corpus = Reference.from_file(str(data.folder / "tokenizer.json")), data.corpus(split)
    return [tokenizer.decode(corpus.document(index).tolist()) for index in range(len(corpus))]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_every_document_has_the_ids_that_its_tokenizer_gives(jsonl, tmp_path, kind):
    size = {"bpe": 400, "wordpiece": 160, "unigram": 410}[kind]
    data = prepare(jsonl, tmp_path / "data", tokenizer=kind, vocab_size=size)
    tokenizer = Reference.from_file(str(tmp_path / "data" / "tokenizer.json"))
    stored = [
        corpus.document(index).tolist()
        for corpus in (data.corpus("train"), data.corpus("validation"))
        for index in range(len(corpus))
    ]
    assert sorted(stored) == sorted(tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS)


def test_workers_and_a_pipe_change_nothing(jsonl, tmp_path, monkeypatch):
    settings = ["part_bytes=20000"]
    alone = prepare(jsonl, tmp_path / "alone", settings=settings)
    shared = prepare(jsonl, tmp_path / "shared", settings=settings, workers=3)
    assert contents(alone.folder) == contents(shared.folder)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(jsonl.read_bytes())))
    piped = prepare("-", tmp_path / "piped", settings=settings)
    assert decoded(piped) == decoded(alone)
    assert contents(piped.folder)["tokenizer.json"] == contents(alone.folder)["tokenizer.json"]
    assert {name: report(piped)[name] for name in ("lines", "kept", "bytes")} == {
        name: report(alone)[name] for name in ("lines", "kept", "bytes")
    }


def test_the_size_of_parts_changes_no_document(jsonl, tmp_path):
    small = prepare(jsonl, tmp_path / "small", settings=["part_bytes=5000"])
    large = prepare(jsonl, tmp_path / "large")
    files = contents(small.folder), contents(large.folder)
    assert files[0].keys() == files[1].keys()
    told = ("manifest.json", "ingest_report.json")  # settings, and places by byte where parts begin within a file
    assert [name for name in files[0] if files[0][name] != files[1][name] and name not in told] == []


def test_documents_keep_their_split_when_others_are_added(jsonl, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": make_text(1000 + seed)}) + "\n" for seed in range(100)))
    shares = {"validation_share": 0.2, "test_share": 0.1}
    before = prepare(jsonl, tmp_path / "before", **shares)
    after = prepare([more, jsonl], tmp_path / "after", tokenizer=tmp_path / "before", vocab_size=None, **shares)
    sides = {text: split for split in SPLITS for text in decoded(after, split)}
    assert len(sides) == 340
    for split in SPLITS:
        found = decoded(before, split)
        assert len(found) > 5
        assert all(sides[text] == split for text in found)


def test_copies_are_dropped_and_their_places_told(tmp_path):
    words = TEXTS[3].split(" ")
    near = " ".join([*words[:40], "another", *words[41:]])
    texts = [*TEXTS, TEXTS[5].upper(), near, *TEXTS[:3]]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = prepare(tmp_path / "t.jsonl", tmp_path / "data")
    found = report(data)["deduplication"]
    assert (found["exact"], found["near"], report(data)["duplicates"]) == (4, 1, 5)
    pairs = {(each["kind"], each["dropped"], each["original"]) for each in found["examples"]}
    assert ("exact", "t.jsonl:241", "t.jsonl:6") in pairs
    assert ("near", "t.jsonl:242", "t.jsonl:4") in pairs
    assert sorted(decoded(data) + decoded(data, "validation")) == sorted(TEXTS)
    both = prepare(
        tmp_path / "t.jsonl",
        tmp_path / "both",
        settings=["deduplication.near=false", "deduplication.exact=false"],
    )
    assert sum(split["documents"] for split in both.manifest["splits"].values()) == len(texts)


def test_documents_that_overlap_an_evaluation_are_left_out(jsonl, tmp_path):
    known = " ".join(TEXTS[7].split()[10:30]).lower()
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": known, "answer": "yes"}) + "\n")
    data = prepare(jsonl, tmp_path / "data", evaluation=tmp_path / "test.jsonl")
    found = report(data)["contamination"]
    assert (found["contaminated"], found["documents"]) == (1, 240)
    assert found["examples"][0]["document"] == "texts.jsonl:8"
    assert found["files"] == {"test.jsonl": 1}
    assert TEXTS[7] not in decoded(data) + decoded(data, "validation")
    counted = prepare(
        jsonl, tmp_path / "counted", evaluation=tmp_path / "test.jsonl", settings=["decontamination.action=count"]
    )
    assert report(counted)["contamination"]["contaminated"] == 1
    assert TEXTS[7] in decoded(counted) + decoded(counted, "validation")


@pytest.mark.parametrize("workers", [1, 2])
def test_boilerplate_is_removed_from_all_documents(tmp_path, workers):
    notice = "All rights are reserved by the publisher of this page."
    lines = (json.dumps({"text": f"{text}\n{notice}"}) + "\n" for text in TEXTS)
    (tmp_path / "t.jsonl").write_text("".join(lines))
    settings = ["cleaning.boilerplate_documents=50", "part_bytes=20000"]
    data = prepare(tmp_path / "t.jsonl", tmp_path / "data", settings=settings, workers=workers)
    assert sorted(decoded(data) + decoded(data, "validation")) == sorted(TEXTS)
    assert report(data)["cleaning"]["steps"]["boilerplate_documents"]["documents"] == 240


def test_one_text_is_cut_so_that_some_can_be_held_out(tmp_path):
    whole = "\n\n".join(TEXTS)
    (tmp_path / "novel.txt").write_text(whole)
    data = prepare(tmp_path / "novel.txt", tmp_path / "data")
    parts = decoded(data) + decoded(data, "validation")
    assert decoded(data, "validation")
    read = [large.rstrip() + "\n" * large.endswith("\n") for large in cut(whole)]  # as cleaning leaves them
    most = 2_000  # of so short a text, a hundredth would be less
    assert sum(map(len, read)) < 200_000
    assert sorted(parts) == sorted(piece for large in read for piece in cut(large, most))


def test_a_split_that_got_nothing_gets_the_last_documents(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:8]))
    data = prepare(tmp_path / "t.jsonl", tmp_path / "data", validation_share=1e-9, test_share=1e-9, vocab_size=300)
    assert decoded(data, "validation") == [TEXTS[7]]
    assert decoded(data, "test") == [TEXTS[6]]
    assert decoded(data) == TEXTS[:6]


def test_chinese_words_are_kept_where_the_tokenizer_is_berts(tmp_path):
    texts = [f"第{number}天，我们去北京大学旅游。天气很好！" for number in range(50)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = ["deduplication.near=false"]
    data = prepare(
        tmp_path / "t.jsonl",
        tmp_path / "data",
        tokenizer="wordpiece",
        vocab_size=60,
        settings=[*settings, "words=rjieba"],
    )
    corpus, tokenizer = data.corpus("train"), Reference.from_file(str(data.folder / "tokenizer.json"))
    pieces = [tokenizer.id_to_token(index) for index in corpus.document(0)]
    begun = zip(pieces, corpus.document_word_starts(0), strict=True)
    words = "".join((" " if begins else "") + piece for piece, begins in begun)
    assert " 我们 去 北京大学 旅游 。 天气 很 好 ！" in words.replace("##", "")
    assert data.manifest["language"] == "zh"
    assert data.manifest["words"].startswith("rjieba ")
    plain = prepare(
        tmp_path / "t.jsonl",
        tmp_path / "plain",
        tokenizer="wordpiece",
        vocab_size=60,
        settings=[*settings, "words=characters"],
    )
    assert plain.corpus("train").document_word_starts(0)[5:10].all()
    none = prepare(tmp_path / "t.jsonl", tmp_path / "none", vocab_size=300, settings=settings)
    assert none.corpus("train").document_word_starts(0) is None


def test_copies_change_neither_how_documents_are_cut_nor_the_sample(tmp_path):
    texts = [make_text(seed, sentences=60) for seed in range(8)]
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    (tmp_path / "b.jsonl").write_text("".join(lines) + lines[0] * 400)
    one, other = (prepare(tmp_path / f"{name}.jsonl", tmp_path / name) for name in "ab")
    assert report(other)["duplicates"] == 400
    assert decoded(one) == decoded(other)
    assert one.manifest["splits"] == other.manifest["splits"]


def test_documents_of_which_the_tokenizer_sees_nothing_are_counted(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, "\ue000"]))
    data = prepare(tmp_path / "t.jsonl", tmp_path / "data", tokenizer="wordpiece", vocab_size=160)
    assert report(data)["without_tokens"] == 1
    assert sum(split["documents"] for split in data.manifest["splits"].values()) == len(TEXTS)


def test_the_manifest_says_how_the_corpus_was_made(jsonl, tmp_path):
    data = prepare(jsonl, tmp_path / "data", settings=["cleaning.unicode=none", "seed=3"])
    assert data.manifest["settings"]["cleaning"]["unicode"] == "none"
    assert data.manifest["settings"]["seed"] == 3
    other = prepare(jsonl, tmp_path / "other", settings=["cleaning.unicode=none", "seed=4"])
    assert other.fingerprint != data.fingerprint
    assert Shards(tmp_path / "data").fingerprint == data.fingerprint


BAD = '{"text": "good"}\n{"text": "bad\xff"}\n'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"bad.jsonl, line 2, byte 30: byte 0xff is not valid UTF-8"),
        ({"on_bad": "skip"}, r"1 of 2 lines are bad \(50.00%\), more than max_bad allows"),
        (
            {"on_bad": "skip", "max_bad": 0.9, "settings": ["cleaning.min_characters=9"]},
            r"dropped by min_characters \(1\)",
        ),
        ({"settings": ["cleaning.unicod=NFC"]}, r"unknown setting 'cleaning.unicod'"),
        ({"settings": ["part_bytes=0"]}, r"part_bytes must be 1 or more"),
        ({"workers": 0}, r"workers must be 1 or more"),
        ({"engine": "spark"}, r"unknown engine 'spark'; legal: local"),
        ({"evaluation": "no.jsonl"}, r"'no.jsonl' does not exist"),
        ({"tokenizer": "none.json", "vocab_size": None}, r"none.json"),
        ({"tokenizer": "none.json", "vocab_size": 400}, r"are for a tokenizer that is trained, and 'none.json' is one"),
        (
            {"tokenizer": "none.json", "vocab_size": None, "settings": ["tokenizer.reserved=1"]},
            r"leave them out, or train one of bpe, wordpiece, unigram",
        ),
        ({"validation_share": 0.6, "test_share": 0.6}, r"together they must be below 1"),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path, options, message):
    (tmp_path / "bad.jsonl").write_bytes(BAD.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "bad.jsonl", tmp_path / "data", **options)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_pipe_is_read_alone(tmp_path):
    with pytest.raises(UserError, match="- stands for a pipe, which cannot be read together with files"):
        prepare(["-", "x.txt"], tmp_path / "data")


def test_a_prepared_corpus_is_no_text(jsonl, tmp_path):
    prepare(jsonl, tmp_path / "data")
    with pytest.raises(UserError, match="is prepared already; name the text itself"):
        prepare(tmp_path / "data", tmp_path / "again")
