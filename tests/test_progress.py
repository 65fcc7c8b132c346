import io
import time
from contextlib import redirect_stderr

import pytest

from bothways import progress
from bothways.progress import bar, display, note, track


class Screen(io.StringIO):
    """A stderr that is a terminal or is not; ``with`` shows what is reported within on it."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal
        self.redirection = redirect_stderr(self)

    def isatty(self) -> bool:
        return self.terminal

    def __enter__(self):
        self.redirection.__enter__()
        return self

    def __exit__(self, *error):
        self.redirection.__exit__(*error)


@pytest.fixture
def lines():
    return Screen(terminal=False)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Screen(terminal=True)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_nobody_watching_costs_nothing(lines, capsys):
    with lines:
        assert list(track(range(3), "reading")) == [0, 1, 2]
        with bar("reading", 3) as opened:
            opened.advance()
        note("read")
    assert lines.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_track_passes_items_on_one_by_one():
    taken = []
    items = track((taken.append(n) or n for n in range(3)), "reading")
    assert next(items) == 0
    assert taken == [0]


def test_without_a_terminal_a_line_comes_now_and_then(lines, clock):
    with lines, display():
        for item in track([1, 2, 3], "reading"):
            clock[0] += 6
            assert item
    assert lines.getvalue().splitlines() == ["reading: 2 of 3"]


def test_a_line_shows_the_detail_and_copes_without_a_total(lines, clock):
    with lines, display(), bar("training") as opened:
        clock[0] += 60
        opened.advance(1500, "loss 2.5")
    assert lines.getvalue() == "training: 1,500 loss 2.5\n"


@pytest.mark.usefixtures("clock")
def test_quick_work_says_nothing_without_a_terminal(lines):
    with lines, display():
        assert list(track([1, 2, 3], "reading")) == [1, 2, 3]
    assert lines.getvalue() == ""


def test_a_note_is_shown_at_once_and_on_stderr_alone(lines, capsys):
    with lines, display():
        note("saved [best] to /tmp/x")
        assert lines.getvalue() == "saved [best] to /tmp/x\n"
    assert capsys.readouterr().out == ""


def test_bars_may_be_nested(lines, clock):
    with lines, display():
        for _ in track([1, 2], "outer"):
            for _ in track([1], "inner"):
                clock[0] += 11
    assert lines.getvalue().splitlines() == ["inner: 1 of 1", "inner: 1 of 1"]


def test_a_display_within_a_display_adds_nothing(lines):
    with lines:
        with display():
            with display():
                note("once")
            note("still shown")
        note("no longer shown")
    assert lines.getvalue() == "once\nstill shown\n"


def test_a_display_can_be_switched_off(lines):
    with lines, display(enabled=False):
        note("unseen")
    assert lines.getvalue() == ""


def test_an_error_closes_bar_and_display(lines):
    with lines:
        with pytest.raises(ValueError, match="broken"), display(), bar("reading"):
            raise ValueError("broken")
        note("no longer shown")
    assert lines.getvalue() == ""


def test_leaving_a_loop_early_closes_its_bar(terminal):
    with terminal, display():
        for _ in track(range(100), "first"):
            break
        with bar("second", 1) as opened:
            opened.advance()
        note("the end")
    assert "first" not in terminal.getvalue().partition("the end")[2]


def test_a_terminal_shows_words_in_brackets_as_they_are(terminal):
    with terminal, display(), bar("filling [MASK]", 10) as opened:
        opened.advance(3, "loss [bold]2.5")
        opened.advance(1)
        time.sleep(0.3)  # the bar is redrawn ten times a second
    shown = terminal.getvalue()
    assert "filling [MASK]" in shown
    assert "loss [bold]2.5" in shown
    assert "4/10" in shown


def test_a_terminal_does_not_break_a_long_note(terminal):
    path = "/a/long/path" * 20
    with terminal, display():
        note(f"saved [best] to {path}")
    assert f"saved [best] to {path}" in terminal.getvalue()
