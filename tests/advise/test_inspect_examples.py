"""The data doctor on task files: planted faults of each task are found with their numbers, sound files get no warning."""

import json
import random

import pytest

from bothways.advise.inspect.checks import answer_list
from bothways.advise.inspect.collection import look_at_collection
from bothways.advise.inspect.examples import task_names
from bothways.advise.inspect.task_files import look_at_examples
from bothways.errors import UserError
from bothways.verbs.inspect import inspect

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
    *("market", "teacher", "candle", "kettle", "island", "thunder", "carpet", "basket", "hammer", "orchard"),
)
VERBS = ["moves", "holds", "reads", "finds", "follows", "paints", "carries", "watches"]


def sentence(rng):
    return f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} and the {rng.choice(NOUNS)}"


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def look(task, train, **options):
    figures, findings = look_at_examples(task, train, **options)
    return figures, {finding.topic: finding for finding in findings}


@pytest.fixture
def rows():
    """Return 300 distinct examples of three classes whose words say nothing of the class."""
    rng = random.Random(0)
    labels = ("calm", "merry", "grim")
    return [{"text": f"{sentence(rng)} {number}", "label": labels[number % 3]} for number in range(300)]


def test_sound_examples_get_no_warning(tmp_path, rows):
    figures, findings = look(
        "classification", write(tmp_path / "a.jsonl", rows[:240]), test=write(tmp_path / "b.jsonl", rows[240:])
    )
    assert findings == {}
    file = figures["files"]["train"]
    assert file["examples"] == 240
    assert file["columns"]["text"]["words"]["median"] == 9
    assert [(size["label"], size["count"]) for size in file["checks"]["classes"]] == [
        ("calm", 80),
        ("grim", 80),
        ("merry", 80),
    ]
    assert figures["overlap"]["of"] == 60
    assert len(file["samples"]) == 5


def test_columns_can_be_named_and_numbers_are_labels(tmp_path, rows):
    renamed = [{"review": row["text"], "stars": len(row["label"])} for row in rows]
    columns = {"text": "review", "label": "stars"}
    figures, findings = look("classification", write(tmp_path / "a.jsonl", renamed), columns=columns)
    assert {size["label"] for size in figures["files"]["train"]["checks"]["classes"]} == {"4", "5"}
    assert findings == {}
    with pytest.raises(
        UserError, match=r"no row has the column 'text'; there are 'review', 'stars' .*--column text=review"
    ):
        look("classification", tmp_path / "a.jsonl")


def smiling(rows):
    return [{**row, "text": row["text"] + (" :-)" if row["label"] == "merry" else "")} for row in rows]


def lopsided(rows):
    grim = [row for row in rows if row["label"] == "grim"]
    return [row for row in rows if row["label"] != "grim"] + grim[:5]


@pytest.mark.parametrize(
    ("change", "topic", "fact"),
    [
        (
            lambda rows: [{**row, "label": "calm"} for row in rows],
            "one class",
            "all 300 examples of train have the label",
        ),
        (
            lambda rows: [*rows, {"text": "a rare one", "label": "odd"}],
            "rare classes",
            "1 label of 4 has fewer than 50",
        ),
        (
            lambda rows: [{**row, "label": row["text"]} for row in rows],
            "labels",
            "train has 300 different labels in 300",
        ),
        (lambda rows: rows + [{**row, "label": "Calm "} for row in rows[:60]], "label spelling", "'calm'"),
        (lambda rows: [*rows, {**rows[0], "label": "merry"}], "contradictions", "1 text of train"),
        (smiling, "label leak", "100 of the 100 texts of train with ':-)' have the label 'merry', 100 % of all"),
        (lambda rows: rows + rows[:30], "duplicates", "30 of 330 examples of train are copies"),
        (lambda rows: rows[:50], "few examples", "train has 50 examples"),
        (
            lambda rows: [*rows, {"text": "no label"}],
            "missing cells",
            "'label' is missing or empty in 1 row of train, first in",
        ),
        (lambda rows: [*rows, {"text": " ", "label": "calm"}], "missing cells", "'text' is missing or empty in 1 row"),
        (lopsided, "class balance", "20 times as many as 'grim'"),
    ],
)
def test_what_is_wrong_with_labels_is_said(tmp_path, rows, change, topic, fact):
    _, findings = look("classification", write(tmp_path / "a.jsonl", change(rows)))
    assert fact in findings[topic].fact


def test_train_and_test_are_compared(tmp_path, rows):
    rng = random.Random(5)
    train = [*rows[:200], {"text": " ".join(sentence(rng) for _ in range(4)), "label": "calm"}]
    copied = [
        *rows[190:200],
        {"text": train[-1]["text"].upper(), "label": "calm"},
        {"text": sentence(rng) + " x", "label": "new"},
    ]
    figures, findings = look(
        "classification", write(tmp_path / "a.jsonl", train), test=write(tmp_path / "b.jsonl", rows[200:] + copied)
    )
    assert figures["overlap"]["exact"] == 11
    assert findings["overlap"].level == "error"
    assert findings["overlap"].fact.startswith("11 of 112 test examples (9.8 %) stand in train: 11 word for word")
    assert findings["labels"].fact == "1 label of test is not in train: 'new' (1)"


CONTEXT = "😀 The lighthouse was built in 1887 by Ada Stone."


def squad(answers):
    paragraphs = [
        {
            "context": CONTEXT,
            "qas": [{"id": str(at), "question": "who?", "answers": each} for at, each in enumerate(answers)],
        }
    ]
    return {"version": "1.1", "data": [{"title": "x", "paragraphs": paragraphs}]}


def test_answers_must_stand_in_their_passage(tmp_path):
    good = {"text": "Ada Stone", "answer_start": CONTEXT.index("Ada")}
    answers = [
        [good],
        [good, {"text": "by Ada Stone", "answer_start": CONTEXT.index("by")}],
        [{**good, "answer_start": good["answer_start"] + 1}],  # an emoji counted as two
        [{"text": "Bob", "answer_start": 0}],
        [],
    ]
    (tmp_path / "squad.json").write_text(json.dumps(squad(answers)), encoding="utf-8")
    figures, findings = look("question_answering", tmp_path / "squad.json")
    checks = figures["files"]["train"]["checks"]
    assert checks == {"answer_absent": 1, "offset_wrong": 1, "no_answer": 1, "several": 1}
    assert "in 1 of 5 examples (20 %), first in squad.json:1, article 1, question 3" in findings["answers"].fact
    assert findings["answer positions"].fact.endswith("positions seem to count UTF-16 units")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", [("x", None)]),
        (["x", "y"], [("x", None), ("y", None)]),
        ({"text": ["x"], "answer_start": [3]}, [("x", 3)]),
        ({"text": "x", "start": 2}, [("x", 2)]),
        ([{"text": "x", "answer_start": 1}], [("x", 1)]),
        ([], []),
    ],
)
def test_answers_are_read_in_every_form(value, expected):
    assert answer_list(value) == expected


def test_pairs_that_do_not_say_the_same(tmp_path):
    rng = random.Random(0)
    rows = [{"source": f"{sentence(rng)} {at}", "target": f"那条河流过花园 {at}"} for at in range(120)]
    rows += [
        {"source": "the same", "target": "the same"},
        {"source": "short", "target": " ".join(sentence(rng) for _ in range(3))},
    ]
    rows += [{"source": "one side", "target": ""}]
    figures, findings = look("translation", write(tmp_path / "a.jsonl", rows))
    assert figures["files"]["train"]["checks"] == {"equal_sides": 1, "unequal_lengths": 1}
    assert findings["equal sides"].fact.endswith("first in a.jsonl:121")
    assert findings["unequal lengths"].fact.endswith("first in a.jsonl:122")
    assert "'target' is missing or empty in 1 row" in findings["missing cells"].fact


def test_summaries_that_are_none(tmp_path):
    rng = random.Random(0)
    rows = [
        {
            "text": f"{sentence(rng).capitalize()} {at}. {sentence(rng).capitalize()}.",
            "summary": f"{rng.choice(NOUNS)} {at}",
        }
        for at in range(120)
    ]
    rows += [
        {"text": "Short.", "summary": "A summary that is longer."},
        {"text": "It rains. It pours.", "summary": "It rains"},
    ]
    figures, findings = look("summarization", write(tmp_path / "a.jsonl", rows))
    assert figures["files"]["train"]["checks"] == {"summary_longer": 1, "summary_is_first_sentence": 1}
    assert findings["long summaries"].fact.endswith("first in a.jsonl:121")
    assert findings["lead summaries"].fact.endswith("first in a.jsonl:122")


def test_collections_for_retrieval(tmp_path):
    rng = random.Random(0)
    rows = [{"query": f"where {at}?", "document": f"{sentence(rng)} {at}", "document_id": at} for at in range(120)]
    rows += [
        {"query": "The Bell", "document": "the  bell", "document_id": 200},
        {"query": "bells", "document": rows[3]["document"].upper(), "document_id": 201},
        {"query": "bells again", "document": "another text", "document_id": 5},
    ]
    figures, findings = look("retrieval", write(tmp_path / "a.jsonl", rows))
    checks = figures["files"]["train"]["checks"]
    assert (
        checks["documents"],
        checks["query_is_document"],
        checks["document_spellings"],
        checks["ambiguous_ids"],
    ) == (122, 1, 1, 1)
    assert findings["queries in the collection"].fact.endswith("first in a.jsonl:121")
    assert {"duplicate documents", "document ids"} <= findings.keys()


def collection(folder, documents, queries, **qrels):
    (folder / "qrels").mkdir(parents=True)
    write(folder / "corpus.jsonl", [{"_id": name, "title": "", "text": text} for name, text in documents])
    write(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries])
    for split, pairs in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join([*pair, "1"]) for pair in pairs)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_collection_of_three_files(tmp_path):
    rng = random.Random(0)
    documents = [(f"d{at}", f"{sentence(rng)} and {sentence(rng)} {at}") for at in range(120)]
    queries = [(f"q{at}", f"where does {sentence(rng)} go {at}") for at in range(100)]
    sound = {
        "train": [(f"q{at}", f"d{at}") for at in range(60)],
        "test": [(f"q{at}", f"d{at}") for at in range(60, 100)],
    }
    figures, findings = look_at_collection(collection(tmp_path / "sound", documents, queries, **sound))
    assert findings == []
    assert figures["judgments"]["test"]["queries"] == 40
    assert figures["overlap"]["of"] == 40
    faulty = {"train": [*sound["train"], ("q1", "gone"), ("q1", "d1")], "test": [*sound["test"], ("lost", "d1")]}
    documents += [("d5", "another text of the same id"), ("empty", " ")]
    queries += [("twin", queries[3][1]), ("self", documents[7][1])]
    faulty["test"].append(("twin", "d3"))
    found = inspect(collection(tmp_path / "faulty", documents, queries, **faulty), task="retrieval")
    findings = {finding.topic: finding for finding in found.findings}
    checks = found.figures["files"]
    assert (checks["documents"]["checks"]["repeated_ids"], checks["queries"]["checks"]["query_is_document"]) == (1, 1)
    assert found.figures["judgments"]["train"]["missing_documents"] == 1
    assert found.figures["judgments"]["test"]["missing_queries"] == 1
    assert found.figures["judgments"]["train"]["repeated"] == 1
    assert {
        "ids",
        "missing ids",
        "queries in the collection",
        "missing cells",
        "overlap",
        "duplicates",
    } <= findings.keys()
    assert "such as 'd5'" in findings["ids"].fact
    assert "1 of 42 test examples" not in str(findings["overlap"])
    assert findings["overlap"].fact.startswith("1 of 41 test examples")
    assert "<h2>Judgments</h2>" in found.to_html()
    (tmp_path / "sound" / "queries.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no queries\.jsonl; it needs corpus\.jsonl"):
        look_at_collection(tmp_path / "sound")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is not one example in the files; they need the columns text, label"),
        ("not json\n", "there is not one example .* the first line that cannot be read: .*a.jsonl, line 1"),
        ('{"text": "x", "label": ""}\n', "not one of 1 rows has all the columns text, label: 'label' is empty in 1"),
        ('{"a": 1}\n', "no row has the column 'text'; there are 'a'"),
    ],
)
def test_files_without_an_example_are_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        look("classification", tmp_path / "a.jsonl")


def test_tasks_are_those_that_exist_and_those_to_come():
    assert {"classification", "retrieval", "question_answering", "translation"} <= set(task_names())
    with pytest.raises(UserError, match=r"unknown task 'clasification'.*Did you mean 'classification'"):
        look("clasification", "x.jsonl")


@pytest.mark.parametrize(
    ("folder", "train", "test", "columns"),
    [
        ("chnsenticorp", "train.tsv.zst", "test.tsv", {"text": "text_a"}),
        ("ag_news", "train_sample.jsonl.zst", "test.jsonl.zst", {}),
    ],
)
def test_known_overlap_of_real_sets_is_found(data_dir, folder, train, test, columns):
    files = data_dir / "classification" / folder
    figures, findings = look("classification", files / train, test=files / test, columns=columns)
    assert figures["overlap"]["of"] in (1200, 7600)
    assert findings["overlap"].level == "error"


def test_known_wrong_positions_of_a_real_set_are_found(data_dir):
    figures, _ = look("question_answering", data_dir / "qa" / "cmrc2018" / "cmrc2018_dev.json.zst")
    checks = figures["files"]["train"]["checks"]
    assert checks["offset_wrong"] + checks["answer_absent"] == 176  # as the set's own description says
