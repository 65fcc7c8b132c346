"""The English demonstration corpus: documentation of the Python libraries that are installed on this machine.

Docstrings are read from source files by parsing them; nothing is imported or run. A cold machine has megabytes of them,
in good English, each with a label for free (its library), a title (its name) and often a one-line summary.
"""

import ast
import re
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from zlib import crc32

from bothways.errors import UserError, unknown
from bothways.progress import bar, note

STANDARD_LIBRARY = "stdlib"
"""The library name of all modules that come with Python: each of them alone is too small to be a class."""

_LEFT_OUT = {
    *("test", "tests", "testing", "__pycache__"),
    *("_vendor", "_vendored", "vendored", "externals"),  # copies of other libraries
    *("idlelib", "lib2to3", "site-packages", "dist-packages"),  # inside the standard library
}
_OURSELVES = "bothways"
_SHORTEST = 20  # characters; below it a docstring says no more than its name

_SIGNATURE = re.compile(r"[\w.]+\(.*\)(?: *-> *[^\n]+)?(?:\n--)?", re.DOTALL)
_SLOT_LINE = re.compile(r"^[ \t]*(?:%\([^)\n]*\)s[ \t]*)+\n?", re.MULTILINE)  # filled by % when the library is imported
_FORMAT_SLOT = re.compile(r"^[ \t]*\{\w+\}[ \t]*\n|(?<!\{)\{\w+\}(?!\})", re.MULTILINE)  # filled by str.format

_RULER = re.compile(r"^([-=~^\"*#+])\1{2,}$", re.MULTILINE)
_NO_SENTENCE = re.compile(  # a doctest, directive, list, tag, field or section
    rf"^(?:>>>|\.\. |[-*+|] |@|<|```|:(?:param|type|rtype|returns?|raises) |[A-Z]\w*:$)|{_RULER.pattern}", re.MULTILINE
)
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\bvs\.)(?<!\betc\.)\s+(?=[A-Z\"'`(\[:])"
)
_LONGEST_SUMMARY = 300  # characters
_ATTACHES = re.compile(r"(?:^|\.)_?add_(?:docstr|docstr_all|newdoc)$")

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, kw_only=True)
class Docstring:
    """The documentation of one module, class or function."""

    library: str
    """Top-level import name without leading underscores, or ``stdlib``."""
    name: str
    """Where it is defined, such as ``numpy.linalg._linalg.norm``."""
    signature: str
    """Such as ``norm(x, ord=None, axis=None)``; of a class, that of its ``__init__``; "" if there is none."""
    text: str
    """The whole, unindented."""
    summary: str
    """The first sentence on one line; "" if there is no more than it, or if the text does not begin with one."""
    body: str
    """What follows the summary."""


def installed_libraries() -> dict[str, int]:
    """Return every library whose source is here and the bytes of its source, the largest first."""
    sizes = {name: sum(source.path.stat().st_size for source in files) for name, files in _installed_files().items()}
    return dict(sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0])))


def installed_docstrings(
    *, libraries: Sequence[str] | None = None, megabytes: float | None = None
) -> Iterator[Docstring]:
    """Read the documentation of installed libraries, each text once, in a fixed order.

    The next file is always one of the library that has given least text so far, so that a reader who stops early, or
    sets ``megabytes``, holds as much of each as there is, and no more is parsed than needed: a core parses about 9 MB
    of source, and finds 1.5 MB of text in it, a second. Tests, vendored copies and this package itself are left out.

    Args:
        libraries: top-level import names, and ``stdlib``; all if not given.
        megabytes: stop after the file that brings the text to that many millions of bytes.
    Raises:
        UserError: a library is not installed.
    """
    if megabytes is not None and megabytes <= 0:
        raise UserError(f"megabytes must be above 0, not {megabytes}")
    found = _installed_files()
    for library in libraries or ():
        if library not in found:
            raise unknown("library", library, found)
    return _read({library: found[library] for library in sorted(libraries or found)}, megabytes)


@dataclass(frozen=True, kw_only=True)
class _Source:
    path: Path
    library: str
    module: str


def _read(libraries: dict[str, list[_Source]], megabytes: float | None) -> Iterator[Docstring]:
    seen: set[str] = set()
    given = dict.fromkeys(libraries, 0)  # bytes of text
    waiting = {library: deque(sorted(files, key=_scattered)) for library, files in libraries.items()}
    broken = 0
    with bar("reading documentation", sum(map(len, waiting.values()))) as progress:
        while waiting and (megabytes is None or sum(given.values()) < megabytes * 1e6):
            library = min(waiting, key=lambda name: given[name])
            source = waiting[library].popleft()
            if not waiting[library]:
                del waiting[library]
            tree = _parse(source.path)
            broken += tree is None
            for docstring in _docstrings(source, tree) if tree else ():
                if docstring.text not in seen:
                    seen.add(docstring.text)
                    given[library] += len(docstring.text.encode())
                    yield docstring
            progress.advance()
    if broken:
        note(f"{broken} source files cannot be parsed and are left out")


def _scattered(source: _Source) -> tuple[int, str]:
    """An order that is fixed but mixes a library's modules, so that its first files are a sample of all."""
    return crc32(source.module.encode()), source.module


def _installed_files() -> dict[str, list[_Source]]:
    """Return library to source files, by path."""
    paths = sysconfig.get_paths()
    found: dict[str, list[_Source]] = {}
    for root in dict.fromkeys(Path(paths[name]) for name in ("stdlib", "purelib", "platlib")):
        standard = root == Path(paths["stdlib"])
        for path in _python_files(root):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            library = STANDARD_LIBRARY if standard else parts[0].lstrip("_")
            if library != _OURSELVES:
                found.setdefault(library, []).append(_Source(path=path, library=library, module=module))
    return found


def _python_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and path.name.isidentifier() and path.name not in _LEFT_OUT:
            yield from _python_files(path)
        elif path.suffix == ".py" and path.stem.isidentifier() and not path.stem.startswith("test_"):
            yield path


def _parse(path: Path) -> ast.Module | None:
    """Return the syntax tree, empty if no docstring can be in it, or nothing if it is broken."""
    try:
        source = path.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            return ast.Module(body=[], type_ignores=[])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _docstrings(source: _Source, tree: ast.Module) -> Iterator[Docstring]:
    if raw := ast.get_docstring(tree, clean=False):
        yield from _docstring(source.library, source.module, "", raw)
    for qualifier, node in _definitions(tree.body, ""):
        if raw := ast.get_docstring(node, clean=False):
            signature = _signature(node, in_class=bool(qualifier))
            yield from _docstring(source.library, f"{source.module}.{qualifier}{node.name}", signature, raw)
    for name, raw in _attached(tree.body):
        full = name if name.startswith(f"{source.library}.") else f"{source.module}.{name}"
        yield from _docstring(source.library, full, "", raw)


def _docstring(library: str, name: str, signature: str, raw: str) -> Iterator[Docstring]:
    """Yield one docstring, or none if it says nothing."""
    text = _clean(raw)
    first, _, rest = text.partition("\n\n")
    while rest and _SIGNATURE.fullmatch(first):  # compiled functions begin with their signature, some twice
        signature = signature or _one_line(first)
        text = rest.strip()
        first, _, rest = text.partition("\n\n")
    if len(text) >= _SHORTEST:
        summary, body = _split_summary(text)
        yield Docstring(library=library, name=name, signature=signature, text=text, summary=summary, body=body)


def _one_line(signature: str) -> str:
    joined = " ".join(signature.removesuffix("\n--").replace("$self, ", "").split())
    return joined.replace("( ", "(").replace(", )", ")")


def _split_summary(text: str) -> tuple[str, str]:
    """Return the first sentence on one line and the rest, or "" and everything if it does not begin with a sentence."""
    first, _, rest = text.partition("\n\n")
    lines = first.split("\n")
    if len(lines) == 2 and _RULER.match(lines[1]):  # a title
        first = lines[0]
    elif _NO_SENTENCE.search(first):
        return "", text
    if end := _SENTENCE_END.search(first):
        first, rest = first[: end.start()], f"{first[end.end() :]}\n\n{rest}"
    summary, body = " ".join(first.split()), rest.strip()
    return (summary, body) if body and len(summary) <= _LONGEST_SUMMARY else ("", text)


def _clean(raw: str) -> str:
    """Unindent; drop trailing spaces and lines of nothing but slots, such as ``%(parameters)s``."""
    text = "\n".join(line.rstrip() for line in cleandoc(_SLOT_LINE.sub("", raw)).split("\n"))
    return text.encode("utf-8", "replace").decode().strip()


def _definitions(body: Iterable[ast.stmt], qualifier: str) -> Iterator[tuple[str, _Definition]]:
    """Yield classes, functions and methods with their class; what is nested in functions is nobody's interface."""
    for node in body:
        if isinstance(node, _Definition):
            yield qualifier, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{qualifier}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions([*node.body, *node.orelse], qualifier)


def _signature(node: _Definition, *, in_class: bool) -> str:
    """Return name and arguments, without annotations, ``self`` or ``cls``."""
    if isinstance(node, ast.ClassDef):
        starts = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return f"{node.name}{_arguments(starts[0].args, skip_first=True)}" if starts else ""
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    return f"{node.name}{_arguments(node.args, skip_first=in_class and not static)}"


def _arguments(arguments: ast.arguments, *, skip_first: bool) -> str:
    positional = [*arguments.posonlyargs, *arguments.args]
    for argument in [*positional, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument:
            argument.annotation = None
    if skip_first and positional:
        (arguments.posonlyargs or arguments.args).pop(0)
        del arguments.defaults[: max(0, len(arguments.defaults) - len(positional) + 1)]
    return f"({ast.unparse(arguments)})"


def _attached(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield name and text of calls that document compiled functions.

    ``add_docstr(torch.abs, TEXT)``, ``add_docstr_all("abs", TEXT)``, ``add_newdoc("numpy", "array", TEXT)`` and
    ``add_newdoc("numpy", "ndarray", ("shape", TEXT))``.
    """
    for node in body:
        call = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        if isinstance(call, ast.Call) and len(call.args) >= 2 and _ATTACHES.search(ast.unparse(call.func)):
            *owner, last = call.args
            path = ".".join(_dotted(part) for part in owner)
            for member, text in _members(last):
                yield f"{path}.{member}" if member else path, text


def _dotted(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _members(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield member ("" for the thing itself) and text of the last argument of such a call."""
    if isinstance(node, ast.List):
        for item in node.elts:
            yield from _members(item)
    elif isinstance(node, ast.Tuple):
        if len(node.elts) == 2 and (text := _static_text(node.elts[1])):
            yield _dotted(node.elts[0]), text
    elif text := _static_text(node):
        yield "", text


def _static_text(node: ast.expr) -> str:
    """Return the value of a text literal, of a sum of them, or of one that is formatted (slots left empty); else ""."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _static_text(node.left), _static_text(node.right)
        return left + right if left and right else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _FORMAT_SLOT.sub("", _static_text(node.func.value)).replace("{{", "{").replace("}}", "}")
    return ""
