import pkgutil
import subprocess
import sys

import pytest

import bothways


def run(source: str) -> str:
    """Run Python source in a fresh interpreter, as a user's script would, and return what it prints."""
    return subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True).stdout.strip()


def test_import_is_quick_and_brings_no_torch():
    report = run(
        "import sys, time; start = time.perf_counter(); import bothways; seconds = time.perf_counter() - start;"
        "print(seconds, *({'torch', 'numpy', 'transformers', 'rich'} & sys.modules.keys()))"
    )
    seconds, *heavy = report.split()
    assert float(seconds) < 1
    assert heavy == []


@pytest.mark.parametrize("name", bothways.__all__)
def test_every_public_name_is_there(name):
    assert getattr(bothways, name).__doc__
    assert name in dir(bothways)
    assert name in vars(bothways), "it is looked up once and kept"


def test_a_public_name_is_found_by_from_import_and_by_star():
    assert run("from bothways import UserError; print(UserError.__name__)") == "UserError"
    assert run("from bothways import *; print(UserError.__module__)") == "bothways.errors"


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(AttributeError, match="module 'bothways' has no attribute 'AutoModle'"):
        bothways.AutoModle  # noqa: B018
    with pytest.raises(ImportError):
        from bothways import AutoModle  # noqa: F401
    assert not hasattr(bothways, "__wrapped__")


def test_no_public_name_is_the_name_of_a_module():
    """Importing ``bothways.x`` sets the attribute ``x`` of the package: it would cover a public name ``x``."""
    modules = {module.name for module in pkgutil.iter_modules(bothways.__path__)}
    assert not modules & set(bothways.__all__)
