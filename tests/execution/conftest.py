"""The engines under test, the functions that workers run, and who is still running."""

import importlib
import os
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture
def jobs(monkeypatch):
    """Return the module of functions for workers, on a path that workers share."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("jobs_for_workers")


@pytest.fixture(scope="session")
def ray_cluster():
    """Run a Ray cluster of two nodes with one core each on this machine, and name it as users do."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'bothways[cluster]'")
    from ray.cluster_utils import Cluster

    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(FOLDER), path])
    )  # every node needs what its workers import
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    os.environ.update({"RAY_ADDRESS": cluster.address, "PYTHONPATH": path or ""})
    yield cluster
    import ray

    del os.environ["RAY_ADDRESS"]
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request):
    """Name each engine in turn."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


def running(process_id):
    """Return whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        os.kill(process_id, 0)
        state = Path(f"/proc/{process_id}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.fixture
def all_gone():
    """Return a check that no process that left its mark in a folder runs, or will have ended soon."""

    def check(folder, *, marks, seconds=10.0):
        ids = {int(path.read_text()) for path in Path(folder).glob("*.pid")}
        assert len(ids) >= marks, "the test's own processes never came so far"
        end = time.monotonic() + seconds
        while (left := {number for number in ids if running(number)}) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left

    return check
