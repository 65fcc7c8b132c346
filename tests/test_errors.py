import doctest
import pickle

import pytest

from bothways import errors
from bothways.errors import (
    LONGEST,
    BothwaysError,
    DamagedFileError,
    NonFiniteError,
    OutOfDiskError,
    PeerLostError,
    UserError,
    shown,
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


def test_a_message_is_safe_to_print_whatever_it_quotes():
    message = str(DamagedFileError("the tensor \x1b[2J\x07 in 'x'\nis\tno weight"))
    assert message == "the tensor \\x1b[2J\\x07 in 'x'\nis\tno weight"
    endless = str(UserError(f"begin {'x' * 10**6} end"))
    assert len(endless) <= LONGEST
    assert endless.startswith("begin xxx")
    assert endless.endswith("xxx end")
    assert str(UserError("x" * LONGEST)) == "x" * LONGEST


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("x", "x"), ("北京", "北京"), ("a b", "a b"), ("a\nb\x1b", "a\\nb\\x1b"), ("x" * 101, "x" * 100 + "…"), (7, "7")],
)
def test_a_name_is_quoted_on_one_line_and_never_endless(name, quoted):
    assert shown(name) == quoted


def test_an_endless_name_that_is_unknown_is_cut():
    assert len(str(unknown("task", "x" * 10**6, ["span"]))) < 200
