"""Several corpora as one: how they are named, what does not go together, and what the model then sees of each."""

import random
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways import progress
from bothways.errors import UserError
from bothways.experiment import make_evaluator, make_objective
from bothways.objectives.causal_lm import CausalLM
from bothways.recipes.recipe import recipe
from bothways.text.reading.documents import Document
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.batches import PretrainingBatches
from bothways.verbs.mixture import Mixture
from bothways.verbs.prepare import prepare_splits

WORDS = {"sea": ["wave", "fish", "salt", "reef"], "land": ["tree", "hill", "corn", "road"]}


def write_texts(folder, topic, count):
    """Write documents in which every word is one of the topic's."""
    rng = random.Random(topic)
    (folder / topic).mkdir()
    for number in range(count):
        sentences = [" ".join(rng.choices(WORDS[topic], k=6)).capitalize() + "." for _ in range(12)]
        (folder / topic / f"{number:03}.txt").write_text(" ".join(sentences), encoding="utf-8")
    return folder / topic


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Return a folder with the corpora sea, land (of the same tokenizer), bare (nothing held out) and other."""
    folder = tmp_path_factory.mktemp("corpora")
    texts = folder / "texts"
    texts.mkdir()
    write_texts(texts, "sea", 40)
    write_texts(texts, "land", 80)
    options = {"workers": 1, "settings": ["deduplication.near=false"]}
    bothways.prepare(texts, out=folder / "both", vocab_size=268, **options)
    for name, source, share in (("sea", "sea", 0.2), ("land", "land", 0.2), ("bare", "land", 0.0)):
        bothways.prepare(
            texts / source, out=folder / name, tokenizer=folder / "both", validation_share=share, **options
        )
    bothways.prepare(texts / "sea", out=folder / "other", vocab_size=268, **options)
    return folder


@pytest.fixture(autouse=True)
def inside(corpora, monkeypatch):
    monkeypatch.chdir(corpora)


def given(data):
    """Return folders and weights as they were understood."""
    return [(str(source.shards.folder), source.weight) for source in Mixture(data).sources]


@pytest.mark.parametrize(
    ("data", "understood"),
    [
        ("sea", [("sea", None)]),
        (Path("sea"), [("sea", None)]),
        ("sea:2", [("sea", 2.0)]),
        (Path("sea:2"), [("sea", 2.0)]),
        (("sea", 2), [("sea", 2.0)]),
        (["sea"], [("sea", None)]),
        (("sea", "land"), [("sea", None), ("land", None)]),
        ([Path("sea:0.25"), ("land", 1e3)], [("sea", 0.25), ("land", 1000.0)]),
        (iter(["land:1e-3", "sea:7"]), [("land", 0.001), ("sea", 7.0)]),
    ],
)
def test_a_corpus_is_named_alone_or_with_its_weight(data, understood):
    assert given(data) == understood


def test_a_folder_with_a_colon_in_its_name_is_that_folder(corpora, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a:2", "c:d"):
        (tmp_path / name).symlink_to(corpora / "sea")
    assert given("a:2") == [("a:2", None)]
    assert given("a:2:3") == [("a:2", 3.0)]
    assert given("a:3") == [("a", 3.0)]
    assert given("c:d") == [("c:d", None)]
    assert given(f"{tmp_path}/c:d:0.5") == [(f"{tmp_path}/c:d", 0.5)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "there is no data to train on"),
        ("nowhere:2", "'nowhere' is not a prepared corpus"),
        ("nowhere:x", "'nowhere:x' is not a prepared corpus"),
        ("sea:0,5", "the weight of 'sea' must be a number above 0, not '0,5'"),
        ("sea:0", "the weight of 'sea' must be above 0 and finite, not 0"),
        ("sea:-1", "the weight of 'sea' must be above 0 and finite, not -1"),
        ("sea:nan", "the weight of 'sea' must be above 0 and finite, not nan"),
        ("sea:inf", "the weight of 'sea' must be above 0 and finite, not inf"),
        (["sea", "land:2"], "'sea' has no weight and others have one; give each --data a weight, as in sea:0.5"),
        (["sea", "./land/../sea"], "given twice"),
        (
            ["sea", "other"],
            "'other' was prepared with another tokenizer than 'sea'; prepare its text again with: bothways prepare TEXT "
            "--tokenizer sea --out NEW",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(data, message):
    with pytest.raises(UserError) as caught:
        Mixture(data)
    assert message in str(caught.value)


def rows_of(mixture, steps):
    """Return how many training rows come from the sea, and how many from the land."""
    tokenizer = Tokenizer.load(mixture.folder)
    experiment = (
        recipe("gpt-tiny")
        .fitted_to(tokenizer)
        .override(["training.row_length=32", "training.batch_tokens=320", "training.micro_batch_tokens=320"])
    )
    objective = make_objective(experiment, tokenizer)
    batches = PretrainingBatches(mixture.train, objective, experiment.training, seed=0)
    texts = [tokenizer.decode(row.tolist()) for _ in range(steps) for batch in next(batches) for row in batch.input_ids]
    found = {topic: sum(any(word in text for word in words) for text in texts) for topic, words in WORDS.items()}
    assert sum(found.values()) == len(texts) == 10 * steps, "no row is of both"
    return found


def test_rows_come_by_weight():
    assert rows_of(Mixture(["sea:1", "land:3"]), 20) == {"sea": 50, "land": 150}
    assert rows_of(Mixture(["sea:0.3", "land:0.3"]), 20) == {"sea": 100, "land": 100}


def test_without_weights_each_corpus_weighs_as_much_as_it_has_tokens():
    mixture = Mixture(["sea", "land"])
    (sea, sea_weight), (land, land_weight) = mixture.train
    assert (sea_weight, land_weight) == (sea.num_tokens, land.num_tokens)
    assert 1.1 * sea.num_tokens < land.num_tokens
    expected = 200 * sea.num_tokens / (sea.num_tokens + land.num_tokens)
    assert rows_of(mixture, 20)["sea"] == pytest.approx(expected, abs=1)


class Notes:
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def notes():
    reporter = Notes()
    token = progress._reporter.set(reporter)
    yield reporter.notes
    progress._reporter.reset(token)


def test_a_corpus_is_described_with_its_languages(tmp_path):
    [sea, land] = Mixture(["sea", "land"]).described()
    assert sea["languages"].keys() == land["languages"].keys() == {"en"}
    assert sea["languages"]["en"] >= sea["splits"]["train"]["bytes"]
    tokenizer, documents = Tokenizer.load("sea"), [Document(text="The wave.", source="1")]
    unread = prepare_splits({"train": documents}, out=tmp_path / "data", tokenizer=tokenizer)
    assert [each["languages"] for each in Mixture(unread.folder).described()] == [{}]


def test_it_is_said_how_corpora_are_mixed_and_which_cannot_be_measured(notes):
    mixture = Mixture(["sea:1", "bare:3"])
    mixture.describe(4 * mixture.train[0][0].num_tokens)
    [mixing, missing] = notes
    assert mixing.startswith("Mixing 'sea' 25.0% (seen 1 times), 'bare' 75.0% (seen ")
    assert missing == "No validation text in 'bare': measuring on the others"
    assert len(mixture.validation) == 1


@pytest.mark.parametrize("data", ["sea", ["bare"], ["sea", "land"]])
def test_nothing_is_said_to_be_missing_where_all_or_none_hold_text_out(notes, data):
    Mixture(data).describe(100)
    assert not [note for note in notes if "validation" in note]


def test_held_out_text_is_taken_from_each_corpus_by_its_share(monkeypatch):
    taken = []

    def prepare(self, corpus, documents, length, rng):
        taken.append([corpus.document(index) for index in documents])
        return original(self, corpus, documents, length, rng)

    original = CausalLM.prepare
    monkeypatch.setattr(CausalLM, "prepare", prepare)
    mixture = Mixture(["sea:1", "land:3"])
    tokenizer = Tokenizer.load(mixture.folder)
    experiment = recipe("gpt-tiny").fitted_to(tokenizer)
    make_evaluator(experiment, make_objective(experiment, tokenizer), mixture.validation, tokens=600)
    [documents] = taken
    corpora = [corpus for corpus, _ in mixture.validation]
    wanted = []
    for corpus, tokens in zip(corpora, (150, 450), strict=True):
        index, left = 0, tokens
        while left > 0:
            wanted.append(corpus.document(index))
            left -= len(wanted[-1])
            index += 1
        assert 0 < index < len(corpus), "not all of it, so that the share counts"
    assert len(documents) == len(wanted)
    assert all(map(np.array_equal, documents, wanted))


def test_each_corpus_is_remembered():
    sea, land = Mixture(["sea:1", "land:3"]).remembered()
    manifest = Mixture("land").sources[0].shards.manifest
    assert (land["folder"], land["weight"], land["fingerprint"]) == ("land", 3.0, manifest["fingerprint"])
    assert land["splits"] == manifest["splits"]
    assert set(land["shards"]) == {"train", "validation"}
    assert sea["fingerprint"] != land["fingerprint"]
    assert all(sea["shards"][split] != land["shards"][split] for split in sea["shards"])
    assert "files" not in land
    assert Mixture("sea:3").remembered() == Mixture("sea").remembered(), "alone, a corpus has no weight"
