"""The parts of bench/time_to_quality.py that decide what its numbers mean."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways.text.shards import EncodedDocument, gather
from bothways.text.tokenizing.tokenizer import Tokenizer

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(
        ["a text of some words, and of some more words"] * 20, kind="wordpiece", vocab_size=300, exact=False
    )


def test_each_token_but_the_first_is_predicted_once_from_the_one_before_it() -> None:
    from time_to_quality.heldout import WINDOW, windows

    text = np.arange(2 * WINDOW + 8)
    found = list(windows(text))
    assert [len(inputs) for inputs, _ in found] == [WINDOW, WINDOW, 7]
    assert np.array_equal(np.concatenate([said for _, said in found]), text[1:])
    assert all(np.array_equal(said, inputs + 1) for inputs, said in found)


def test_a_window_that_would_predict_nothing_is_not_made() -> None:
    from time_to_quality.heldout import WINDOW, windows

    assert [len(inputs) for inputs, _ in windows(np.arange(WINDOW + 1))] == [WINDOW]
    assert list(windows(np.arange(1))) == []


def test_held_out_documents_are_whole_and_as_many_as_are_needed() -> None:
    from time_to_quality.heldout import choose

    def document(tokens: int) -> EncodedDocument:
        return EncodedDocument(input_ids=np.arange(tokens), sentence_starts=np.array([0]), num_bytes=tokens)

    corpus = gather([document(10), document(20), document(30)])
    assert choose(corpus, 10) == [0]
    assert choose(corpus, 11) == [0, 1]
    assert choose(corpus, 10**6) == [0, 1, 2]


def test_fifteen_per_cent_are_hidden_and_no_special_token_is(tokenizer: Tokenizer) -> None:
    from time_to_quality.heldout import NOTHING, hide

    cls, sep, mask = (tokenizer.special_id(role) for role in ("cls", "sep", "mask"))
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), list(tokenizer.special_ids.values()))
    rng = np.random.default_rng(1)
    masked = kept = 0
    for _ in range(200):
        sequence = np.concatenate([[cls], rng.choice(ordinary, 126), [sep]])
        hidden, said = hide(sequence, tokenizer, rng)
        chosen = said != NOTHING
        assert chosen.sum() == round(0.15 * 128)
        assert not chosen[[0, -1]].any()
        assert np.array_equal(said[chosen], sequence[chosen])
        assert np.array_equal(hidden[~chosen], sequence[~chosen])
        masked += (hidden[chosen] == mask).sum()
        kept += (hidden[chosen] == sequence[chosen]).sum()
    assert masked / (200 * 19) == pytest.approx(0.8, abs=0.03)
    assert kept / (200 * 19) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("target", "expected"), [(0.1, None), (2.0, 5.0), (2.5, 4.0), (10.0, 1.0)])
def test_the_search_finds_the_shortest_budget_with_few_runs(target: float, expected: float | None) -> None:
    from time_to_quality.comparison import soonest

    tried = []

    def run(minutes: float) -> float:
        tried.append(minutes)
        return 10 / minutes

    assert soonest(target, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], run) == expected
    assert len(tried) <= 3


def test_a_lucky_short_run_does_not_count() -> None:
    from time_to_quality.comparison import shortest

    losses = {1.0: 2.0, 2.0: 3.0, 3.0: 2.0, 4.0: 1.0}
    runs = [{"minutes": minutes, "figures": {"loss": loss}} for minutes, loss in losses.items()]
    found = shortest(2.0, "loss", runs)
    assert found is not None
    assert found["minutes"] == 3.0
    assert shortest(0.5, "loss", runs) is None


def test_ratios_are_those_of_times_and_several_seeds_give_their_median_and_range() -> None:
    from time_to_quality.comparison import compare, ratio_table

    rows = []
    for seed, seconds in enumerate((600.0, 660.0, 540.0)):
        told = {"learning_rate": 1e-3}
        peer = {"peer": "nanogpt", "role": "best", "settings": told, "seed": seed, "figures": {"loss": 2.0}}
        peer |= {"seconds": seconds, "process_seconds": seconds + 20, "tokens": 1000}
        ours = {"figures": {"loss": 1.9}, "seconds": 60.0, "process_seconds": 80.0, "tokens": 500}
        rows.append(compare(peer, ours, "loss"))
    assert rows[0]["sooner"] == 10
    assert rows[0]["sooner_process"] == 7.75
    assert rows[0]["fewer_tokens"] == 2
    line = ratio_table(rows)[-1]
    assert "10.00 (9.00 to 11.00)" in line
    assert line.endswith("| 3 |")
    assert "not reached" in ratio_table([compare(peer, None, "loss")])[-1]


def test_our_budgets_begin_at_a_fiftieth_and_none_is_a_quarter_longer_than_the_one_before() -> None:
    from time_to_quality.comparison import ladder

    budgets = ladder(10)
    assert budgets[0] == 0.2
    assert budgets[-1] >= 20
    assert all(after / before < 1.26 for before, after in itertools.pairwise(budgets))


def test_a_run_of_ours_says_what_it_computed_and_one_without_room_for_a_step_is_told(tmp_path: Path) -> None:
    from time_to_quality.arms import Arm
    from time_to_quality.corpus import KINDS
    from time_to_quality.operations import operations
    from time_to_quality.runners import Bench, TooShortError, run

    words = np.random.default_rng(0).choice(["river", "mountain", "engine", "kernel", "garden"], size=(40, 60))
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(line) + "." for line in words))
    bothways.prepare([tmp_path / "text.txt"], out=tmp_path / KINDS["gpt"], vocab_size=280, workers=1)
    small = (
        "model.hidden_size=16",
        "model.num_hidden_layers=1",
        "model.intermediate_size=24",
        "training.row_length=32",
    )
    bench = Bench(
        work=tmp_path,
        program=Path(sys.executable).with_name("bothways"),
        checkout=None,
        threads=1,
        shapes={},
        ids={},
        settings=(*small, "training.batch_tokens=64"),
    )
    arm = Arm(family="gpt", size="tiny", peer="bothways", role="ours", minutes=0.02)
    with (tmp_path / "log").open("w") as log:
        result = run(arm, bench, tmp_path / "run", log)
        state = json.loads((tmp_path / f"run/checkpoints/step-{result['steps']}/state.json").read_text())
        assert operations({**arm.to_dict(), **result}, vocab_size=280) == state["flops"] > 0
        with pytest.raises(TooShortError):
            run(replace(arm, minutes=1e-9), bench, tmp_path / "none", log)
