"""AutoModelForSequenceClassification: what goes in, what is learnt, what comes out, what is refused."""

import json

import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoModelForSequenceClassification, AutoTokenizer
from bothways.auto.examples import read_rows
from bothways.checkpoints.checkpoint import load, save_checkpoint
from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import Tokenizer

NAMES = np.array(["negative", "positive"])


def load_model(folder, **options):
    return AutoModelForSequenceClassification.from_pretrained(folder, **options)


class Column:
    """A table's column, as pandas has it: ``tolist``, and an index that need not begin with 0."""

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __getitem__(self, key):
        raise KeyError(key)

    def tolist(self):
        return list(self.values)


FAMILIES = ["bert", "roberta", "modernbert", "gpt2", "llama"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_script_of_the_essay(family, folders, reviews):
    model = load_model(folders[family])
    tokenizer = AutoTokenizer.from_pretrained(folders[family])
    train_texts, train_labels = reviews
    train_encodings = tokenizer(train_texts, truncation=True, padding=True)
    assert model.fit(train_encodings, train_labels) is model
    assert len(model.trained.evaluations) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_is_saved(family, folders, reviews, unseen, learn, tmp_path):
    model = load_model(folders[family]).fit(*reviews, **learn)
    assert model.score(*unseen) > 0.9
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert np.array_equal(again.predict_proba(unseen[0]), model.predict_proba(unseen[0]))
    assert again.labels == (0, 1)


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda labels: labels, (0, 1)),
        (lambda labels: [label * 4 + 1 for label in labels], (1, 5)),
        (lambda labels: [bool(label) for label in labels], (False, True)),
        (lambda labels: [str(NAMES[label]) for label in labels], ("negative", "positive")),
        (lambda labels: NAMES[labels], ("negative", "positive")),
        (lambda labels: torch.tensor(labels), (0, 1)),
        (lambda labels: [f"LABEL_{label}" for label in labels], ("LABEL_0", "LABEL_1")),
        (lambda labels: [str(label) for label in labels], ("0", "1")),
    ],
)
def test_predictions_are_of_the_type_of_the_labels_even_after_saving(
    make, classes, folders, reviews, unseen, learn, tmp_path
):
    model = load_model(folders["bert"]).fit(reviews[0], make(reviews[1]), **learn)
    model.save_pretrained(tmp_path / "model")
    for each in (model, load_model(tmp_path / "model")):
        assert each.labels == classes
        assert each.classes_.tolist() == list(classes)
        assert [type(label) for label in each.labels] == [type(label) for label in classes]
        predicted = each.predict(unseen[0])
        assert predicted.dtype == np.array(classes).dtype
        assert np.mean(predicted == np.asarray(make(unseen[1]))) == each.score(unseen[0], make(unseen[1])) > 0.9


def test_inputs_of_any_make_are_the_same(fitted, fitted_folder, unseen):
    texts = unseen[0][:20]
    tokenizer = AutoTokenizer.from_pretrained(fitted_folder)
    theirs = transformers.AutoTokenizer.from_pretrained(fitted_folder)
    padded = tokenizer(texts, padding=True)
    tensors = theirs(texts, padding=True, return_tensors="pt")
    left = theirs(texts, padding=True, padding_side="left")
    expected = fitted.predict_proba(texts)
    makes = {
        "array": np.array(texts),
        "objects": np.array(texts, dtype=object),
        "tuple": tuple(texts),
        "generator": (text for text in texts),
        "column": Column(texts),
        "encodings": tokenizer(texts),
        "padded encodings": padded,
        "arrays": tokenizer(texts, padding="max_length", return_tensors="np"),
        "transformers' lists": theirs(texts),
        "transformers' tensors": tensors,
        "transformers' left padding": left,
        "dictionary": dict(padded),
        "dictionary of columns": {name: Column(column) for name, column in padded.items()},
        "dictionary of tensors in lists": {name: list(column) for name, column in tensors.items()},
        "only ids": {"input_ids": tokenizer(texts).input_ids},
        "list of encodings": [padded[number] for number in range(len(texts))],
        "list of transformers' encodings": [theirs(text) for text in texts],
        "list of tensors of one row": [theirs(text, return_tensors="pt") for text in texts],
        "with columns that no model reads": theirs(texts, return_special_tokens_mask=True, return_length=True),
    }
    for make, inputs in makes.items():
        assert np.array_equal(fitted.predict_proba(inputs), expected), make


def test_one_text_or_encoding_is_one_example(fitted, unseen):
    text = unseen[0][0]
    expected = fitted.predict_proba([text])
    assert expected.shape == (1, 2)
    assert np.array_equal(fitted.predict_proba(text), expected)
    assert np.array_equal(fitted.predict_proba(fitted.tokenizer(text)), expected)


def test_pairs_of_texts_are_two_segments(folders, learn):
    rng = np.random.default_rng(0)
    words = [str(word) for word in rng.choice(["lovely", "dull"], (200, 2)).flat]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    labels = ["first" if one == "lovely" else "second" for one, _ in pairs]
    model = load_model(folders["bert"]).fit(pairs, labels, **learn)
    assert model.score(pairs, labels) == 1
    firsts, seconds = map(list, zip(*pairs, strict=True))
    encodings = model.tokenizer(firsts, seconds, padding=True)
    assert np.array_equal(model.predict_proba(encodings), model.predict_proba(pairs))
    for inputs in (pairs, encodings):
        row = read_rows(inputs, model.tokenizer, model.model)[0]
        length = len(model.tokenizer(firsts[0]).input_ids)
        assert row.token_type_ids.tolist() == [0] * length + [1] * (len(row) - length)


def test_padding_costs_no_work(fresh, reviews):
    tokenizer = fresh.tokenizer
    sizes = []
    for options in ({}, {"padding": "max_length", "max_length": 64}):
        fresh.fit(tokenizer(reviews[0], **options), reviews[1], epochs=1, progress=False, validation=0)
        sizes.append(fresh.trained.tokens)
    assert sizes[0] == sizes[1] == sum(len(ids) for ids in tokenizer(reviews[0]).input_ids)


def test_fit_is_repeatable_and_leaves_the_generator_alone(folders, reviews, unseen, learn):
    torch.manual_seed(5)
    expected = torch.rand(3)
    probabilities = []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        model = load_model(folders["bert"]).fit(*reviews, **learn, seed=seed)
        assert torch.equal(torch.rand(3), expected)
        probabilities.append(model.predict_proba(unseen[0]))
    assert np.array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])


def test_a_second_fit_goes_on(folders, reviews, learn):
    model = load_model(folders["bert"]).fit(*reviews, **learn)
    before = model.score(*reviews)
    options = {**learn, "epochs": 1, "learning_rate": 1e-5}
    assert abs(model.fit(*reviews, **options).score(*reviews) - before) < 0.05
    fresh = load_model(folders["bert"]).fit(*reviews, **options)
    assert fresh.score(*reviews) < before - 0.1


def test_the_best_epoch_is_kept(folders, reviews):
    model = load_model(folders["bert"])
    validation = (reviews[0][:60], reviews[1][:60])
    options = {"batch_size": 8, "progress": False}
    model.fit(*reviews, validation=validation, epochs=3, learning_rate=2e-3, **options)
    learnt = model.score(*validation)
    # With labels turned round, every epoch makes it worse by the true ones, so the first is the best.
    model.fit(reviews[0], [1 - label for label in reviews[1]], validation=validation, learning_rate=1e-4, **options)
    accuracies = [figures["accuracy"] for figures in model.trained.evaluations]
    assert len(accuracies) == 3
    assert model.score(*validation) == max(accuracies) > min(accuracies)
    assert learnt > 0.9


def test_what_is_held_out(fresh, reviews, capsys):
    texts, labels = reviews
    fresh.fit(texts, labels, epochs=1)
    assert "24 of 240 examples are held out" in capsys.readouterr().err
    fresh.fit(texts[:199], labels[:199], epochs=1)
    assert fresh.trained.evaluations == []
    fresh.fit(texts, labels, epochs=1, validation=0)
    assert fresh.trained.evaluations == []
    fresh.fit(texts[:40], labels[:40], epochs=2, validation=0.25)
    assert len(fresh.trained.evaluations) == 2
    assert "10 of 40 examples are held out" in capsys.readouterr().err


def test_progress_is_shown_unless_it_is_not_wanted(fresh, reviews, capsys):
    fresh.fit(*reviews, epochs=2)
    shown = capsys.readouterr()
    assert "epoch 2: validation accuracy" in shown.err
    assert shown.out == ""
    fresh.fit(*reviews, epochs=1, progress=False)
    assert capsys.readouterr().err == ""


def test_a_head_that_does_not_fit_is_replaced_and_that_is_said(folders, reviews, capsys):
    texts, labels = reviews[0], [number % 3 for number in range(len(reviews[0]))]
    model = load_model(folders["bert"]).fit(texts, labels, epochs=1)
    assert "the head had 2 outputs; a new one has 3, one for each of 0, 1, 2" in capsys.readouterr().err
    assert model.predict_proba(texts).shape == (240, 3)
    model.fit(texts, reviews[1], epochs=1)
    assert "the head" not in capsys.readouterr().err  # 0 and 1 are among the three that it knows
    assert model.labels == (0, 1, 2)
    model.fit(texts, NAMES[reviews[1]], epochs=1)
    assert "the head knew 0, 1, 2; a new one learns 'negative', 'positive'" in capsys.readouterr().err
    assert model.labels == ("negative", "positive")


def test_a_new_head_keeps_the_pooler_that_was_pretrained(folders, reviews, tmp_path):
    loaded = load(folders["bert"], heads={"language_model": 0, "next_sentence": 2})
    save_checkpoint(tmp_path / "pooled", loaded.model, tokenizer=loaded.tokenizer)
    pooler = loaded.model.heads["next_sentence"].dense.weight
    model = load_model(tmp_path / "pooled")
    model.fit(reviews[0], [str(number % 4) for number in range(240)], epochs=1, learning_rate=1e-9, progress=False)
    assert torch.allclose(model.model.heads["classification"].dense.weight, pooler, atol=1e-6)


def test_a_number_of_labels_holds_for_numbers_that_fit_it(folders, reviews):
    model = load_model(folders["bert"], num_labels=5).fit(*reviews, epochs=1, progress=False)
    assert model.labels == (0, 1, 2, 3, 4)
    assert model.predict_proba(reviews[0][:3]).shape == (3, 5)
    named = load_model(folders["bert"], num_labels=5).fit(reviews[0], NAMES[reviews[1]], epochs=1, progress=False)
    assert named.labels == ("negative", "positive")


def test_a_stored_head_with_names_is_used_as_it_is(fitted_folder, tmp_path, unseen):
    loaded = load(fitted_folder)
    save_checkpoint(tmp_path / "named", loaded.model, tokenizer=loaded.tokenizer, labels=("BAD", "GOOD"))
    model = load_model(tmp_path / "named")
    assert model.labels == ("BAD", "GOOD")
    assert set(model.predict(unseen[0])) == {"BAD", "GOOD"}
    assert model.score(*unseen) > 0.9  # numbers are positions of names
    model.fit(*unseen, epochs=1, learning_rate=1e-6, progress=False)
    assert model.labels == (0, 1)
    assert model.score(*unseen) > 0.9


def test_a_head_that_is_no_single_label_classifier_is_not_used(fitted_folder, tmp_path, unseen):
    loaded = load(fitted_folder)
    for number, details in enumerate(({"problem_type": "multi_label_classification"}, {"problem_type": "regression"})):
        save_checkpoint(tmp_path / str(number), loaded.model, tokenizer=loaded.tokenizer, details=details)
        with pytest.raises(UserError, match="call fit first"):
            load_model(tmp_path / str(number)).predict(unseen[0])


def test_transformers_opens_what_is_saved(fitted, unseen, tmp_path):
    fitted.fit(unseen[0], NAMES[unseen[1]], epochs=1, progress=False)
    fitted.save_pretrained(tmp_path / "model")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert theirs.config.id2label == {0: "negative", 1: "positive"}
    encodings = fitted.tokenizer(unseen[0], padding=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = theirs(**encodings).logits.softmax(-1).numpy()
    assert np.abs(probabilities - fitted.predict_proba(unseen[0])).max() < 0.02  # ours may be in bfloat16


def test_an_untrained_head_does_not_pass_for_a_trained_one(fresh, tmp_path):
    with pytest.raises(UserError, match="call fit first"):
        fresh.predict(["a film"])
    with pytest.raises(UserError, match="call fit first"):
        fresh.score(["a film"], [0])
    assert fresh.labels is None
    assert not hasattr(fresh, "classes_")
    assert "not fitted yet" in repr(fresh)
    fresh.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="call fit first"):
        load_model(tmp_path / "model").predict(["a film"])


def test_a_model_without_a_tokenizer_reads_encodings_only(folders, tmp_path, reviews):
    loaded = load(folders["bert"])
    save_checkpoint(tmp_path / "bare", loaded.model)
    model = load_model(tmp_path / "bare")
    encodings = AutoTokenizer.from_pretrained(folders["bert"])(reviews[0], padding=True)
    model.fit(encodings, reviews[1], epochs=1, progress=False)
    with pytest.raises(UserError, match="comes without a tokenizer, so it reads encodings only"):
        model.predict(reviews[0])


def test_moves_and_counts(fitted):
    assert fitted.to("cpu") is fitted
    assert fitted.num_parameters() == sum(weight.numel() for weight in fitted.model.parameters())
    assert repr(fitted) == f"AutoModelForSequenceClassification({fitted.num_parameters():,} parameters; labels: 0, 1)"


def test_loads_by_hub_name_from_the_local_cache(fitted_folder, unseen, tmp_path, monkeypatch):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--small-bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (snapshot / name).write_bytes((fitted_folder / name).read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load_model("someone/small-bert").score(*unseen) > 0.9
    tokenizer = AutoTokenizer.from_pretrained("someone/small-bert")
    assert tokenizer("a film").input_ids == Tokenizer.load(fitted_folder).backend.encode("a film").ids


def test_config_says_what_the_labels_were(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"}
    assert config["label_type"] == "int"
