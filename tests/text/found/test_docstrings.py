import importlib.util
import sys
import time
from pathlib import Path

import pytest

from bothways.errors import UserError
from bothways.text.found.docstrings import Docstring, installed_docstrings, installed_libraries


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An empty standard library and site-packages; returns a function that writes a module into the latter."""
    paths = {"stdlib": tmp_path / "lib", "purelib": tmp_path / "site", "platlib": tmp_path / "site"}
    for folder in paths.values():
        folder.mkdir(exist_ok=True)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {name: str(folder) for name, folder in paths.items()})

    def write(name: str, source: str | bytes, root: str = "site") -> None:
        path = tmp_path / root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encode() if isinstance(source, str) else source)

    return write


def read(**options) -> dict[str, Docstring]:
    return {docstring.name: docstring for docstring in installed_docstrings(**options)}


SOURCE = '''
"""A module with a sentence.

And more of it.
"""

class Shape:
    """Something that has an area.

    The area is in square metres.
    """

    def __init__(self, width: float, /, height=2, *, colour: str = "red", **rest) -> None:
        self.width = width

    def grow(self, factor=2):
        """Make it larger by a factor. The factor
        may be below one.

        Parameters
        ----------
        factor : float
        """

    @staticmethod
    def area(a, b=1):
        """Return the product of two sides."""

    def odd(self=None, other=1):
        """Have a default for the object itself."""

    @classmethod
    def unit(cls):
        """Return a square of one metre."""

    class Edge:
        """One of the sides of the shape."""

if True:
    async def wait(seconds: int = 5):
        """Wait for some seconds and return."""
        def inner():
            """Nobody can call this function."""

def short():
    """Tiny."""

def undocumented():
    return """not a docstring at all"""
'''


def test_modules_classes_functions_and_methods_are_read(machine):
    machine("shapes/__init__.py", SOURCE)
    found = read()
    assert {name: (d.signature, d.summary, d.body) for name, d in found.items()} == {
        "shapes": ("", "A module with a sentence.", "And more of it."),
        "shapes.Shape": (
            "Shape(width, /, height=2, *, colour='red', **rest)",
            "Something that has an area.",
            "The area is in square metres.",
        ),
        "shapes.Shape.grow": (
            "grow(factor=2)",
            "Make it larger by a factor.",
            "The factor\nmay be below one.\n\nParameters\n----------\nfactor : float",
        ),
        "shapes.Shape.area": ("area(a, b=1)", "", "Return the product of two sides."),
        "shapes.Shape.odd": ("odd(other=1)", "", "Have a default for the object itself."),
        "shapes.Shape.unit": ("unit()", "", "Return a square of one metre."),
        "shapes.Shape.Edge": ("", "", "One of the sides of the shape."),
        "shapes.wait": ("wait(seconds=5)", "", "Wait for some seconds and return."),
    }
    assert {docstring.library for docstring in found.values()} == {"shapes"}


def test_what_begins_with_no_sentence_has_no_summary(machine):
    bodies = [
        "Args:\n    x: some number\n\nMore.",
        ">>> f(1)\n2\n\nMore text.",
        "- one\n- two\n\nMore text here.",
        "x" * 400 + "\n\nMore.",
    ]
    for number, text in enumerate(bodies):
        machine(f"m{number}.py", f'"""{text}\n"""\n')
    assert [(docstring.summary, docstring.body) for docstring in sorted(read().values(), key=lambda d: d.name)] == [
        ("", body) for body in bodies
    ]


def test_a_title_is_a_summary_and_abbreviations_end_no_sentence(machine):
    machine("m.py", '"""A guide to things\n=================\n\nThe text."""\n')
    machine("n.py", '"""Count things, e.g. Apples or pears. Then stop."""\n')
    found = read()
    assert (found["m"].summary, found["m"].body) == ("A guide to things", "The text.")
    assert (found["n"].summary, found["n"].body) == ("Count things, e.g. Apples or pears.", "Then stop.")


def test_texts_attached_to_compiled_functions_are_read(machine):
    machine(
        "fast/_docs.py",
        '''
"""Documentation of compiled functions."""
from fast._c import abs
add_docstr(fast.abs, r"""
abs(input, *, out=None) -> Tensor

Computes the absolute value of each element.

Args:
    {input}
    other ({{int}}): a number in {units}.
""".format(**common))
log = _add_docstr(fast.log, "log(x) -> float\\n\\nReturns the logarithm " + "to the base e.")
add_docstr_all("fill", """fill(value)

Fills with one value everywhere.""")
add_newdoc("fast.core", "array", ("shape", """The lengths of all the dimensions."""))
add_newdoc("fast.core", "array", [("size", """The number of all the elements."""), ("data", variable)])
add_newdoc("fast.core", "zeros", """
    zeros($self, shape, /)
    --

    Return an array full of zeros.
    """)
add_newdoc("fast.core", "ones", f"""Not {constant} and hence left out.""")
other_call("fast.core", "twos", """Some other call with a text.""")
''',
    )
    found = {name: (d.signature, d.text) for name, d in read().items()}
    assert found == {
        "fast._docs": ("", "Documentation of compiled functions."),
        "fast.abs": (
            "abs(input, *, out=None) -> Tensor",
            "Computes the absolute value of each element.\n\nArgs:\n    other ({int}): a number in .",
        ),
        "fast.log": ("log(x) -> float", "Returns the logarithm to the base e."),
        "fast._docs.fill": ("fill(value)", "Fills with one value everywhere."),
        "fast.core.array.shape": ("", "The lengths of all the dimensions."),
        "fast.core.array.size": ("", "The number of all the elements."),
        "fast.core.zeros": ("zeros(shape, /)", "Return an array full of zeros."),
    }


def test_tests_copies_and_hidden_things_are_left_out(machine):
    text = '"""A documented module of number {}."""\n'
    kept = ["pack/a.py", "_inner.py", "single.py"]
    left_out = [
        *["pack/tests/a.py", "pack/test_b.py", "pack/testing/c.py", "pack/_vendor/d.py", "pack/externals/e.py"],
        *["bothways/f.py", "pack-1.0.dist-info/g.py", ".hidden/h.py", "pack/not a name.py"],
    ]
    for number, name in enumerate([*kept, *left_out]):
        machine(name, text.format(number))
    machine("idlelib/x.py", text.format("x"), root="lib")
    machine("site-packages/y.py", text.format("y"), root="lib")
    machine("email/z.py", text.format("z"), root="lib")
    assert {(d.library, d.name) for d in installed_docstrings()} == {
        ("pack", "pack.a"),
        ("inner", "_inner"),
        ("single", "single"),
        ("stdlib", "email.z"),
    }


def test_broken_sources_are_counted_and_others_read(machine, monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr("bothways.text.found.docstrings.note", notes.append)
    machine("bad.py", 'def """unfinished')
    machine("nul.py", b'"""text\0"""')
    machine("encoding.py", b'"""caf\xe9"""')
    machine("latin.py", '# coding: latin-1\n"""Un café très chaud pour vous."""'.encode("latin-1"))
    machine("escape.py", '"""An invalid escape \\d of others."""')
    assert sorted(read()) == ["escape", "latin"]
    assert read()["latin"].text == "Un café très chaud pour vous."
    assert notes[0].startswith("3 source files")


def test_a_warning_about_a_foreign_source_is_not_shown(machine, recwarn):
    machine("escape.py", '"""An invalid escape \\d of others."""')
    read()
    assert not recwarn.list


def test_equal_texts_come_once(machine):
    machine("a.py", '"""The same words in two places."""')
    machine("b.py", '"""\n    The same words in two places.\n"""')
    assert len(read()) == 1


def test_slots_that_are_filled_at_import_are_dropped_but_formats_are_kept(machine):
    machine("a.py", '"""A function of some kind.\n\n%(parameters)s\n\n%(a)s %(b)s\nUse the format %(name)s here.\n"""')
    assert read()["a"].body == "Use the format %(name)s here."


def test_a_limit_gives_every_library_its_share(machine):
    for library, modules, size in [("big", 40, 3000), ("dense", 40, 500), ("small", 2, 500)]:
        for number in range(modules):
            machine(f"{library}/m{number}.py", f'"""{library} {number} ' + "x" * size + '"""\n')
    found = list(installed_docstrings(megabytes=0.02))
    share = {name: sum(len(d.text) for d in found if d.library == name) for name in ("big", "dense", "small")}
    assert share["small"] > 1000  # all it has
    assert share["big"] == pytest.approx(9500, abs=3500)
    assert share["dense"] == pytest.approx(9500, abs=3500)
    assert 20_000 <= sum(share.values()) < 24_000
    assert [d.name for d in found] == [d.name for d in installed_docstrings(megabytes=0.02)]
    assert [d.name for d in found][:2] != ["big.m0", "big.m1"]


def test_libraries_are_chosen_by_name(machine):
    machine("numbers_.py", '"""A library about numbers alone."""')
    machine("texts.py", '"""A library about texts alone."""')
    assert list(read(libraries=["texts"])) == ["texts"]
    assert list(installed_libraries()) == ["numbers_", "texts"]
    with pytest.raises(UserError, match=r"unknown library 'text'; legal: numbers_, texts. Did you mean 'texts'?"):
        installed_docstrings(libraries=["text"])
    with pytest.raises(UserError, match="above 0"):
        installed_docstrings(megabytes=0)


def test_the_real_machine_has_a_corpus_and_nothing_is_imported():
    libraries = ["stdlib", "numpy", "sklearn", "torch"]
    before, start = set(sys.modules), time.process_time()
    found = list(installed_docstrings(libraries=libraries, megabytes=1.2))
    assert time.process_time() - start < 10
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in libraries}
    for library in libraries:
        own = [docstring for docstring in found if docstring.library == library]
        assert sum(len(docstring.text) for docstring in own) > 250_000
        assert sum(bool(docstring.summary) and len(docstring.body) >= 200 for docstring in own) > 100
    assert len({docstring.text for docstring in found}) == len(found)
    assert not any(".tests." in docstring.name for docstring in found)
    for docstring in found:
        assert docstring.text == docstring.text.strip()
        assert "\n" not in docstring.summary
        if docstring.summary:
            assert " ".join(docstring.text.split()).startswith(docstring.summary)
            assert docstring.text.endswith(docstring.body)
        else:
            assert docstring.body == docstring.text


def test_compiled_functions_of_real_libraries_are_there(machine):
    for module in ("torch._torch_docs", "numpy._core._add_newdocs", "numpy.linalg._linalg"):
        library, *below = module.split(".")
        origin = importlib.util.find_spec(library).origin
        path = Path(origin).parent.joinpath(*below).with_suffix(".py")
        machine(f"{module.replace('.', '/')}.py", path.read_bytes())
    found = read()
    assert found["torch.abs"].text.startswith("Computes the absolute value")
    assert found["torch.abs"].signature.startswith("abs(input")
    assert found["numpy._core.multiarray.array"].text.startswith("Create an array.")
    assert found["numpy.linalg._linalg.norm"].signature == "norm(x, ord=None, axis=None, keepdims=False)"
