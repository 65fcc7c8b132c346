import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bothways.errors import UserError
from bothways.experiment import (
    Experiment,
    ObjectiveConfig,
    held_out_batches,
    load_experiment,
    make_batches,
    make_evaluator,
    make_objective,
)
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.encoding import Encoder
from bothways.text.shards import gather
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.config import TrainingConfig

TEXTS = [
    f"The {noun} saw the {other}. Then the {noun} went home! Did the {other} see it? Nobody knows."
    for noun in ("cat", "dog", "fox", "bird", "mouse")
    for other in ("house", "garden", "river")
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bpe():
    return Tokenizer.train(TEXTS, kind="bpe", vocab_size=290)


@pytest.fixture(scope="module")
def wordpiece():
    return Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=70)


def make_experiment(kind, **settings):
    """Return a tiny experiment; settings are dotted names with ``__`` for the dot."""
    masked = kind == "bert"
    experiment = Experiment(
        model=TransformerConfig(
            vocab_size=300,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=64,
            attention="bidirectional" if masked else "causal",
        ),
        objective=ObjectiveConfig(name="masked_lm" if masked else "causal_lm", sequence_length=32),
        training=TrainingConfig(row_length=48, micro_batch_tokens=96, precision="fp32"),
    )
    return experiment.override([f"{name.replace('__', '.')}={value}" for name, value in settings.items()])


def corpus_of(texts, tokenizer):
    return gather(Encoder(tokenizer).encode(texts))


# What is refused.


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gpt", {"seed": -1}, "seed must be between 0 and"),
        ("gpt", {"seed": 2**32}, "seed must be between 0 and"),
        (
            "gpt",
            {"model__attention": "bidirectional"},
            "objective.name=causal_lm needs model.attention=causal, not bidir",
        ),
        (
            "bert",
            {"model__attention": "causal"},
            "objective.name=masked_lm needs model.attention=bidirectional, not causal",
        ),
        (
            "gpt",
            {"training__row_length": 65},
            r"sequences of 65 tokens exceed model.max_position_embeddings \(64\); raise it "
            "or lower training.row_length",
        ),
        (
            "bert",
            {"objective__sequence_length": 65, "training__row_length": 80},
            "sequences of 65 .* lower objective.sequence_",
        ),
        (
            "bert",
            {"objective__sequence_length": 49},
            r"objective.sequence_length \(49\) must not exceed training.row_length",
        ),
        ("bert", {"objective__sequence_length": 7}, "objective.sequence_length must be at least 8, not 7"),
        ("bert", {"objective__mask_share": 1.5}, r"objective.mask_share must be in \[0, 1\], not 1.5"),
        ("bert", {"objective__short_share": -0.5}, r"objective.short_share must be in \[0, 1\], not -0.5"),
        ("bert", {"objective__pair_weight": -1}, "objective.pair_weight must be at least 0"),
        ("gpt", {"model__hiden_size": 8}, "unknown setting 'model.hiden_size'; .* Did you mean 'model.hidden_size'"),
        ("gpt", {"objective__pairs": "next"}, "unknown value for objective.pairs: 'next'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(kind, settings, message):
    with pytest.raises(UserError, match=message):
        make_experiment(kind, **settings)


def test_a_row_of_masked_sequences_may_be_longer_than_the_positions():
    assert make_experiment("bert", training__row_length=200).training.row_length == 200


# What is built.


def test_an_experiment_takes_the_vocabulary_of_its_tokenizer(bpe):
    experiment = make_experiment("gpt")
    fitted = experiment.fitted_to(bpe)
    assert fitted.model.vocab_size == len(bpe)
    assert replace(fitted, model=experiment.model) == experiment


def test_a_causal_objective_has_the_tokenizers_ends(bpe):
    assert make_objective(make_experiment("gpt"), bpe) == CausalLM(
        bos_id=bpe.special_id("bos"), eos_id=bpe.special_id("eos")
    )


@pytest.mark.parametrize("whole_words", [True, False])
def test_a_masked_objective_has_every_setting(wordpiece, whole_words):
    experiment = make_experiment(
        "bert",
        objective__mask_share=0.3,
        objective__pairs="sentence_order",
        objective__short_share=0.2,
        objective__pair_weight=0.5,
        objective__whole_words=str(whole_words).lower(),
    )
    made = make_objective(experiment, wordpiece)
    expected = MaskedLM(
        cls_id=wordpiece.special_id("cls"),
        sep_id=wordpiece.special_id("sep"),
        mask_id=wordpiece.special_id("mask"),
        vocab_size=len(wordpiece),
        special_ids=(0, 1, 2, 3, 4),
        continues_word=None,
        mask_share=0.3,
        pairs="sentence_order",
        short_share=0.2,
        pair_weight=0.5,
        length=32,
    )
    assert (made.continues_word is not None) == whole_words
    assert replace(made, continues_word=None) == expected
    if whole_words:
        assert np.array_equal(made.continues_word, wordpiece.continues_word())


def test_a_tokenizer_without_the_special_tokens_is_refused(wordpiece):
    with pytest.raises(UserError, match="this tokenizer has no bos token; it has"):
        make_objective(make_experiment("gpt"), wordpiece)


# How held-out text is measured.


@pytest.fixture(params=["gpt", "bert"])
def measured(request, bpe, wordpiece):
    """Return experiment, objective, corpus and model of a kind."""
    tokenizer = bpe if request.param == "gpt" else wordpiece
    experiment = make_experiment(request.param).fitted_to(tokenizer)
    objective = make_objective(experiment, tokenizer)
    return experiment, objective, corpus_of(TEXTS, tokenizer), Model(experiment.model, objective.heads)


def test_the_same_text_and_masks_are_measured_every_time(measured):
    experiment, objective, corpus, model = measured
    first, second = (make_evaluator(experiment, objective, corpus, tokens=200) for _ in range(2))
    assert first(model) == first(model) == second(model)


def test_a_gpt_is_measured_in_bits_per_byte_of_whole_documents(bpe):
    experiment = make_experiment("gpt").fitted_to(bpe)
    objective, corpus = make_objective(experiment, bpe), corpus_of(TEXTS, bpe)
    model = Model(experiment.model, objective.heads)
    lengths = [len(corpus.document(index)) for index in range(len(corpus))]
    figures = make_evaluator(experiment, objective, corpus, tokens=lengths[0] + lengths[1] + 1)(model)
    predicted = sum(lengths[:3]) + 3  # three documents hold so many; each predicts its end, too
    num_bytes = sum(len(text.encode()) for text in TEXTS[:3])
    assert figures["bits_per_byte"] == pytest.approx(figures["loss"] * predicted / math.log(2) / num_bytes)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["loss"] == pytest.approx(math.log(len(bpe)), abs=0.1)


def test_a_bert_is_measured_on_masks_and_pairs(wordpiece):
    experiment = make_experiment("bert").fitted_to(wordpiece)
    objective, corpus = make_objective(experiment, wordpiece), corpus_of(TEXTS, wordpiece)
    figures = make_evaluator(experiment, objective, corpus, tokens=10**9)(Model(experiment.model, objective.heads))
    assert set(figures) == {"loss", "accuracy", "next_sentence_accuracy"}


@pytest.mark.parametrize(("tokens", "documents"), [(0, 1), (1, 1), (10**9, len(TEXTS))])
def test_whole_documents_are_taken_until_there_are_enough(bpe, tokens, documents):
    experiment = make_experiment("gpt").fitted_to(bpe)
    objective, corpus = make_objective(experiment, bpe), corpus_of(TEXTS, bpe)
    model = Model(experiment.model, objective.heads)
    asked = make_evaluator(experiment, objective, corpus, tokens=tokens)(model)
    cut = corpus_of(TEXTS[:documents], bpe)
    assert asked == make_evaluator(experiment, objective, cut, tokens=10**9)(model)


def test_held_out_batches_are_as_large_as_training_ones(measured):
    experiment, objective, corpus, _ = measured
    batches = held_out_batches(experiment, objective, corpus, np.arange(len(corpus)))
    assert {tuple(batch.input_ids.shape) for batch in batches[:-1]} == {(2, 48)}
    assert batches[-1].input_ids.shape[1] == 48


def test_held_out_text_without_an_example_is_refused_before_training(wordpiece):
    experiment = make_experiment("bert", objective__pairs="sentence_order").fitted_to(wordpiece)
    objective = make_objective(experiment, wordpiece)
    with pytest.raises(
        UserError, match="the held-out text yields no example: sentence pairs need documents of more than"
    ):
        make_evaluator(experiment, objective, corpus_of(["The cat saw the dog."], wordpiece), tokens=100)


# Files.


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_it_is_read_from_a_file_or_a_run(tmp_path, kind):
    experiment = make_experiment(kind, seed=9)
    experiment.save(tmp_path / "experiment.json")
    assert load_experiment(tmp_path) == load_experiment(str(tmp_path / "experiment.json")) == experiment


def test_a_file_that_makes_no_sense_is_refused(tmp_path):
    values = make_experiment("gpt").to_dict()
    values["model"]["attention"] = "bidirectional"
    (tmp_path / "experiment.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"needs model.attention=causal"):
        load_experiment(tmp_path)
    with pytest.raises(UserError, match="there is no file"):
        load_experiment(tmp_path / "nowhere.json")


def test_batches_are_those_of_the_settings(bpe):
    experiment = make_experiment("gpt", training__batch_tokens=192, training__row_length=24).fitted_to(bpe)
    objective, corpus = make_objective(experiment, bpe), corpus_of(TEXTS, bpe)
    [first, second] = next(make_batches(experiment, objective, corpus))
    assert first.input_ids.shape == second.input_ids.shape == (4, 24)
    again = next(make_batches(experiment, objective, corpus))
    other = next(make_batches(replace(experiment, seed=1), objective, corpus))
    assert torch.equal(again[0].input_ids, first.input_ids)
    assert not torch.equal(other[0].input_ids, first.input_ids)
