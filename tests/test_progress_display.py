"""What a person sees of a long run: where it stands, how it goes, and what gives way where the terminal is narrow."""

import io
import math

import pytest
from rich.console import Console

from bothways import progress
from bothways.progress import _Bars, _State, bar, display, sparkline

DETAIL = "11,312 tokens/s · 0.0831 TFLOP/s (71 % of peak) · loss 4.321 · bits per byte 2.157"


def drawn(state, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(_Bars({1: state}), end="")
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def state(clock):
    """A run that goes on from step 100 of 1,000, two seconds a step, its loss falling."""
    state = _State("Pretraining GPT", 1000)
    state.advance(100, "", None)
    for step in range(50):
        clock[0] += 2
        state.advance(1, DETAIL, 9.0 - step / 10)
    return state


def test_a_wide_terminal_shows_all_of_it(state):
    first, second = drawn(state, 120)
    assert first.startswith("Pretraining GPT ━")
    assert " 150/1,000 28:20 left " in first  # 850 steps, two seconds each
    assert first.endswith("▁")
    assert "█" in first
    assert second == "  " + DETAIL


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 80, 100, 120, 200])
def test_nothing_is_wider_than_the_terminal_and_what_matters_stays(state, width):
    lines = drawn(state, width)
    assert all(len(line) < width for line in lines)
    assert len(lines) <= 3
    assert "150/1,000" in lines[0] or width < 26
    if width >= 60:
        assert "28:20 left" in lines[0]
        assert "loss 4.321" in " ".join(lines)


def test_the_curve_goes_first_where_it_is_narrow_then_the_bar(state):
    def has(width):
        line = drawn(state, width)[0]
        return "▁" in line, "━" in line

    assert has(80) == (True, True)
    assert has(60) == (False, True)
    assert has(38) == (False, False)


def test_a_detail_is_cut_between_its_parts(state):
    assert drawn(state, 60)[1:] == [
        "  11,312 tokens/s · 0.0831 TFLOP/s (71 % of peak)",
        "  loss 4.321 · bits per byte 2.157",
    ]


def test_what_was_done_before_is_not_counted_as_speed(clock):
    state = _State("x", 1000)
    state.advance(500, "", None)
    assert state.left() is None
    clock[0] += 10
    state.advance(1, "", None)
    assert state.left() == pytest.approx(4990)


def test_slow_steps_have_a_time_left_and_the_newest_speed_counts(clock):
    state = _State("x", 300)
    for seconds in [1] * 100 + [100] * 100:
        clock[0] += seconds
        state.advance(1, "", None)
    assert state.left() == pytest.approx(100 * 100)
    assert _State("x", None).left() is None


def test_durations_are_read_at_a_glance():
    assert [progress._duration(seconds) for seconds in (0, 65, 3600, 90_061)] == [
        "0:00",
        "1:05",
        "1:00:00",
        "1 d 01:01:01",
    ]


def test_a_sparkline_is_as_long_as_there_is_room():
    falling = [float(100 - step) for step in range(100)]
    assert sparkline(falling, 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([3.0, 1.0], 8) == "█▁"
    assert sparkline([2.0] * 5, 3) == "▁▁▁"
    assert sparkline([1.0, math.nan, 2.0], 3) == "▁ █"
    assert [sparkline(values, width) for values, width in (([], 8), ([1.0], 0), ([math.inf], 3))] == ["", "", ""]


def test_a_long_run_keeps_the_shape_of_its_curve():
    state = _State("x", None)
    for step in range(20_000):
        state.advance(1, "", float(20_000 - step))
    assert len(state.values) <= _State.MOST_VALUES
    assert sparkline(state.values, 8) == "█▇▆▅▄▃▂▁"


def test_lines_without_a_terminal_tell_the_time_that_is_left(capsys, clock):
    with display(), bar("Pretraining GPT", 100) as opened:
        for _ in range(4):
            clock[0] += 6
            opened.advance(1, "loss 2.5", 2.5)
    assert capsys.readouterr().err.splitlines() == [
        "Pretraining GPT: 2 of 100 (9:48 left) loss 2.5",
        "Pretraining GPT: 4 of 100 (9:36 left) loss 2.5",
    ]


def test_a_screen_that_knows_no_curves_still_serves():
    seen = []

    class Screen:
        def begin(self, *_):
            return 1

        def advance(self, key, amount, detail):
            seen.append((key, amount, detail))

        def end(self, key):
            seen.append(key)

    token = progress._reporter.set(Screen())
    try:
        with bar("x", 2) as opened:
            opened.advance(1, "y")
    finally:
        progress._reporter.reset(token)
    assert seen == [(1, 1, "y"), 1]
