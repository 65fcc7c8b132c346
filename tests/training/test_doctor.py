"""The loss doctor on recorded trainings, on losses made for one rule each, and what it knows of a corpus."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from bothways.recipes.recipe import recipe
from bothways.text.shards import Corpus
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.doctor.context import SAMPLE_TOKENS, Context, context_for, usual_rate
from bothways.training.doctor.course import Course
from bothways.training.doctor.doctor import LossDoctor
from bothways.training.run import Doctor

# Trainings of gpt-tiny and bert-tiny on English novels; what was wrong with them stands in their names.
COURSES = json.loads((Path(__file__).parent / "doctor_courses.json").read_text(encoding="utf-8"))
SOUND = [name for name in COURSES if name.startswith(("gpt", "bert"))]
FAULTS = {  # name of the course: what must be found, by which share of the run
    "learning rate x100": ("learning_rate_high", 0.1),
    "learning rate x0.001": ("learning_rate_low", 0.1),
    "learning rate x0.01": ("learning_rate_low", 0.1),
    "one document 200 times": ("duplicated_data", 0.1),
    "four short documents": ("overfitting", 0.7),
    "batches of 128 tokens": ("small_batch", 0.6),
    "Chinese text, English tokenizer": ("tokenizer_mismatch", 0.0),
}


def recorded(name):
    """Return context, curve and evaluations of a recorded training."""
    course = COURSES[name]
    names = ("steps", "batch_tokens", "row_length", "learning_rate")
    context = Context(
        training=TrainingConfig(**{key: course[key] for key in names}),
        vocab_size=course["vocab_size"],
        unigram_loss=course["unigram_loss"],
        tokens_per_epoch=course["tokens_per_epoch"],
        tokens_per_document=course["tokens_per_document"],
        bytes_per_token=course["bytes_per_token"],
        used_ids=course["used_ids"],
        sampled_tokens=course["sampled"],
        masked=course["loss_name"] == "masked_lm",
    )
    steps = [course["every"] * (number + 1) for number in range(len(course["losses"]))]
    curve = [
        {"step": step, "tokens": step * course["batch_tokens"], "loss": loss, course["loss_name"]: loss}
        | {"gradient_norm": norm, "learning_rate": course["learning_rate"]}
        for step, loss, norm in zip(steps, course["losses"], course["gradient_norms"], strict=True)
    ]
    for record, pair in zip(curve, course.get("next_sentence", []), strict=False):
        record["next_sentence"] = pair
    return context, curve, [{"step": int(step), "loss": loss} for step, loss in course["evaluations"].items()]


def said(context, curve, evaluations):
    """Return each finding's name with the step of the record after which it is first made."""
    doctor, found = LossDoctor(context), {}
    for number in range(len(curve) + 1):
        step = curve[number - 1]["step"] if number else 0
        for finding in doctor(curve[:number], [record for record in evaluations if record["step"] <= step]):
            found.setdefault(finding.name, step)
    return found


@pytest.mark.parametrize("name", SOUND)
def test_sound_trainings_are_left_in_peace_at_every_step(name):
    assert said(*recorded(name)) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_in_time(name):
    context, curve, evaluations = recorded(name)
    expected, share = FAULTS[name]
    assert said(context, curve, evaluations)[expected] <= share * context.steps + curve[0]["step"]


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_without_gradient_norms(name):
    context, curve, evaluations = recorded(name)
    bare = [{key: value for key, value in record.items() if key != "gradient_norm"} for record in curve]
    assert FAULTS[name][0] in said(context, bare, evaluations)


def test_small_batches_are_told_from_wild_learning_rates():
    assert {*said(*recorded("batches of 128 tokens"))} == {"small_batch"}
    assert {*said(*recorded("learning rate x100"))} == {"learning_rate_high", "divergence"}


def test_every_recorded_training_is_tested():
    assert {*SOUND, *FAULTS} == {*COURSES}
    assert len(SOUND) >= 6


def context(**settings):
    """Return the context of a long run of good settings on good text."""
    known = {"vocab_size": 8192, "unigram_loss": 6.8, "tokens_per_epoch": 1e9, "bytes_per_token": 4.0}
    training = {"steps": 1000, **{name: settings.pop(name) for name in list(settings) if name in TRAINING}}
    return Context(**{**known, "training": TrainingConfig(**training), **settings})


TRAINING = {*TrainingConfig().to_dict()}


def curve(losses, *, name="causal_lm", steps=1000, norm=0.5, tokens=4096, **columns):
    """Return records that lie evenly in a run: [records] losses, and further columns, of numbers or of one."""
    at = np.linspace(steps / len(losses), steps, len(losses)).astype(int)
    columns = {"gradient_norm": norm, **columns}
    return [
        {"step": int(step), "tokens": int(step) * tokens, name: float(loss), "loss": float(loss)}
        | {key: float(np.broadcast_to(value, len(losses))[number]) for key, value in columns.items()}
        for number, (step, loss) in enumerate(zip(at, losses, strict=True))
    ]


def falling(records=100, *, start=9.0, end=3.5, noise=0.03):
    """Return losses as they fall when all is well."""
    draw = np.random.default_rng(0)
    return end + (start - end) * np.exp(-np.linspace(0, 6, records)) + noise * draw.standard_normal(records)


def names(context, curve, evaluations=()):
    return [finding.name for finding in LossDoctor(context)(curve, list(evaluations))]


def text(context, curve, evaluations=()):
    (finding,) = LossDoctor(context)(curve, list(evaluations))
    return finding.text


def test_is_a_doctor_of_the_trainer():
    doctor: Doctor = LossDoctor(context())
    assert list(doctor([], [])) == []


def test_a_good_course_gives_nothing_and_the_same_again():
    doctor = LossDoctor(context(learning_rate=0.5))
    assert list(doctor(curve(falling()), [{"step": 1000, "loss": 3.6}])) == []
    bad = curve(falling(end=9.5, start=9.0, noise=0.1))
    assert list(doctor(bad, [])) == list(doctor(bad, [])) != []


class TestPlateau:
    STUCK = np.concatenate([np.linspace(9, 6.8, 20), 6.8 + 0.02 * np.random.default_rng(0).standard_normal(60)])

    def test_at_the_loss_of_frequencies(self):
        assert names(context(), curve(self.STUCK)) == ["plateau"]
        assert "6.80" in text(context(), curve(self.STUCK))

    @pytest.mark.parametrize("shift", [-0.5, 0.7])
    def test_not_elsewhere(self, shift):
        assert "plateau" not in names(context(), curve(self.STUCK + shift))

    def test_not_where_held_out_text_is_learnt(self):
        assert names(context(), curve(self.STUCK), [{"step": 900, "loss": 6.3}]) == []
        assert names(context(), curve(self.STUCK), [{"step": 900, "loss": 6.75}]) == ["plateau"]

    def test_not_while_the_loss_falls_through_it(self):
        assert names(context(), curve(np.linspace(9, 6.7, 50), steps=500)) == []

    def test_not_before_enough_was_predicted(self):
        assert names(context(), curve(self.STUCK, tokens=40)) == []

    def test_a_masked_model_that_sees_a_fifth_of_the_tokens_gets_a_little_lower(self):
        masked = context(masked=True)
        assert masked.blind_loss == pytest.approx(0.9 * 6.8 + 0.2 * np.log(2))
        stuck = curve(self.STUCK - 0.5, name="masked_lm")
        assert names(masked, stuck) == ["plateau"]
        assert names(context(), stuck) == []

    @pytest.mark.parametrize(
        ("rate", "norm", "noise", "words"),
        [
            (4e-3, 1e-6, 0.02, "dead or frozen"),
            (4e-4, 0.5, 0.02, "The learning rate is low. Try --set training.learning_rate=0.002"),
            (4e-3, 20.0, 0.17, "the learning rate is too high. Try --set training.learning_rate=0.0013"),
            (4e-3, 0.5, 0.02, "Attention passes nothing on"),
        ],
    )
    def test_the_cause_goes_by_the_evidence(self, rate, norm, noise, words):
        draw = np.random.default_rng(1)
        losses = np.concatenate([np.linspace(9, 6.8, 20), 6.8 + noise * draw.standard_normal(300)])
        assert words in text(context(learning_rate=rate), curve(losses, norm=norm))

    def test_a_rate_is_low_for_the_optimizer_and_the_model(self):
        losses = np.concatenate([np.linspace(9, 6.8, 20), np.full(300, 6.8)])
        assert "The learning rate is low" in text(context(learning_rate=1e-4), curve(losses))
        usual = usual_rate(OptimizerConfig(name="adamw"), recipe("bert-base-uncased").model)
        assert usual == recipe("bert-base-uncased").training.learning_rate
        assert "The learning rate is low" not in text(context(learning_rate=1e-4, usual_rate=usual), curve(losses))


class TestDivergence:
    def test_a_loss_that_comes_back_above_frequencies(self):
        losses = np.concatenate([falling(50), np.linspace(3.6, 7.6, 20)])
        norms = np.concatenate([np.full(50, 0.5), np.full(20, 8.0)])
        found = text(context(), curve(losses, steps=700, norm=norms))
        assert "training diverges" in found
        assert "gradient norm from 0.5 to 8" in found
        assert "--set training.learning_rate=0.0013" in found

    def test_a_small_rise_needs_the_held_out_loss(self):
        losses = np.concatenate([falling(50), np.full(20, 4.5)])
        seen = curve(losses, steps=700)
        rising = [{"step": 400, "loss": 3.7}, {"step": 700, "loss": 4.4}]
        assert names(context(), seen, rising) == ["divergence"]
        assert names(context(), seen, [{"step": 400, "loss": 3.7}, {"step": 700, "loss": 3.6}]) == []
        again = context(tokens_per_epoch=700 * 4096 / 2)
        assert "divergence" not in names(again, seen, rising)

    def test_one_hard_document_is_none(self):
        losses = np.concatenate([falling(50), np.full(20, 4.5)])
        seen, rising = curve(losses, steps=700), [{"step": 400, "loss": 3.7}, {"step": 700, "loss": 4.4}]
        assert names(context(tokens_per_document=5 * 40960 / 3), seen, rising) == []
        assert names(context(tokens_per_document=5 * 40960 / 5), seen, rising) == ["divergence"]

    def test_other_text_for_a_while_is_none(self):
        losses = falling()
        losses[60:64] += 1.2
        assert said(context(), curve(losses), []) == {}


class TestLearningRate:
    def test_far_too_high(self):
        draw = np.random.default_rng(0)
        losses = 12 + 2 * draw.standard_normal(30)
        losses[0] = 9.0
        assert text(context(learning_rate=0.4), curve(losses, steps=300)).endswith("--set training.learning_rate=0.04.")

    def test_high_start_that_falls_is_not(self):
        losses = 9.0 + 3 * np.exp(-np.linspace(0, 4, 30))
        assert names(context(learning_rate=0.4), curve(losses, steps=30 * 3)) == []

    def test_wild_losses_and_large_gradients(self):
        losses = 6.6 + 0.8 * np.random.default_rng(0).standard_normal(50)
        assert names(context(), curve(losses, steps=500, norm=20.0)) == ["learning_rate_high"]
        assert names(context(), curve(losses, steps=500, norm=0.7)) == []

    def test_too_low_is_said_after_a_tenth(self):
        losses = np.linspace(9.01, 8.8, 100)
        low = context(learning_rate=1e-5)
        assert said(low, curve(losses), []) == {"learning_rate_low": 100}
        assert "--set training.learning_rate=0.0001" in text(low, curve(losses[:20], steps=200))

    def test_a_slow_fall_that_will_not_get_there(self):
        slow = curve(9.0 - np.linspace(0, 0.6, 30), steps=300)
        assert names(context(learning_rate=1e-3), slow) == ["learning_rate_low"]
        fast = curve(9.0 - np.linspace(0, 1.5, 30), steps=300)
        assert names(context(learning_rate=1e-3), fast) == []

    def test_a_usual_rate_that_does_nothing_has_another_cause(self):
        losses = np.full(30, 9.0)
        assert names(context(), curve(losses, steps=300)) == ["not_learning"]
        assert "gradients are next to 0" in text(context(), curve(losses, steps=300, norm=0.0))

    def test_nothing_is_said_of_a_model_that_goes_on(self):
        assert names(context(started_from="old", unigram_loss=9.5), curve(np.full(30, 9.0), steps=300)) == []

    def test_nothing_is_said_of_a_few_steps(self):
        assert names(context(steps=19), curve(np.full(19, 9.0), steps=19)) == []
        assert names(context(steps=20), curve(np.full(20, 9.0), steps=20)) == ["not_learning"]


class TestHeldOut:
    def test_overfitting(self):
        repeated = context(tokens_per_epoch=1e6)
        rising = [
            {"step": 100 * number, "loss": loss} for number, loss in enumerate([6, 5, 4.5, 4.6, 4.7, 4.8], start=1)
        ]
        seen = curve(falling(60, end=2.0), steps=600)
        assert names(repeated, seen, rising) == ["overfitting"]
        assert "--set training.steps=300" in text(repeated, seen, rising)
        assert names(repeated, seen, rising[:5]) == []
        back = [*rising[:5], {"step": 600, "loss": 4.4}]
        assert names(repeated, seen, back) == []
        assert names(context(), seen, rising) == ["duplicated_data"]  # before the text was seen again

    def test_not_while_training_rises_too(self):
        rising = [{"step": 100 * number, "loss": loss} for number, loss in enumerate([4.0, 4.1, 4.2, 4.3], start=1)]
        assert names(context(tokens_per_epoch=1e6), curve(3.5 + np.linspace(0, 0.3, 40), steps=400), rising) == []

    def test_copies(self):
        seen = curve(falling(60, end=0.5), steps=600)
        held_out = [{"step": 600, "loss": 5.5}]
        assert "training" in text(context(), seen, held_out)
        assert "bothways inspect" in text(context(), seen, held_out)
        assert "deduplication.near=true" in text(context(near_copies_searched=False), seen, held_out)
        assert names(context(), seen, [{"step": 600, "loss": 1.4}]) == []

    def test_one_document_that_is_learnt_while_it_lasts_is_no_copy(self):
        seen, held_out = curve(falling(60, end=3.0), steps=600), [{"step": 600, "loss": 5.0}]
        assert names(context(tokens_per_document=5 * 40960 / 3), seen, held_out) == []
        assert names(context(tokens_per_document=5 * 40960 / 5), seen, held_out) == ["duplicated_data"]
        assert names(context(tokens_per_document=5 * 40960 / 3), seen, [{"step": 600, "loss": 6.5}]) == [
            "duplicated_data"
        ]

    def test_a_hybrid_is_compared_one_way(self):
        seen = curve(falling(60, end=3.0), steps=600)
        both = {"step": 600, "loss": 4.8, "causal_loss": 3.2, "masked_loss": 6.4}
        assert names(context(), seen, [both]) == []

    @pytest.mark.parametrize("loss", [4.0, 3.4])
    def test_steps_down_at_the_borders_of_epochs(self, loss):
        repeated = context(tokens_per_epoch=200 * 4096)
        losses = 3.6 - 0.3 * (np.arange(60) // 20) + 0.02 * np.random.default_rng(0).standard_normal(60)
        held_out = [{"step": 300, "loss": 4.0}, {"step": 600, "loss": loss}]
        found = names(repeated, curve(losses, steps=600), held_out)
        assert found == (["overfitting"] if loss == 4.0 else [])
        assert names(repeated, curve(falling(60), steps=600), held_out[:1]) == []


class TestStart:
    def test_a_model_of_another_tokenizer(self):
        seen = curve(falling(100, start=8.5))
        said = text(context(started_from="old"), seen)
        assert "old was hardly trained itself, or its weights belong to another tokenizer" in said
        assert "--tokenizer old" in said
        assert names(context(started_from="old"), curve(falling(100, start=5.0))) == []
        assert names(context(), seen) == []

    def test_a_loss_above_that_of_blind_guessing_has_one_cause(self):
        far, near = (curve(falling(100, start=context().uniform_loss + more)) for more in (1.0, -0.1))
        assert names(context(started_from="old"), far) == ["tokenizer_mismatch"]
        assert "hardly trained" not in text(context(started_from="old"), far)
        assert names(context(started_from="old"), near) == ["weak_start"]

    @pytest.mark.parametrize("text_of", [{"unknown_share": 0.3}, {"bytes_per_token": 1.06}])
    def test_a_tokenizer_of_another_language(self, text_of):
        assert names(context(language="zh", **text_of), []) == ["tokenizer_mismatch"]

    def test_few_of_its_tokens_in_use(self):
        mixed = {"bytes_per_token": 2.05, "used_ids": 0.17}
        assert names(context(sampled_tokens=10**6, **mixed), []) == ["tokenizer_mismatch"]
        assert names(context(sampled_tokens=10**4, **mixed), []) == []
        assert names(context(sampled_tokens=10**6, bytes_per_token=4.0, used_ids=0.17), []) == []

    def test_tokens_of_bytes_are_short_by_design(self):
        assert names(context(vocab_size=260, unigram_loss=3.2, bytes_per_token=1.0), []) == []

    def test_epochs(self):
        often = {"steps": 1000, "batch_tokens": 4096, "tokens_per_epoch": 1000 * 4096 / 20}
        assert "20 times" in text(context(**often), [])
        assert "--set training.steps=500" in text(context(**often), [])
        assert names(context(masked=True, **often), []) == []

    def test_warmup(self):
        assert names(context(warmup_share=0.7, decay_share=0.4), []) == ["warmup_too_long"]
        assert names(context(warmup_share=0.4, schedule="cosine"), []) == []
        assert names(context(warmup_share=0.7, decay_share=0.2, schedule="linear"), []) == ["warmup_too_long"]

    def test_a_fall_that_begins_before_the_peak(self):
        assert names(context(warmup_share=0.05, decay_share=1.0), []) == []  # a line to the end, nearly from the peak
        assert names(context(warmup_share=0.4, decay_share=0.8), []) == ["decay_too_long"]
        found = text(context(warmup_share=0.4, decay_share=0.8), [])
        assert "drops to 75% at once" in found
        assert "--set training.decay_share=0.6" in found


class TestTextThatChanged:
    """A run that was resumed with other text is judged by that text alone."""

    SINCE = MappingProxyType({"step": 900, "tokens": 900 * 65_536})

    def test_only_what_is_still_to_come_is_counted_in_epochs(self):
        small = context(steps=1000, batch_tokens=65_536, tokens_per_epoch=5e6)
        assert [finding.name for finding in LossDoctor(small)([], [])] == ["many_epochs"]
        assert list(LossDoctor(small)([], [], self.SINCE)) == []
        smaller = replace(small, tokens_per_epoch=5e5)
        [found] = LossDoctor(smaller)([], [], self.SINCE)
        assert "13 times" in found.text
        assert "--set training.steps=976" in found.text

    def test_a_harder_text_is_no_divergence(self):
        losses = np.where(np.arange(100) < 90, falling(end=1.4), 3.7)
        records = curve(losses, tokens=65_536)
        assert "divergence" in names(context(), records, [{"step": 1000, "loss": 3.8}])
        assert list(LossDoctor(context())(records, [{"step": 1000, "loss": 3.8}], self.SINCE)) == []


def test_a_hybrid_is_compared_with_the_held_out_loss_of_the_same_kind():
    losses = falling(end=2.8)
    records = curve(losses, name="masked_lm")
    for number in range(0, len(records), 3):  # a third of the steps has causal sequences
        records[number]["causal_lm"] = records[number]["loss"] + 1.4
    evaluations = [{"step": 1000, "loss": 3.5, "causal_loss": 4.2, "masked_loss": 2.85}]
    assert names(context(), records, evaluations) == []


class TestSteps:
    def test_not_finite(self):
        losses = falling()
        losses[50] = np.nan
        assert text(context(), curve(losses)).startswith("at least 1 of the steps")
        assert text(context(), curve(falling(), skipped=3)).startswith("3 of the steps")
        assert names(context(), curve(falling(), norm=np.inf))[0] == "non_finite"

    def test_small_batches(self):
        noisy = falling(noise=0.6)
        assert names(context(batch_tokens=128), curve(noisy)) == ["small_batch"]
        assert "--set training.batch_tokens=1024" in text(context(batch_tokens=128), curve(noisy))
        assert names(context(batch_tokens=128), curve(falling(noise=0.2))) == []

    def test_pairs(self):
        masked = context(masked=True, row_length=128)
        pairs = 0.693 + 0.02 * np.random.default_rng(0).standard_normal(100)
        seen = curve(falling(), name="masked_lm", next_sentence=pairs)
        assert names(masked, seen) == ["pairs_at_chance"]
        assert names(masked, seen[:45]) == []  # too early
        assert names(masked, curve(falling(), name="masked_lm", sentence_order=pairs)) == ["pairs_at_chance"]
        assert names(masked, curve(falling(), name="masked_lm", next_sentence=pairs - 0.015)) == []
        assert names(masked, curve(falling(), name="masked_lm", next_sentence=pairs, tokens=2500)) == []  # too few
        assert names(masked, seen, [{"step": 1000, "loss": 3.5, "next_sentence_accuracy": 0.7}]) == []
        assert "pairs_at_chance" not in names(masked, curve(falling(end=6.6), name="masked_lm", next_sentence=pairs))


class TestCourse:
    def test_what_is_not_there_is_not_judged(self):
        course = Course([{"step": 1, "tokens": 2, "loss": 3.0}])
        assert np.isnan(course.gradient_norms).all()
        assert course.skipped == course.not_finite == 0

    def test_a_trend_knows_how_sure_it_is(self):
        draw = np.random.default_rng(0)
        falls = []
        for _ in range(200):
            trend = Course(curve(np.linspace(5, 4, 50) + 0.3 * draw.standard_normal(50))).trend(0)
            falls.append((trend.fall - 1) / trend.error)
        assert np.std(falls) == pytest.approx(1, abs=0.15)
        assert np.mean(falls) == pytest.approx(0, abs=0.2)

    def test_noise_is_that_of_the_records(self):
        assert Course(curve(falling(400, noise=0.2))).noise == pytest.approx(0.2, rel=0.35)


class TestContext:
    def test_of_a_whole_small_corpus(self, make_corpus, make_training):
        corpus = make_corpus([[[4, 4, 4, 5]], [[1, 4, 6, 6]]])
        known = context_for(make_training(), corpus, vocab_size=8, unknown_id=1)
        share = np.array([4, 1, 1, 2]) / 8
        assert known.unigram_loss == pytest.approx(float(-(share * np.log(share)).sum()))
        assert known.unknown_share == 1 / 8
        assert known.used_ids == 4 / 8
        assert known.sampled_tokens == known.tokens_per_epoch == 8
        assert known.bytes_per_token == corpus.num_bytes / 8

    def test_long_documents_count_more(self, make_corpus, make_training):
        corpus = make_corpus([[[4] * 10], [[4] * 15, [4] * 15]])
        known = context_for(make_training(), corpus, vocab_size=8)
        assert known.tokens_per_document == pytest.approx(10 * 0.25 + 30 * 0.75)

    def test_a_mixture_counts_by_weight(self, make_corpus, make_training):
        short, long = make_corpus([[[4] * 10]]), make_corpus([[[5] * 90]])
        known = context_for(make_training(), [(short, 3.0), (long, 1.0)], vocab_size=8)
        assert known.unigram_loss == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
        assert known.tokens_per_epoch == pytest.approx(10 / 0.75)

    def test_epochs_are_those_of_all_steps(self, make_corpus, make_training):
        known = context_for(make_training(steps=10), make_corpus([[[4] * 64]]), vocab_size=8)
        assert known.epochs == pytest.approx(10)

    def test_a_sample_is_spread_over_all_shards(self, make_corpus, make_training, monkeypatch):
        monkeypatch.setattr("bothways.training.doctor.context.SAMPLE_TOKENS", 2000)
        shards = [make_corpus([[[token] * 10_000]]).shards[0] for token in (4, 5, 6, 7)]
        first, again = (context_for(make_training(), Corpus(shards), vocab_size=8) for _ in range(2))
        assert first == again
        assert first.used_ids == 0.5
        assert first.unigram_loss == pytest.approx(np.log(4), abs=0.01)
        assert 2000 <= first.sampled_tokens < 2600

    def test_a_sample_is_no_larger_than_it_may_be(self):
        assert SAMPLE_TOKENS <= 2_000_000

    def test_of_nothing(self, make_training):
        known = context_for(make_training(), Corpus([]), vocab_size=8)
        assert known == Context(training=make_training(), vocab_size=8)
        assert known.epochs == 0
        assert list(LossDoctor(replace(known))(curve(falling()), [])) == []
