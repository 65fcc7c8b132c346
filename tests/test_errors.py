import doctest
import pickle

import pytest

from bothways import errors
from bothways.errors import (
    BothwaysError,
    DamagedFileError,
    NonFiniteError,
    OutOfDiskError,
    PeerLostError,
    UserError,
    unknown,
)


def test_every_error_has_an_exit_code_of_its_own():
    kinds = [BothwaysError, UserError, DamagedFileError, NonFiniteError, OutOfDiskError, PeerLostError]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5, 6]
    assert all(issubclass(kind, BothwaysError) for kind in kinds)


def test_a_users_mistake_is_a_value_error():
    with pytest.raises(ValueError, match="nearest"):
        raise UserError("the nearest")


def test_an_error_survives_the_way_back_from_a_worker_process():
    error = pickle.loads(pickle.dumps(unknown("task", "x", ["y"])))
    assert isinstance(error, UserError)
    assert str(error) == "unknown task 'x'; legal: y."


@pytest.mark.parametrize(
    ("name", "legal", "message"),
    [
        (
            "retreival",
            ["span", "retrieval"],
            "unknown task 'retreival'; legal: retrieval, span. Did you mean 'retrieval'?",
        ),
        (
            "RETRIEVAL",
            ["span", "retrieval"],
            "unknown task 'RETRIEVAL'; legal: retrieval, span. Did you mean 'retrieval'?",
        ),
        ("zzz", ["span"], "unknown task 'zzz'; legal: span."),
        ("x", [], "unknown task 'x'; legal: none."),
        (7, ["span"], "unknown task '7'; legal: span."),
        ("texts", ["Text", "label"], "unknown task 'texts'; legal: Text, label. Did you mean 'Text'?"),
        (
            "steps",
            ["training.steps", "training.save_every"],
            "unknown task 'steps'; legal: training.save_every, training.steps. Did you mean 'training.steps'?",
        ),
        (
            "sed",
            ["training.seed", "other.patience"],
            "unknown task 'sed'; legal: other.patience, training.seed. Did you mean 'training.seed'?",
        ),
        (
            "name",
            ["b.name", "a.name"],
            "unknown task 'name'; legal: a.name, b.name. Did you mean 'a.name' or 'b.name'?",
        ),
        ("情感", ["情感分类", "问答"], "unknown task '情感'; legal: 情感分类, 问答. Did you mean '情感分类'?"),
    ],
)
def test_an_unknown_name_lists_the_legal_ones_and_the_nearest(name, legal, message):
    assert str(unknown("task", name, legal)) == message


def test_names_that_differ_in_case_alone_are_all_listed():
    assert str(unknown("column", "body", ["Text", "text"])) == "unknown column 'body'; legal: Text, text."


def test_legal_names_may_come_from_a_generator():
    assert "legal: a, b." in str(unknown("metric", "?", (name for name in "ba")))


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(errors).failed == 0
    assert doctest.testmod(errors).attempted > 0
