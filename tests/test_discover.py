import sys

import pytest

import bothways
from bothways import discover
from bothways.errors import UserError


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """Add a folder of our own to the package, so that the tests do not hang on which tasks there are today."""
    files = {
        "__init__.py": "",
        "colour.py": "NAME = 'the contract'",
        "_mixing.py": "",
        "sky_blue.py": "NAME = 'sky blue'",
        "red.py": "NAME = 'red'",
        "notes.txt": "",
        "warm/__init__.py": "",
        "warm/orange.py": "NAME = 'orange'",
    }
    for path, source in files.items():
        file = tmp_path / "colours" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    monkeypatch.setattr(discover, "_PACKAGE", tmp_path)
    monkeypatch.setattr(bothways, "__path__", [*bothways.__path__, str(tmp_path)])
    discover.names.cache_clear()
    yield
    discover.names.cache_clear()
    for name in [name for name in sys.modules if name.startswith("bothways.colours")]:
        del sys.modules[name]


@pytest.mark.usefixtures("colours")
def test_the_folder_is_the_registry():
    assert discover.names("colours") == ("red", "sky_blue")
    assert discover.names("colours/warm") == ("orange",)


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("name", ["sky_blue", "sky-blue"])
def test_find_takes_hyphens_and_underscores(name):
    assert discover.find("colours", name).NAME == "sky blue"


@pytest.mark.usefixtures("colours")
def test_find_reaches_folders_within_folders():
    assert discover.find("colours/warm", "orange").NAME == "orange"


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("name", ["colour", "_mixing", "__init__", "notes", "../colours/red", "colours.red", "", None])
def test_nothing_but_a_listed_file_is_found(name):
    with pytest.raises(UserError, match=r"^unknown colour .*; legal: red, sky_blue"):
        discover.find("colours", name)


@pytest.mark.usefixtures("colours")
def test_a_near_name_is_suggested():
    with pytest.raises(UserError, match="Did you mean 'sky_blue'"):
        discover.find("colours", "sky-bleu")


def test_a_family_is_called_a_family():
    with pytest.raises(UserError, match=r"^unknown Hugging Face family 'no-such-family'"):
        discover.find("checkpoints/huggingface", "no-such-family")


def test_a_folder_that_does_not_exist_is_our_own_mistake():
    with pytest.raises(AssertionError):
        discover.names("no_such_folder")


def test_module_imports_below_the_package():
    assert discover.module("errors").UserError is UserError
