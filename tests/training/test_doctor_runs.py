"""The loss doctor on real, short trainings in a made-up language: planted faults are found, sound runs are left in peace."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bothways.batch import collate
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import EncodedDocument, gather
from bothways.training.batches import PretrainingBatches
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.doctor.context import context_for
from bothways.training.doctor.doctor import LossDoctor
from bothways.training.trainer import Trainer
from bothways.training.validation import validate

pytestmark = pytest.mark.slow

VOCABULARY, TOPICS, SPECIAL = 256, 8, 4
CAUSAL = CausalLM(bos_id=1, eos_id=2)
MASKED = MaskedLM(
    cls_id=1, sep_id=2, mask_id=3, vocab_size=VOCABULARY, special_ids=(0, 1, 2, 3), length=32, pairs="none"
)
PAIRS = replace(MASKED, pairs="next_sentence")


class ShuffledPairs(MaskedLM):
    """Pairs whose labels are drawn."""

    def sequence(self, first, second, belongs, rng, **rest):
        return super().sequence(first, second, belongs ^ bool(rng.random() < 0.5), rng, **rest)


def write(draw, sentences=8, size=10):
    """Return a document: words of one topic, frequent ones more often, each often followed by the same one."""
    words = SPECIAL + np.arange(VOCABULARY - SPECIAL)
    words = words[words % TOPICS == draw.integers(TOPICS)]
    frequency = 1 / np.arange(1, len(words) + 1)
    drawn = draw.choice(len(words), size=sentences * size, p=frequency / frequency.sum())
    for before, here in pairwise(range(len(drawn))):
        if draw.random() < 0.5:
            drawn[here] = (7 * drawn[before] + 3) % len(words)
    return EncodedDocument(
        input_ids=words[drawn], sentence_starts=np.arange(0, len(drawn), size), num_bytes=4 * len(drawn)
    )


def write_many(number, seed=0):
    draw = np.random.default_rng(seed)
    return [write(draw) for _ in range(number)]


HELD_OUT = gather(write_many(40, seed=1))


def run(
    objective=CAUSAL,
    documents=None,
    *,
    held_out=HELD_OUT,
    prepare_model=None,
    model=None,
    seed=0,
    copies_searched=True,
    **settings,
):
    """Train and return the names of what the doctor finds, each with the step at which it does, and the model."""
    corpus = gather(documents or write_many(1500))
    training = TrainingConfig(
        **{
            "steps": 300,
            "batch_tokens": 512,
            "row_length": 32,
            "precision": "fp32",
            "evaluate_every": 30,
            "learning_rate": 1e-2,
            **settings,
        }
    )
    attention = "causal" if objective is CAUSAL else "bidirectional"
    started = None if model is None else "some model"
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = TransformerConfig(vocab_size=VOCABULARY, max_position_embeddings=32, attention=attention, **shape)
    model = model or Model(config, objective.heads)
    for name, parameter in model.named_parameters():
        if prepare_model:
            prepare_model(name, parameter)
    rows = list(objective.prepare(held_out, np.arange(len(held_out)), 32, np.random.default_rng(0)))
    batches = [collate(rows, length=32)]
    trainer = Trainer(
        training,
        OptimizerConfig(name="adamw", embedding_scale=1.0),
        seed=seed,
        evaluate=lambda model: validate(model, batches, precision="fp32"),
    )
    trained = trainer.fit(model, PretrainingBatches(corpus, objective, training, seed=seed), objective)
    context = context_for(
        training,
        corpus,
        vocab_size=VOCABULARY,
        near_copies_searched=copies_searched,
        masked=objective is not CAUSAL,
        started_from=started,
    )
    return course_of_findings(LossDoctor(context), trained), model


def course_of_findings(doctor, trained):
    """Return the step at which each name is first found, asked after every record as the trainer does."""
    found = {}
    for number in range(len(trained.curve) + 1):
        step = trained.curve[number - 1]["step"] if number else 0
        known = [record for record in trained.evaluations if record["step"] <= step]
        for finding in doctor(trained.curve[:number], known):
            found.setdefault(finding.name, step)
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rate", [3e-3, 3e-2])
def test_sound_causal_runs(seed, rate):
    assert run(seed=seed, steps=150, learning_rate=rate)[0] == {}


@pytest.mark.parametrize("objective", [MASKED, PAIRS], ids=["masked", "pairs"])
def test_sound_masked_runs(objective):
    assert run(objective)[0] == {}


def test_a_learning_rate_that_is_a_hundred_times_too_high():
    found, _ = run(steps=200, learning_rate=1.0)
    assert found["learning_rate_high"] <= 60


def test_a_learning_rate_that_is_a_thousand_times_too_low():
    found, _ = run(steps=200, learning_rate=1e-5)
    assert found == {"learning_rate_low": 20}


def test_weights_that_are_frozen():
    found, _ = run(steps=100, prepare_model=lambda name, weight: weight.requires_grad_("norm.weight" in name))
    assert list(found) == ["not_learning"]


def test_attention_that_passes_nothing_on():
    def silence(name, weight):
        if "o_proj" in name:
            weight.data.zero_()
            weight.requires_grad_(False)

    found, _ = run(MASKED, write_many(4000), prepare_model=silence, steps=250, batch_tokens=2048, learning_rate=3e-3)
    assert list(found) == ["plateau"]


def test_one_document_many_times():
    found, _ = run(documents=write_many(1) * 1500, copies_searched=False, steps=100, evaluate_every=10)
    assert list(found) == ["duplicated_data"]
    assert found["duplicated_data"] <= 50


def test_a_few_documents_learnt_by_heart():
    found, _ = run(documents=write_many(12), steps=200, evaluate_every=20)
    assert {*found} == {"many_epochs", "overfitting"}


def test_labels_of_pairs_that_mean_nothing():
    names = PAIRS.__dataclass_fields__
    shuffled = ShuffledPairs(**{name: getattr(PAIRS, name) for name in names})
    found, _ = run(shuffled, write_many(5000), steps=400, batch_tokens=2048)
    assert list(found) == ["pairs_at_chance"]


def test_steps_of_a_few_tokens():
    assert list(run(batch_tokens=32)[0]) == ["small_batch"]


def test_a_start_from_weights_of_another_tokenizer():
    first, model = run(steps=150)
    again, model = run(model=model, steps=100, learning_rate=1e-3)
    assert first == again == {}
    held_out, documents = ([renumbered(document) for document in write_many(*which)] for which in ((40, 1), (1500, 0)))
    other, _ = run(documents=documents, model=model, steps=100, held_out=gather(held_out))
    assert other == {"tokenizer_mismatch": 1}


def renumbered(document):
    """Return a document as another tokenizer would give it: every word has another id."""
    ids = SPECIAL + (document.input_ids - SPECIAL + 126) % (VOCABULARY - SPECIAL)
    return replace(document, input_ids=ids)
