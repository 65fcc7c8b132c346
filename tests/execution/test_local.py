"""Local processes: where they run, how they end, and that none is left."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from bothways.execution import _worker, local
from bothways.execution.execution import LostWorkerError, map_items

FOLDER = Path(__file__).parent

SCRIPT = """
import sys
sys.path.append({folder!r})
from functools import partial
from pathlib import Path
import jobs_for_workers
from bothways.execution.execution import map_items
print("top")
print(list(map_items(jobs_for_workers.double, [1, 2, 3], workers=2, describe="test")))
"""


def python(*arguments, **options):
    """Run Python to its end."""
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def test_one_worker_is_this_process(jobs, tmp_path):
    assert list(map_items(partial(jobs.mark, folder=tmp_path), [1, 2], workers=1, describe="test")) == [os.getpid()] * 2


def test_several_workers_are_as_many_other_processes_and_end_with_the_work(jobs, tmp_path, all_gone):
    work = partial(jobs.mark, folder=tmp_path, seconds=0.15)
    ids = set(map_items(work, range(12), workers=3, describe="test"))
    assert len(ids) == 3
    assert os.getpid() not in ids
    all_gone(tmp_path, marks=3, seconds=0)


def test_a_worker_hears_nothing_of_ctrl_c_in_the_terminal(jobs):
    (group,) = map_items(jobs.process_group, [None], workers=2, describe="test")
    assert group != os.getpgrp()


def test_no_more_processes_start_than_there_are_items(jobs, tmp_path):
    assert len(set(map_items(partial(jobs.mark, folder=tmp_path), ["only"], workers=8, describe="test"))) == 1


@pytest.mark.parametrize("name", sorted(_worker.ENVIRONMENT))
def test_a_worker_is_one_thread_and_its_streams_are_safe(jobs, name, capfd):
    expected = "false" if name == "TOKENIZERS_PARALLELISM" else "1"
    assert list(map_items(jobs.surroundings, [name], workers=2, describe="test")) == [expected]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "more chatter" in captured.err


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            signal.SIGKILL,
            "was killed while it worked on (1, <Signals.SIGKILL: 9>), most likely because the machine ran out",
        ),
        (signal.SIGSEGV, "ended by SIGSEGV while it worked on (1, <Signals.SIGSEGV: 11>); try again with one worker"),
    ],
)
def test_a_killed_worker_is_one_sentence(jobs, number, words):
    items = [(0, 0), (1, number), (2, 0), (3, 0)]
    results = map_items(jobs.killed_always, items, workers=2, describe="test")
    assert next(results) == 0
    with pytest.raises(LostWorkerError, match=re.escape(words)):
        next(results)


def test_a_worker_that_leaves_is_noticed(jobs):
    with pytest.raises(LostWorkerError, match=r"ended with exit code 7 while it worked on 7"):
        list(map_items(jobs.leave, [7], workers=2, describe="test"))


def test_a_killed_worker_leaves_no_others_running(jobs, tmp_path, all_gone):
    begin = time.monotonic()
    items = [("kill", tmp_path, 3), ("stay", tmp_path, 3), ("stay too", tmp_path, 3)]
    with pytest.raises(LostWorkerError):
        list(map_items(jobs.among_others, items, workers=3, describe="test"))
    all_gone(tmp_path, marks=3, seconds=0)
    assert time.monotonic() - begin < 30  # the others would have slept for a minute


def test_work_within_work(jobs):
    results = map_items(jobs.nested, [1, 3, 2], workers=2, describe="outer")
    assert list(results) == [[0], [0, 2, 4], [0, 2]]


def test_work_on_the_results_of_work(jobs):
    first = map_items(jobs.double, range(9), workers=2, describe="first")
    assert list(map_items(jobs.double, first, workers=2, describe="second")) == list(range(0, 36, 4))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_main_process_ends_its_workers_at_once(end, tmp_path, all_gone):
    script = tmp_path / "script.py"
    work = "partial(jobs_for_workers.mark, folder=Path(sys.argv[1]), seconds=60.0)"
    text = SCRIPT.format(folder=str(FOLDER)).replace("jobs_for_workers.double", work)
    heed = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
    script.write_text(heed + text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    limit = time.monotonic() + 30
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, end)  # as a terminal does with Ctrl-C
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -end
    all_gone(tmp_path, marks=2, seconds=5)
    assert errors.count(b"KeyboardInterrupt") == (end == signal.SIGINT)  # that of the main process alone
    assert not list(tmp_path.glob("3.pid")), "an item was begun after the end"


def test_a_script_without_a_main_guard_works_and_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(FOLDER)), encoding="utf-8")
    done = python(script)
    assert (done.stdout, done.stderr) == ("top\n[2, 4, 6]\n", "")


def test_a_script_on_stdin_and_one_on_the_command_line_work():
    script = SCRIPT.format(folder=str(FOLDER))
    for done in (python("-", input=script), python("-c", script), python("-i", "-q", input=script)):
        assert done.stdout == "top\n[2, 4, 6]\n", done.stderr


def test_a_function_of_the_script_itself_is_refused(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from bothways.execution.execution import map_items\ndef mine(item): return item\n"
        "print(list(map_items(mine, [1], workers=1, describe='x')))\nlist(map_items(mine, [1], workers=2, describe='x'))",
        encoding="utf-8",
    )
    done = python(script)
    assert done.stdout == "[1]\n"
    assert "UserError: other processes cannot find mine by its name" in done.stderr


def test_files_in_the_current_folder_do_not_get_in_the_way(tmp_path):
    for name in ("threading", "multiprocessing", "queue", "bothways", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    done = python("-P", "-c", SCRIPT.format(folder=str(FOLDER)), cwd=tmp_path)
    assert done.stdout == "top\n[2, 4, 6]\n", done.stderr


def test_closed_streams_do_no_harm(tmp_path):
    script = tmp_path / "script.py"
    text = (
        SCRIPT.format(folder=str(FOLDER))
        .replace('print("top")\n', "")
        .replace("print(", "Path(sys.argv[1]).write_text(str(")
    )
    script.write_text(text.rstrip() + ")", encoding="utf-8")
    command = f"exec '{sys.executable}' '{script}' '{tmp_path}/result' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 0
    assert (tmp_path / "result").read_text() == "[2, 4, 6]"


def test_the_cores_are_those_that_the_process_may_use():
    code = """if True:
        import os
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        from bothways.execution.local import cores
        print(cores())"""
    assert 1 <= local.cores() <= os.cpu_count()
    if hasattr(os, "sched_setaffinity"):
        assert python("-c", code).stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, sys.maxsize),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, sys.maxsize),
        ({}, sys.maxsize),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path, files, cores):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    assert local._quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.9, 1)])
def test_a_quota_is_rounded_down_but_leaves_one_worker(monkeypatch, quota, cores):
    monkeypatch.setattr(local, "_quota", lambda: quota)
    assert local.cores() == cores
