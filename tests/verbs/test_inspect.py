"""``bothways inspect`` from end to end: text, prepared data and task files, by Python and by the command line."""

import contextlib
import io
import json
import random
import shlex

import numpy as np
import pytest

import bothways
from bothways.advise.inspect.prepared import spread, vocabulary_use
from bothways.cli import main
from bothways.errors import UserError
from bothways.text.reading.documents import Document
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.prepare import prepare_splits

NOUNS = (
    "river",
    "mountain",
    "engine",
    "garden",
    "window",
    "letter",
    "signal",
    "forest",
    "harbour",
    "lantern",
    "bridge",
)


def run(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(words))
    return code, out.getvalue(), err.getvalue()


def text(rng, sentences):
    return " ".join(f"The {' '.join(rng.choices(NOUNS, k=7))} ends." for _ in range(sentences))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with texts, a tokenizer, and two prepared corpora, one of them with planted faults."""
    folder = tmp_path_factory.mktemp("inspect")
    rng = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(60):
        (folder / "texts" / f"{number:02}.txt").write_text(text(rng, 12), encoding="utf-8")
    texts = [path.read_text() for path in sorted((folder / "texts").iterdir())]
    tokenizer = Tokenizer.train(texts, kind="wordpiece", vocab_size=60, exact=False)
    documents = [Document(text=each, source=str(at)) for at, each in enumerate(texts)]
    prepare_splits({"train": documents[:50], "validation": documents[50:]}, out=folder / "data", tokenizer=tokenizer)
    spliced = Document(text=texts[3].split(". ", 2)[2] + " " + text(rng, 3), source="spliced")
    faulty = {
        "train": [*documents[:50], documents[7], Document(text="ж ж ж ж ж ж", source="unknown")],
        "validation": [documents[5], spliced, documents[58]],
    }
    prepare_splits(faulty, out=folder / "faulty", tokenizer=tokenizer)
    return folder


def topics(found):
    return {finding.topic: finding for finding in found.findings}


def test_data_is_known_by_its_manifest_and_counted(place):
    found = bothways.inspect(place / "data")
    figures = found.figures
    assert figures["kind"] == "data"
    train = figures["splits"]["train"]
    assert (train["documents"], figures["splits"]["validation"]["documents"]) == (50, 10)
    assert train["sentences_per_document"]["median"] == 12
    tokenizer = Tokenizer.load(place / "data")
    texts = [path.read_text() for path in sorted((place / "texts").iterdir())[:50]]
    assert train["tokens"] == sum(len(tokenizer.encode(each)) for each in texts)
    assert train["bytes"] == sum(map(len, texts))
    counts = np.bincount(np.concatenate([tokenizer.encode(each) for each in texts]))
    assert figures["vocabulary"]["commonest"][0] == [tokenizer.decode([int(counts.argmax())]), int(counts.max())]
    assert figures["tokenizer"]["tokens_measured"] == counts.sum()
    assert figures["overlap"]["validation"]["exact"] == 0
    assert not topics(found).keys() & {"overlap", "unknown characters", "duplicates", "no documents"}


def test_planted_faults_of_data_are_found(place):
    found = bothways.inspect(place / "faulty")
    findings = topics(found)
    assert found.figures["splits"]["train"]["duplicates"] == 1
    assert "1 of 52 documents of train are copies" in findings["duplicates"].fact
    assert findings["overlap"].level == "error"
    assert findings["overlap"].fact == "1 of 3 documents of validation stand in train word for word"
    passages = found.figures["overlap"]["validation"]["passages"]
    assert (passages["exact"], passages["ngram"]) == (1, 1)
    assert findings["unknown characters"].fact.startswith("6 tokens of ")
    assert "validation has " in findings["validation"].fact


def test_data_without_held_out_text_is_said(place, tmp_path):
    documents = [Document(text=f"Only one sentence here {at}", source=str(at)) for at in range(40)]
    prepare_splits({"train": documents}, out=tmp_path / "lines", tokenizer=Tokenizer.load(place / "data"))
    found = bothways.inspect(tmp_path / "lines")
    findings = topics(found)
    assert findings["validation"].fact == "there is no validation text"
    assert "half of 40 training documents are one sentence" in findings["no documents"].fact
    assert found.findings[0].topic == "size"
    assert found.findings[0].level == "error", "the gravest come first"


def test_data_of_less_than_a_row_is_an_error(place, tmp_path):
    documents = [Document(text="The river ends. The garden ends.", source="x")]
    prepare_splits({"train": documents}, out=tmp_path / "tiny", tokenizer=Tokenizer.load(place / "data"))
    facts = [finding.fact for finding in bothways.inspect(tmp_path / "tiny").findings if finding.level == "error"]
    assert any("tokens, fewer than one row of 128" in fact for fact in facts), facts


def test_tokens_are_counted_in_chunks(place, monkeypatch):
    whole = bothways.inspect(place / "data").figures
    monkeypatch.setattr("bothways.advise.inspect.prepared.CHUNK", 500)
    assert bothways.inspect(place / "data").figures == whole


def test_damaged_data_is_not_looked_at(place, tmp_path):
    import shutil

    shutil.copytree(place / "data", tmp_path / "data")
    file = next((tmp_path / "data").glob("train*.bin"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, _, err = run(f"inspect {tmp_path}/data")
    assert code == 3
    assert "is damaged" in err


def test_vocabulary_use_counts_what_is_never_used():
    tokenizer = Tokenizer.train(["some words of a text"] * 3, kind="wordpiece", vocab_size=60, exact=False)
    uses = np.zeros(len(tokenizer), dtype=np.int64)
    word = tokenizer.encode("some")[0]
    uses[word] = 5
    found = vocabulary_use(tokenizer, uses)
    ordinary = len(tokenizer) - len(set(tokenizer.special_ids.values()))
    assert (found["tokens"], found["never_used"], found["rare"]) == (ordinary, ordinary - 1, 1)
    assert found["commonest"][0] == [tokenizer.decode([word]), 5]
    assert found["by_rank"][0] == [1, 5]


def test_indices_are_spread():
    assert spread(10, 100) == list(range(10))
    assert spread(1000, 3) == [0, 499, 999]
    assert spread(0, 5) == []


def test_the_command_line_says_all_of_it_and_warnings_are_no_failure(place):
    code, out, err = run(f"inspect {place}/texts --out {place}/page.html")
    assert code == 0, err
    assert "│ documents     │     60 │" in out
    assert "WARNING: " in out
    assert out.rstrip().endswith(f"Page: {place}/page.html")
    assert "\x1b" not in out
    assert (place / "page.html").read_text().startswith("<!doctype html>")
    code, out, err = run(f"inspect {place}/texts --json")
    values = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert values["documents"] == 60
    assert values["findings"] == [finding.to_dict() for finding in bothways.inspect(place / "texts").findings]


def test_data_and_task_files_have_pages_too(place, tmp_path):
    rows = [{"review": f"{random.Random(at).choice(NOUNS)} number {at}", "label": "ab"[at % 2]} for at in range(120)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.csv").write_text("review;label\nquite new;a\n" + f"{rows[0]['review']};a\n")
    for words, title in (
        (f"{place}/faulty", "What is in your prepared data"),
        (
            f"{tmp_path}/train.jsonl --test {tmp_path}/test.csv --delimiter ';' --task classification --column text=review",
            "What is in your examples",
        ),
    ):
        code, out, err = run(f"inspect {words} --out {tmp_path}/page.html")
        assert code == 0, err
        assert "ERROR: 1 of " in out
        page = (tmp_path / "page.html").read_text()
        assert f"<h1>{title}</h1>" in page
        assert "<svg" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("missing", "'missing' does not exist"),
        ("texts --test texts", "--test and --column are for task files; say which task by --task"),
        ("texts --task clasification", "Did you mean 'classification'?"),
        ("texts --task classification --column text", "--column takes COLUMN=NAME, as in text=review, not 'text'"),
        ("texts --task classification", "'texts' holds .txt (60): nothing to read"),
        ("texts --out nowhere/page.html", "there is no folder 'nowhere'"),
        ("texts --tokenizer texts", "'texts' is no model"),
        ("texts --delimiter ;;", "a delimiter is one character"),
    ],
)
def test_mistakes_are_one_sentence(place, monkeypatch, words, message):
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, out, err = run(f"inspect {words}")
    assert (code, out) == (2, "")
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_tokenizer_is_taken_from_data(place):
    figures = bothways.inspect(place / "texts", tokenizer=place / "data").figures
    assert figures["tokenizer"]["vocab_size"] == len(Tokenizer.load(place / "data"))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        bothways.inspect(place / "texts", tokenizer=place / "nothing.json")


def test_a_novel_a_folder_and_a_bad_table(data_dir, tmp_path):
    import zstandard

    def records(name, most):
        with (data_dir / "text" / name).open("rb") as file:
            stream = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
            return [json.loads(line)["text"] for line, _ in zip(stream, range(most), strict=False)]

    (tmp_path / "novel.txt").write_text(records("en/eltec.jsonl.zst", 1)[0], encoding="utf-8")
    found = bothways.inspect(tmp_path / "novel.txt")
    assert found.figures["languages"].keys() == {"en"}
    assert "one document" in topics(found)
    (tmp_path / "articles").mkdir()
    for number, article in enumerate(records("zh/lctt_tech_articles.jsonl.zst", 200)):
        (tmp_path / "articles" / f"{number}.txt").write_text(article, encoding="utf-8")
    found = bothways.inspect(tmp_path / "articles", out=tmp_path / "page.html")
    assert found.figures["languages"] == {"zh": 200}
    assert found.figures["ingest"]["rejected"] == 0
