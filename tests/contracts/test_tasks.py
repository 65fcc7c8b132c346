"""What holds for every file of tasks/, a new one included: examples are made from the names of its columns."""

import dataclasses
import inspect
import itertools
import json
import random

import pytest
import torch

from bothways import discover
from bothways.batch import collate
from bothways.checkpoints.checkpoint import load, save_checkpoint
from bothways.errors import UserError
from bothways.evaluation.evaluate import evaluate_task
from bothways.finetuning import Finetuning, finetune_model
from bothways.model.config import TransformerConfig
from bothways.model.heads import HEADS, Model
from bothways.objectives.causal_lm import CausalLM
from bothways.tasks.task import check_attention, check_examples, get_task
from bothways.text.reading.documents import Record
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.verbs.evaluate import evaluate, predict
from bothways.verbs.finetune import finetune

TOPICS = (("river", "mountain", "forest", "garden"), ("engine", "kernel", "tensor", "signal"))
OTHERS = ("the", "moves", "holds", "reads", "under", "over", "a", "small", "large", "old", "and", "with")

# Columns that need something else than any text, and the perfect predictions of tasks whose answers are no columns.
COLUMNS = {"label": lambda number: ("nature", "machine")[number % 2]}
PERFECT = {
    "retrieval": lambda examples: [{"ranking": [number]} for number in range(len(examples))],
    "minimal_pairs": lambda examples: [{"good": -1.0, "bad": -2.0} for _ in examples],
}
# Worse predictions, where those of other examples would be no worse.
WORSE = {"minimal_pairs": lambda examples: [{"good": -2.0, "bad": -1.0} for _ in examples]}

POSITIONS = 48
TRUNK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
KINDS = {"causal": "bpe", "bidirectional": "wordpiece"}
CASES = [
    (name, attention)
    for name in discover.names("tasks")
    for attention in ([get_task(name).ATTENTION] if get_task(name).ATTENTION else KINDS)
]
TRAINED = [case for case in CASES if get_task(case[0]).TRAINABLE]
trained_only = pytest.mark.parametrize("case", TRAINED, ids="-".join)
measured_only = pytest.mark.parametrize("case", [case for case in CASES if case not in TRAINED], ids="-".join)
STEPS = 30
SETTINGS = Finetuning(
    batch_size=8,
    training=TrainingConfig(steps=STEPS, learning_rate=3e-3, schedule="constant", precision="fp32"),
    optimizer=OptimizerConfig(name="adamw"),
)


def make_text(number, column):
    """Return a text unlike all others, about the topic of its number."""
    rng = random.Random(f"{number} {column}")
    pairs = zip(rng.sample(OTHERS, 4), rng.sample(TOPICS[number % 2], 4), strict=True)
    words = [word for pair in pairs for word in pair][: rng.randint(5, 8)]
    return f"{' '.join(words)} {number} {column}."


def make_examples(task, count):
    return [
        {column: COLUMNS.get(column, lambda n, c=column: make_text(n, c))(number) for column in columns_of(task)}
        for number in range(count)
    ]


def columns_of(task):
    return [*task.INPUTS, *task.ANSWERS]


def perfect(name, task, examples):
    """Return the predictions that say exactly what the examples say."""
    if name in PERFECT:
        return PERFECT[name](examples)
    assert task.ANSWERS, f"say in PERFECT what the best prediction of {name} is"
    return [{column: example[column] for column in task.ANSWERS} for example in examples]


def close(found, expected):
    """Whether two predictions say the same, but for rounding."""
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(close(found[name], expected[name]) for name in found)
    if isinstance(found, str | None):
        return found == expected
    return found == pytest.approx(expected, abs=1e-4)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    """Every test draws the same numbers and computes in float32, whatever ran before it and wherever it runs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.setattr("bothways.training.machine.has_bf16", lambda _: False)


@pytest.fixture(scope="session")
def tokenizers():
    texts = [make_text(number, column) for number in range(100) for column in "ab"]
    return {
        "causal": Tokenizer.train(texts, kind="bpe", vocab_size=320),
        "bidirectional": Tokenizer.train(texts, kind="wordpiece", vocab_size=100),
    }


@pytest.fixture(scope="session")
def folders(tokenizers, tmp_path_factory):
    """Return an untrained checkpoint for each attention; its weights are large, so that no two tokens are alike."""
    found = {attention: tmp_path_factory.mktemp(attention) / "model" for attention in KINDS}
    for attention, folder in found.items():
        torch.manual_seed(0)
        pooling = "last" if attention == "causal" else "mean"
        config = TransformerConfig(
            vocab_size=len(tokenizers[attention]),
            max_position_embeddings=POSITIONS,
            attention=attention,
            pooling=pooling,
            initializer_range=0.1,
            **TRUNK,
        )
        save_checkpoint(folder, Model(config, {"language_model": 0}), tokenizer=tokenizers[attention])
    return found


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    return request.param


@pytest.fixture
def name(case):
    return case[0]


@pytest.fixture
def attention(case):
    return case[1]


@pytest.fixture
def examples(name):
    return make_examples(get_task(name), 16)


@pytest.fixture
def task(name, examples):
    return get_task(name).fitted_to(examples)


@pytest.fixture
def loaded(task, attention, folders):
    torch.manual_seed(0)
    return load(folders[attention], heads=task.heads())


# What it says of itself


def test_it_describes_itself(name, task):
    module = discover.find("tasks", name)
    assert inspect.getdoc(module)
    assert type(task).__name__.lower() == name.replace("_", "")
    assert all(meaning for meaning in {**task.INPUTS, **task.ANSWERS}.values())
    assert not task.INPUTS.keys() & task.ANSWERS.keys()
    assert task.BASELINE
    assert task.heads().keys() <= HEADS.keys()


def test_it_is_restored_to_what_it_was_when_it_was_saved(name, task, examples):
    assert get_task(name).restored(getattr(task, "labels", None)) == task
    assert task.fitted_to(examples) == task
    assert task.fitted_to(examples[::-1]) == task


def test_models_that_read_the_other_way_are_refused(name, task, attention):
    there = {value: TransformerConfig(vocab_size=9, attention=value) for value in KINDS}
    check_attention(task, name, there[attention])
    for other in KINDS.keys() - {task.ATTENTION} if task.ATTENTION else ():
        with pytest.raises(UserError, match=f"{name} needs a .* model, and this one is {other}"):
            check_attention(task, name, there[other])


# Rows to learn from


@trained_only
def test_rows_hold_targets_that_the_objective_reads(task, loaded, examples):
    heads = task.objective().heads
    for example in examples:
        row = task.render(example, loaded.tokenizer, loaded.model.config)
        assert row.targets
        assert row.targets.keys() <= heads.keys()
        assert row.input_ids.min() >= 0
        assert row.input_ids.max() < loaded.model.config.vocab_size
        for target in row.targets.values():
            assert len(target.index) == len(target.value) > 0
            assert 0 <= target.index.min() <= target.index.max() < len(row)


@trained_only
def test_rows_do_not_tell_the_answer_to_what_reads_them(task, loaded, examples):
    """Where an answer is a class, the input is the same whatever it is; where it is written, nobody sees ahead."""
    if isinstance(task.objective(), CausalLM):
        for example in examples:
            row = task.render(example, loaded.tokenizer, loaded.model.config)
            assert (row.reach == range(len(row))).all()
        return
    for one, other in itertools.pairwise(examples):
        swapped = {**one, **{column: other[column] for column in task.ANSWERS}}
        rows = [task.render(each, loaded.tokenizer, loaded.model.config) for each in (one, swapped)]
        assert rows[0].input_ids.tolist() == rows[1].input_ids.tolist()


@trained_only
@pytest.mark.parametrize("positions", [POSITIONS, 16, 512])
def test_a_very_long_text_is_cut_to_what_the_model_can_hold(task, loaded, examples, positions):
    config = dataclasses.replace(loaded.model.config, max_position_embeddings=positions)
    for column in columns_of(task):
        if column in COLUMNS:
            continue
        long = " ".join(make_text(number, column) for number in range(500))
        for example in ({**examples[0], column: long}, {**examples[0], **dict.fromkeys(task.INPUTS, long)}):
            row = task.render(example, loaded.tokenizer, config)
            assert row.position_ids.max() < positions
            assert all(len(target.index) > 0 for target in row.targets.values())
            assert all(target.index.max() < len(row) for target in row.targets.values())


def test_a_very_long_text_can_be_answered_or_is_refused(task, loaded, examples):
    long = {column: " ".join(make_text(number, column) for number in range(300)) for column in task.INPUTS}
    if not task.TRAINABLE:
        with pytest.raises(UserError, match="reads at most"):
            task.predict(loaded, [examples[1], {**examples[0], **long}])
        return
    assert len(task.predict(loaded, [{**examples[0], **long}, examples[1]])) == 2


@trained_only
def test_the_loss_is_finite_and_its_counts_are_told_before(task, loaded, examples):
    batch = collate([task.render(example, loaded.tokenizer, loaded.model.config) for example in examples])
    objective = task.objective()
    losses = objective.loss(loaded.model, batch)
    assert objective.counts(batch) == {name: loss.count for name, loss in losses.items()}
    assert all(loss.sum.isfinite() and loss.count > 0 for loss in losses.values())


@trained_only
def test_some_steps_lower_the_loss(task, loaded, examples):
    settings = dataclasses.replace(SETTINGS, batch_size=len(examples))
    curve = finetune_model(task, loaded, examples, settings=settings).curve
    assert curve[-1]["step"] == STEPS
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


# Predictions


def test_there_is_one_prediction_for_each_example_and_they_are_plain(task, loaded, examples):
    predictions = task.predict(loaded, examples)
    assert len(predictions) == len(examples)
    assert all(prediction.keys() == predictions[0].keys() for prediction in predictions)
    json.dumps(
        [{key: getattr(value, "tolist", lambda v=value: v)() for key, value in each.items()} for each in predictions]
    )
    assert task.predict(loaded, examples)[0].keys() >= task.ANSWERS.keys()


def test_predictions_are_the_same_again_and_without_the_answers(task, loaded, examples):
    first = task.predict(loaded, examples, seed=3)
    questions = [{column: example[column] for column in task.INPUTS} for example in examples]
    assert all(map(close, task.predict(loaded, questions, seed=3), first))


def test_a_prediction_does_not_depend_on_its_neighbours(task, loaded, examples):
    if task.PACKS_ALL:
        pytest.skip("its examples are one collection, in which each is looked for")
    together = task.predict(loaded, examples)
    assert all(
        close(task.predict(loaded, [example])[0], found) for example, found in zip(examples, together, strict=True)
    )
    assert all(map(close, task.predict(loaded, examples[::-1]), together[::-1]))


def test_the_model_is_left_as_it_was(task, loaded, examples):
    loaded.model.train()
    before = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    state = torch.get_rng_state()
    task.predict(loaded, examples)
    assert loaded.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.named_parameters())


# Figures


def test_the_perfect_prediction_has_the_best_figures(name, task, examples):
    found = task.measure(perfect(name, task, examples), examples)
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-6)
    best = perfect(name, task, examples)
    worse = task.measure(WORSE[name](examples) if name in WORSE else best[1:] + best[:1], examples)
    assert worse[task.MONITOR] < 0.9
    assert all(0 <= value <= found[name] for name, value in worse.items())


def test_the_scores_of_the_examples_have_the_figures_as_their_mean(name, task, loaded, examples):
    for predictions in (task.predict(loaded, examples), task.baseline(examples), perfect(name, task, examples)):
        figures, each = task.measure(predictions, examples), task.measure_each(predictions, examples)
        assert task.MONITOR in figures
        assert each.keys() <= figures.keys()
        assert all(type(value) is float for value in figures.values())
        for figure, scores in each.items():
            assert len(scores) == len(examples)
            assert sum(scores) / len(scores) == pytest.approx(figures[figure], abs=1e-6), figure


def test_every_figure_lies_in_its_interval_beside_a_baseline(name, task, loaded, examples):
    scores = evaluate_task(
        task, name, task.predict(loaded, examples), examples, model="tiny", attention=loaded.model.config.attention
    )
    for figure, found in scores.metrics.items():
        assert found.low <= found.value <= found.high, figure
    assert scores.baseline.keys() == scores.metrics.keys()
    assert scores.n == len(examples)
    assert json.loads(json.dumps(scores.to_dict()))["baseline"]["name"] == task.BASELINE


def test_the_baseline_does_not_read_the_answer_of_the_very_example(task, examples):
    """A baseline may count answers, as the commonest label does, but never copy them."""
    assert len(task.baseline(examples)) == len(examples)
    rotated = [
        {**one, **{column: other[column] for column in task.ANSWERS}}
        for one, other in zip(examples, examples[2:] + examples[:2], strict=True)
    ]
    assert all(map(close, task.baseline(rotated), task.baseline(examples)))


# Bad input


@pytest.mark.parametrize("value", ["", " \n", None, ["a", "list"], {"a": 1}, True, "missing", 5])
def test_a_column_without_text_is_refused_by_name(name, value):
    task = get_task(name)
    for column in columns_of(task):
        if value == 5 and column == "label":
            continue  # a class may be a number
        values = {**make_examples(task, 2)[1], column: value}
        if value == "missing":
            del values[column]
        records = [
            Record(values=make_examples(task, 1)[0], source="a.jsonl:1"),
            Record(values=values, source="a.jsonl:2"),
        ]
        with pytest.raises(UserError, match=rf"a\.jsonl:2: .*'{column}'"):
            check_examples(task, records, answers=True)


def test_only_what_is_needed_is_asked_for(name):
    task = get_task(name)
    inputs = [{column: example[column] for column in task.INPUTS} for example in make_examples(task, 3)]
    found = check_examples(task, [Record(values=values, source="x") for values in inputs], answers=False)
    assert found == inputs
    if task.ANSWERS:
        with pytest.raises(UserError, match=next(iter(task.ANSWERS))):
            check_examples(task, [Record(values=values, source="x") for values in inputs], answers=True)


def test_no_example_at_all_is_refused(name):
    task = get_task(name)
    with pytest.raises(UserError, match="not one example.*" + ", ".join(columns_of(task))):
        check_examples(task, [], answers=True)


# All the way, as a user goes


@trained_only
def test_from_files_over_a_run_to_scores(name, attention, folders, tmp_path):
    task = get_task(name)
    examples = make_examples(task, 16)
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")
    settings = ["training.steps=8", "training.evaluate_every=4", "training.learning_rate=0.003"]
    run = tmp_path / "run"
    done = finetune(name, model=folders[attention], train=file, validation=file, out=run, settings=settings)
    assert len(done.trained.evaluations) == 2
    assert (run / "best" / "model.safetensors").exists()
    scores = evaluate(name, model=run, test=file, out=tmp_path / "scores.json")
    best = max(evaluation[task.MONITOR] for evaluation in done.trained.evaluations)
    assert scores.metrics[task.MONITOR].value == pytest.approx(best, abs=1e-6)
    assert json.loads((tmp_path / "scores.json").read_text()) == scores.to_dict()
    predictions = predict(name, model=run, examples=file)
    assert all(map(close, predict(name, model=run, examples=examples), predictions))
    measured = task.restored(load(run).labels).measure(predictions, examples)
    assert measured == pytest.approx({figure: found.value for figure, found in scores.metrics.items()})


@measured_only
def test_what_is_not_trained_says_so_and_measures_a_pretrained_model(name, task, folders, attention, tmp_path):
    examples = make_examples(task, 16)
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")
    with pytest.raises(UserError, match="for evaluation only"):
        task.objective()
    with pytest.raises(UserError, match="for evaluation only"):
        finetune(name, model=folders[attention], train=file, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    scores = evaluate(name, model=folders[attention], test=file, out=tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == scores.to_dict()
    predictions = predict(name, model=folders[attention], examples=file)
    measured = task.measure(predictions, examples)
    assert measured == pytest.approx({figure: found.value for figure, found in scores.metrics.items()})
