"""The contract of ``map_items``, for each engine, and what belongs to no engine."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from bothways import progress
from bothways.errors import DamagedFileError, OutOfDiskError, UserError
from bothways.execution.execution import LostWorkerError, default_workers, engines, find, map_items


def test_results_come_in_the_order_of_the_items(jobs, engine):
    items = [(0.4, "first"), (0.0, "second"), (0.2, "third"), (0.0, "fourth"), (0.0, "fifth")]
    results = map_items(jobs.later, items, workers=3, engine=engine, describe="test")
    assert list(results) == ["first", "second", "third", "fourth", "fifth"]


def test_no_items_give_no_results(jobs, engine):
    assert list(map_items(jobs.double, [], workers=2, engine=engine, describe="test")) == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_same_files_and_results_for_any_number_of_workers(jobs, engine, workers, tmp_path):
    parts = []
    for number in range(7):
        parts.append(str(tmp_path / f"part-{number}"))
        (tmp_path / f"part-{number}").write_text("a man, a plan, 一个计划 " * 50 * number, encoding="utf-8")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    expected = [jobs.shard(part, folder=here) for part in parts]
    results = list(map_items(partial(jobs.shard, folder=there), parts, workers=workers, engine=engine, describe="test"))
    assert results == expected
    assert {file.name: file.read_bytes() for file in there.iterdir()} == {
        f.name: f.read_bytes() for f in here.iterdir()
    }


def test_relative_paths_mean_the_same_to_workers(jobs, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("part").write_text("abc", encoding="utf-8")
    list(map_items(partial(jobs.shard, folder=Path()), ["part"], workers=2, engine=engine, describe="test"))
    assert (tmp_path / "part.bin").read_bytes() == b"cba"


def test_items_are_not_taken_far_ahead_of_the_results(jobs, engine):
    taken, given, most = 0, 0, 0

    def slowly():
        nonlocal taken, most
        for number in range(12):
            taken += 1
            most = max(most, taken - given)
            yield (0.3 if number == 0 else 0.0, number)

    results = map_items(jobs.later, slowly(), workers=2, engine=engine, describe="test")
    assert taken == 0
    for number, result in enumerate(results):
        assert result == number
        given += 1
    assert taken == given == 12
    assert most == 4


def test_a_result_is_given_as_soon_as_the_next_item_is_there(jobs, tmp_path):
    taken = 0

    def spooled():
        nonlocal taken
        done = str(tmp_path / "done")
        yield (done, "", "")
        jobs.touch_and_wait(("", done, ""))
        time.sleep(1.0)  # until the result has arrived here
        for _ in range(8):
            taken += 1
            yield ("", "", "")

    results = map_items(jobs.touch_and_wait, spooled(), workers=3, describe="test")
    next(results)
    assert taken == 1
    assert len(list(results)) == 8


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_failure_in_order_is_raised_after_the_results_before_it(jobs, engine, workers):
    items = [
        (0.3, "", "zero"),
        (0.0, "", "one"),
        (0.4, "UserError", "two"),
        (0.0, "ValueError", "three"),
        (0, "", "four"),
    ]
    results = map_items(jobs.fail, items, workers=workers, engine=engine, describe="test")
    assert [next(results), next(results)] == ["zero", "one"]
    with pytest.raises(UserError, match=r"^two$"):
        next(results)
    assert list(results) == []


def test_a_failure_ends_the_taking_of_items_and_the_work(jobs, engine):
    items = ((0.0, "ValueError" if number == 3 else "", number) for number in itertools.count())
    with pytest.raises(ValueError, match="3"):
        list(map_items(jobs.fail, items, workers=2, engine=engine, describe="test"))
    assert next(items)[2] <= 3 + 4


def test_no_items_are_taken_after_a_failure_although_an_earlier_item_is_still_at_work(jobs, tmp_path):
    failed, released = str(tmp_path / "failed"), str(tmp_path / "released")
    taken = []

    def items():
        yield ("", released, "")
        yield (failed, "", "too late")
        jobs.touch_and_wait(("", failed, ""))
        time.sleep(1.0)  # until the failure has arrived here
        threading.Timer(1.0, lambda: (tmp_path / "released").touch()).start()
        for number in range(9):
            taken.append(number)
            yield ("", "", "")

    results = map_items(jobs.touch_and_wait, items(), workers=2, describe="test")
    assert next(results) is None
    with pytest.raises(ValueError, match="too late"):
        next(results)
    assert taken == [0]


@pytest.mark.parametrize("error", [UserError, DamagedFileError, OutOfDiskError])
def test_our_own_errors_arrive_as_they_are(jobs, engine, error):
    with pytest.raises(error) as caught:
        list(map_items(jobs.fail, [(0, error.__name__, "shard 3: 损坏")], workers=2, engine=engine, describe="test"))
    assert type(caught.value) is error
    assert str(caught.value) == "shard 3: 损坏"
    assert not hasattr(caught.value, "__notes__")


def test_other_errors_keep_the_traceback_of_the_worker(jobs, engine):
    with pytest.raises(MemoryError, match="too much") as caught:
        list(map_items(jobs.fail, [(0, "MemoryError", "too much")], workers=2, engine=engine, describe="test"))
    (note,) = caught.value.__notes__
    assert "raise ERRORS[error](message)" in note


def test_an_error_that_cannot_travel_is_told_all_the_same(jobs, engine):
    with pytest.raises(RuntimeError, match=r"^OneWayError: part-1: no reason") as caught:
        list(map_items(jobs.fail_one_way, ["part-1"], workers=2, engine=engine, describe="test"))
    assert "in fail_one_way" in caught.value.__notes__[0]


def test_a_result_that_cannot_travel_is_an_error(jobs, engine):
    results = map_items(jobs.unsendable, [0, 1], workers=2, engine=engine, describe="test")
    assert next(results) == 0
    with pytest.raises(TypeError, match="lock"):
        next(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_of_the_items_themselves_comes_in_its_place(jobs, engine, workers):
    def items():
        yield (0.2, "", "zero")
        yield (0.2, "", "one")
        raise DamagedFileError("the input ends too early")

    results = map_items(jobs.fail, items(), workers=workers, engine=engine, describe="test")
    assert [next(results), next(results)] == ["zero", "one"]
    with pytest.raises(DamagedFileError, match="ends too early"):
        next(results)


def test_an_item_that_fails_comes_before_the_items_that_cannot_be_read(jobs):
    def items():
        yield (0.3, "UserError", "zero")
        raise DamagedFileError("the input ends too early")

    with pytest.raises(UserError, match="zero"):
        list(map_items(jobs.fail, items(), workers=2, describe="test"))


def test_closing_the_iterator_kills_what_still_works(jobs, engine, tmp_path, all_gone):
    items = [("quick", tmp_path, 1), ("stay", tmp_path, 1), ("stay too", tmp_path, 1)]
    results = map_items(jobs.among_others, items, workers=2, engine=engine, describe="test")
    assert next(results) == "quick"
    results.close()
    all_gone(tmp_path, marks=1)


def test_every_bar_moves_by_items(jobs):
    class Screen:
        moves = ()

        def begin(self, description, total):
            self.moves += (("begin", description, total),)
            return 7

        def advance(self, key, amount, _):
            self.moves += (("advance", key, amount),)

        def end(self, key):
            self.moves += (("end", key),)

    screen = Screen()
    token = progress._reporter.set(screen)
    try:
        assert list(map_items(jobs.double, [1, 2], workers=2, describe="tokenizing")) == [2, 4]
    finally:
        progress._reporter.reset(token)
    assert screen.moves == (("begin", "tokenizing", 2), ("advance", 7, 1), ("advance", 7, 1), ("end", 7))


@pytest.mark.parametrize("function", [lambda item: item, partial(partial(lambda item, more: item + more, more=0))])
def test_a_function_that_workers_cannot_find_is_refused(function):
    with pytest.raises(UserError, match="other processes cannot find"):
        list(map_items(function, [1], workers=2, describe="test"))
    assert list(map_items(function, [1], workers=1, describe="test")) == [1]


def test_the_number_of_workers_and_the_engine_are_checked_at_once(jobs):
    with pytest.raises(UserError, match="must be 1 or more, not 0"):
        map_items(jobs.double, [1], workers=0, describe="test")
    with pytest.raises(UserError, match=r"unknown engine 'rai'; legal: local, ray. Did you mean 'ray'\?"):
        map_items(jobs.double, [1], workers=1, engine="rai", describe="test")
    with pytest.raises(UserError, match="unknown engine 'execution'"):
        find("execution")


def test_the_engines_are_the_files_of_the_folder():
    assert engines() == ("local", "ray")
    assert all(callable(find(engine).run) for engine in engines())


def test_nothing_heavy_comes_along():
    code = """if True:
        import sys
        from bothways.execution.execution import engines, find
        for engine in engines():
            find(engine)
        import bothways.execution._worker
        print(sorted({"torch", "numpy", "ray", "tokenizers", "pyarrow", "rich"} & sys.modules.keys()))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_ray_is_one_sentence(jobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'bothways\[cluster\]'"):
        list(map_items(jobs.double, [1], workers=1, engine="ray", describe="test"))


@pytest.mark.slow
def test_without_a_ray_cluster_the_remedy_is_told():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'bothways[cluster]'")
    code = """if True:
        from operator import neg
        from bothways.execution.execution import map_items
        list(map_items(neg, [1], workers=1, engine="ray", describe="test"))"""
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "UserError: no Ray cluster answers at RAY_ADDRESS, which is '127.0.0.1:1'" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_runs_the_item_of_a_killed_worker_again(jobs, tmp_path):
    items = [(number, signal.SIGKILL if number == 2 else 0) for number in range(5)]
    work = partial(jobs.killed, folder=tmp_path)
    assert list(map_items(work, items, workers=2, engine="ray", describe="test")) == [0, 1, 2, 3, 4]
    assert (tmp_path / "2.first").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_up_on_an_item_that_kills_every_worker(jobs, monkeypatch):
    monkeypatch.setattr(find("ray"), "RETRIES", 1)
    results = map_items(jobs.killed_always, [(0, 0), (1, signal.SIGKILL)], workers=2, engine="ray", describe="test")
    assert next(results) == 0
    with pytest.raises(LostWorkerError, match=r"the cluster gave up on \(1, "):
        next(results)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_works_on_no_more_items_at_once_than_there_are_workers(jobs, tmp_path):
    work = partial(jobs.mark, folder=tmp_path, seconds=0.2)
    begin = time.monotonic()
    assert len(set(map_items(work, range(5), workers=1, engine="ray", describe="test"))) >= 1
    assert time.monotonic() - begin >= 5 * 0.2


def test_the_default_number_of_workers_of_a_local_run_is_its_cores():
    assert default_workers() == default_workers("local") == find("local").cores()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_default_number_of_workers_of_a_cluster_is_that_of_its_cores():
    assert default_workers("ray") == 2
