"""What holds for every file of metrics/, a new one included: the inputs are chosen by the names of its parameters."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

from bothways import discover
from bothways.errors import UserError

# Texts that serve as labels, translations, summaries and answers alike: long enough for BLEU, all different.
TEXTS = (
    "The cat sat on the mat this morning.",
    "Nobody expects seven purple elephants, does one?",
    "我们今天去北京旅游。",
    "他喜欢在晚上读历史书。",
)
TAGS = (("B-PER", "I-PER", "O"), ("O", "B-LOC", "B-LOC"), ("O", "O", "S-ORG"))
GRADES = ({"a": 2, "b": 1}, {"c": 1}, {"d": 3, "e": 2, "f": 1})
SLOW = ("torch", "sklearn", "sacrebleu", "rouge_score", "nltk", "ir_measures", "transformers", "numpy")


@dataclasses.dataclass
class Case:
    """Inputs for metrics with these first parameters; ``worse`` must score worse than ``perfect``."""

    perfect: dict
    worse: dict
    permuted: dict
    empty: dict


def ranked(order, *, upside_down=False):
    queries = [(f"q{number}", GRADES[number]) for number in order]
    rankings = {name: [*grades][:: -1 if upside_down else 1] for name, grades in queries}
    if upside_down:
        rankings = {name: ["x", "y", *ranking[:-1]] for name, ranking in rankings.items()}
    return {"rankings": rankings, "relevant": dict(queries)}


CASES = {
    ("predictions", "references"): Case(
        perfect={"predictions": TEXTS, "references": TEXTS},
        worse={"predictions": (TEXTS[1], *TEXTS[1:]), "references": TEXTS},
        permuted={"predictions": TEXTS[::-1], "references": TEXTS[::-1]},
        empty={"predictions": [], "references": []},
    ),
    ("predicted_tags", "true_tags"): Case(
        perfect={"predicted_tags": TAGS, "true_tags": TAGS},
        worse={"predicted_tags": (TAGS[1], TAGS[1], TAGS[2]), "true_tags": TAGS},
        permuted={"predicted_tags": TAGS[::-1], "true_tags": TAGS[::-1]},
        empty={"predicted_tags": [], "true_tags": []},
    ),
    ("rankings", "relevant"): Case(
        perfect=ranked([0, 1, 2]),
        worse=ranked([0, 1, 2], upside_down=True),
        permuted=ranked([2, 0, 1]),
        empty={"rankings": {}, "relevant": {}},
    ),
    ("texts",): Case(
        perfect={"texts": TEXTS},
        worse={"texts": (*TEXTS, TEXTS[0])},
        permuted={"texts": TEXTS[::-1]},
        empty={"texts": []},
    ),
    ("values",): Case(
        perfect={"values": [0.0, 1.0, 0.25]},
        worse={"values": [0.0, 0.0, 0.25]},
        permuted={"values": [1.0, 0.25, 0.0]},
        empty={"values": []},
    ),
    ("nats", "num_bytes"): Case(
        perfect={"nats": 0.0, "num_bytes": 9},
        worse={"nats": 3.5, "num_bytes": 9},
        permuted={"num_bytes": 9, "nats": 0.0},
        empty={"nats": 0.0, "num_bytes": 0},
    ),
    ("nats", "num_tokens"): Case(
        perfect={"nats": 0.0, "num_tokens": 9},
        worse={"nats": 3.5, "num_tokens": 9},
        permuted={"num_tokens": 9, "nats": 0.0},
        empty={"nats": 0.0, "num_tokens": 0},
    ),
}
BEST = {"bits_per_byte": 0.0, "bleu": 100.0, "chrf": 100.0}  # of the others: 1


@pytest.fixture(params=discover.names("metrics"))
def module(request):
    return discover.find("metrics", request.param)


@pytest.fixture
def name(module):
    return module.__name__.rpartition(".")[2]


@pytest.fixture
def metric(module, name):
    return getattr(module, name)


@pytest.fixture
def case(metric):
    names = [
        parameter.name
        for parameter in inspect.signature(metric).parameters.values()
        if parameter.default is parameter.empty
    ]
    assert tuple(names) in CASES, f"add a case for a metric of {names}"
    return CASES[tuple(names)]


def numbers(result):
    """Return the figures of a result."""
    values = dataclasses.astuple(result) if dataclasses.is_dataclass(result) else (result,)
    return [value for value in values if isinstance(value, float)]


def test_perfect_input_has_the_best_value(module, metric, name, case):
    if module.HIGHER_IS_BETTER is None:
        pytest.skip("has no best value")
    found = numbers(metric(**case.perfect))
    assert found
    assert found == pytest.approx([BEST.get(name, 1.0)] * len(found))


def test_worse_input_has_a_worse_value(module, metric, case):
    if module.HIGHER_IS_BETTER is None:
        pytest.skip("has no better or worse")
    sign = 1 if module.HIGHER_IS_BETTER else -1
    for perfect, worse in zip(numbers(metric(**case.perfect)), numbers(metric(**case.worse)), strict=True):
        assert sign * worse < sign * perfect


def test_the_order_of_items_does_not_matter(module, metric, case):
    if module.HIGHER_IS_BETTER is None:  # an interval's ends come from random draws, and only its value must stay
        first, second = metric(**case.perfect), metric(**case.permuted)
        name = dataclasses.fields(first)[0].name
        assert getattr(first, name) == getattr(second, name)
    else:
        assert numbers(metric(**case.perfect)) == pytest.approx(numbers(metric(**case.permuted)), abs=1e-12)


def test_input_is_left_as_it_was(metric, case):
    before = repr(case.worse)
    first, second = metric(**case.worse), metric(**case.worse)
    assert first == second
    assert repr(case.worse) == before


def test_empty_input_is_refused_in_one_sentence(metric, case):
    with pytest.raises(UserError) as caught:
        metric(**case.empty)
    assert "\n" not in str(caught.value)


def test_unequal_lengths_are_refused(metric, case):
    if "references" not in case.perfect:
        pytest.skip("pairs nothing")
    with pytest.raises(UserError, match="4 predictions and 3 references"):
        metric(predictions=TEXTS, references=TEXTS[:3])


def test_says_what_is_better_and_documents_itself(module, metric):
    assert module.HIGHER_IS_BETTER in (True, False, None)
    documentation = inspect.getdoc(metric)
    assert all(word in documentation for word in ("Return", "Args:", "Raises:", "UserError"))


def test_importing_every_metric_is_cheap():
    imports = "; ".join(f"import bothways.metrics.{name}" for name in discover.names("metrics"))
    code = f"import sys; {imports}; print([name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
