"""The rules of docs/architecture.md, read off the source with ``ast``: what may import what, and what nobody may do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bothways"

# From the ground up. Imports go strictly downward; the rooms of one floor never import each other.
FLOORS = {
    "ground": ("errors", "config", "batch", "discover", "language", "boundaries", "progress", "execution"),
    "matter": ("text", "model", "metrics"),
    "skills": ("objectives", "inference", "checkpoints"),
    "engine": ("training",),
    "uses": ("tasks",),
    "settings": ("experiment", "finetuning"),
    "rooms": ("recipes", "evaluation", "exports", "harnesses", "explain", "safety", "serve"),
    "front": ("auto", "advise"),
    "actions": ("verbs",),
    "door": ("__init__", "__main__", "cli"),
}
ONE_ROOM = ("ground", "door")  # floors that are a single room: within a room, imports are free
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
HEIGHT = {floor: height for height, floor in enumerate(FLOORS)}

NO_TORCH = ("metrics", "execution", "text.preparation", "text.found.docstrings", "text.found.snownlp")
ONLY_IN = {
    "transformers": "exports",
    **dict.fromkeys(("lm_eval", "mteb"), "harnesses"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "flask"), "serve"),
}
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
# Whatever runs code that a file brings along.
NO_IMPORTS = {"pickle", "cPickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"}
NO_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"}
IMPORTERS = ("import_module", "__import__")
# The one program that opens pickles: started as a process, imported by nobody.
UNPICKLING = "bothways.checkpoints.unpickling"


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def below(module: str, folder: str) -> bool:
    """Whether a module is a folder (or module) of the package, or lies in it."""
    return f"{module}.".startswith(f"bothways.{folder}.")


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield line, local name and full name of all that is imported: at the top, within functions, by import_module."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield node.lineno, name.asname or name.name.partition(".")[0], name.name
            case ast.ImportFrom(names=names):
                for name in names:
                    full = f"{'.' * node.level}{node.module or ''}.{name.name}"
                    yield node.lineno, name.asname or name.name, full
            case ast.Call(args=[ast.Constant(value=str(target)), *_]) if ast.unparse(node.func).endswith(IMPORTERS):
                yield node.lineno, "", target


def room(module: str) -> str:
    """Return the room of a module of ours; a name that is not a module is one of the public names at the door."""
    name = module.split(".")[1] if "." in module else "__init__"
    return name if name in FLOOR_OF else "__init__"


def wrong_floor(module: str, target: str) -> str | None:
    """Return what is wrong with one of our modules importing another."""
    here, there = room(module), room(target)
    floor, target_floor = FLOOR_OF[here], FLOOR_OF[there]
    if here == there or (floor == target_floor and floor in ONE_ROOM) or HEIGHT[target_floor] < HEIGHT[floor]:
        return None
    if floor == target_floor:
        return f"{here} and {there} are siblings on the floor '{floor}' and never import each other"
    return f"{there} (floor {HEIGHT[target_floor]}, {target_floor}) lies above {here} (floor {HEIGHT[floor]}, {floor})"


def wrong_import(module: str, target: str) -> str | None:
    """Return what is wrong with a module importing a name."""
    library = target.partition(".")[0]
    if f"{target}.".startswith(f"{UNPICKLING}."):
        return f"{UNPICKLING} opens pickles and is only ever started as a process of its own"
    if not library:
        return "write the import out in full, from bothways on"
    if library == "bothways":
        return wrong_floor(module, target)
    if library in NO_IMPORTS:
        return f"{library} runs code from files and is banned"
    if library in ONLY_IN and not below(module, ONLY_IN[library]):
        return f"only {ONLY_IN[library]} may import {library}"
    if library == "torch" and any(below(module, folder) for folder in NO_TORCH):
        return f"{module} must work without torch"
    return None


def wrong_call(node: ast.Call, module: str, names: dict[str, str]) -> str | None:
    """Return what is wrong with a call; ``names`` are the file's imported names and what they stand for."""
    first, dot, rest = ast.unparse(node.func).partition(".")
    called = names.get(first, first) + dot + rest
    if called == "torch.load" and module == UNPICKLING:
        safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
        return None if safe else "torch.load must be told weights_only=True"
    if called in NO_CALLS:
        return f"{called} runs code that a file brings along and is banned"
    literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
    if called.rpartition(".")[2] in IMPORTERS and not literal and module != "bothways.discover":
        return f"{called} of a name that is not written out is discover's alone"
    if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords):
        return "allow_pickle runs code that a file brings along and is banned"
    return None


def violations(module: str, source: str) -> list[str]:
    """Return each breach of the house rules in one module, as ``module:line what: why``."""
    tree = ast.parse(source)
    imported = list(imports(tree))
    names = {local: full if local != full.partition(".")[0] else local for _, local, full in imported}
    found = [(line, f"imports {full}", wrong_import(module, full)) for line, _, full in imported]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found += [(node.lineno, f"calls {ast.unparse(node.func)}", wrong_call(node, module, names)) for node in calls]
    breaches = [f"{module}:{line} {what}: {wrong}" for line, what, wrong in found if wrong]
    if bad := NO_NAMES & set(module.split(".")):
        breaches.append(f"{module}: {', '.join(bad)} says nothing of what is inside; name it after what it holds")
    return breaches


def reached(start: str, modules: dict[str, Path]) -> dict[str, str]:
    """Return every module of ours that importing one brings along, each with the chain of imports that leads there."""
    chains, waiting = {start: start}, [start]
    while waiting:
        module = waiting.pop()
        tree = ast.parse(modules[module].read_text(encoding="utf-8"))
        targets = [full for _, _, full in imports(tree)]
        for target in [*targets, module.rpartition(".")[0]]:
            while target and target not in modules:
                target = target.rpartition(".")[0]  # a function or class of a module, or a module of someone else
            if target and target not in chains:
                chains[target] = f"{chains[module]} -> {target}"
                waiting.append(target)
    return chains


@pytest.mark.parametrize("module", MODULES)
def test_every_module_keeps_the_house_rules(module):
    breaches = violations(module, MODULES[module].read_text(encoding="utf-8"))
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("module", [module for module in MODULES if any(below(module, folder) for folder in NO_TORCH)])
def test_what_must_work_without_torch_does_not_reach_it_either(module):
    for target, chain in reached(module, MODULES).items():
        tree = ast.parse(MODULES[target].read_text(encoding="utf-8"))
        libraries = {full.partition(".")[0] for _, _, full in imports(tree)}
        assert "torch" not in libraries, f"torch is reached by {chain}"


def test_what_opens_pickles_knows_nothing_of_the_package_and_does_nothing_when_imported():
    tree = ast.parse(MODULES[UNPICKLING].read_text(encoding="utf-8"))
    assert not [full for _, _, full in imports(tree) if full.startswith("bothways")]
    named = [module for module, path in MODULES.items() if '"unpickling' in path.read_text(encoding="utf-8")]
    assert named == ["bothways.checkpoints.pickles"], "who else starts it?"
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    docstring, *statements, main = tree.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, kinds) for statement in statements)
    assert isinstance(main, ast.If)
    assert ast.unparse(main.test) == "__name__ == '__main__'"


def test_every_module_has_a_floor():
    homeless = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES.values()} - FLOOR_OF.keys()
    assert not homeless, f"give {homeless} a floor in docs/architecture.md and here"


def test_the_map_in_the_documentation_is_this_one():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^(\d) +(\w+) +(\S.*)$", text, flags=re.MULTILINE)
    drawn = {floor: (int(height), set(rooms.split(" · "))) for height, floor, rooms in rows}
    assert drawn == {floor: (HEIGHT[floor], set(rooms)) for floor, rooms in FLOORS.items()}


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("bothways.model.heads", "from bothways.training import x", "training (floor 3, engine) lies above model"),
        ("bothways.model.heads", "def f():\n    import bothways.auto", "bothways.model.heads:2 imports bothways.auto"),
        ("bothways.text.packing", "from bothways.model import transformer", "text and model are siblings"),
        ("bothways.text.packing", "from bothways import model", "text and model are siblings"),
        ("bothways.text.packing", "from ..model import transformer", "write the import out in full"),
        ("bothways.text.packing", "from . import shards", "write the import out in full"),
        ("bothways.batch", "from bothways.text.packing import pack", "text (floor 1, matter) lies above batch"),
        ("bothways.tasks.span", "from bothways import AutoTokenizer", "__init__ (floor 9, door) lies above tasks"),
        ("bothways.tasks.span", "import importlib\nimportlib.import_module('bothways.auto')", "auto (floor 7"),
        ("bothways.auto", "from bothways.advise import doctor", "auto and advise are siblings"),
        ("bothways.metrics.rouge", "import torch.nn as nn", "must work without torch"),
        ("bothways.text.preparation", "from torch import Tensor", "must work without torch"),
        ("bothways.model.heads", "from transformers import BertModel", "only exports may import"),
        ("bothways.cli", "import uvicorn", "only serve may import uvicorn"),
        ("bothways.tasks.span", "from lm_eval.api.model import LM", "only harnesses may import lm_eval"),
        ("bothways.text.utils", "", "says nothing of what is inside"),
        ("bothways.model.cache", "import pickle", "pickle runs code"),
        ("bothways.model.cache", "from joblib import load", "joblib runs code"),
        ("bothways.model.cache", "import torch\ntorch.load('x')", "bothways.model.cache:2 calls torch.load"),
        ("bothways.model.cache", "import torch as t\nt.load('x')", "torch.load runs code"),
        ("bothways.checkpoints.pickles", "import torch\ntorch.load('x', weights_only=True)", "torch.load runs code"),
        (UNPICKLING, "import torch\ntorch.load('x')", "must be told weights_only=True"),
        (UNPICKLING, "import torch\ntorch.load('x', weights_only=safe)", "must be told weights_only=True"),
        (UNPICKLING, "import pickle", "pickle runs code"),
        ("bothways.checkpoints.pickles", "from bothways.checkpoints import unpickling", "started as a process"),
        ("bothways.verbs.x", "from bothways.checkpoints.unpickling import convert", "started as a process"),
        ("bothways.verbs.x", "import bothways.checkpoints.unpickling as u", "started as a process"),
        ("bothways.model.cache", "import torch.nn\ntorch.load('x')", "torch.load runs code"),
        ("bothways.model.cache", "from torch import load as read\nread('x')", "torch.load runs code"),
        ("bothways.model.cache", "from yaml import load\nload('x')", "yaml.load runs code"),
        ("bothways.model.cache", "eval('1')", "eval runs code"),
        ("bothways.model.cache", "exec('1')", "exec runs code"),
        ("bothways.model.cache", "import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("bothways.tasks.span", "from importlib import import_module\nimport_module(name)", "discover's alone"),
        ("bothways.tasks.span", "import importlib as lib\nlib.import_module(name)", "discover's alone"),
        ("bothways.tasks.span", "__import__(name)", "discover's alone"),
    ],
)
def test_a_breach_is_found_and_explained(module, source, breach):
    found = violations(module, source)
    assert any(breach in line for line in found), found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bothways.training.trainer", "from bothways.text.packing import pack\nfrom bothways.errors import UserError"),
        (
            "bothways.text.packing",
            "from bothways.text.tokenizing.tokenizer import Tokenizer\nfrom bothways.batch import Row",
        ),
        ("bothways.config", "from bothways import errors"),
        ("bothways.cli", "import bothways\nfrom bothways import __version__, evaluate"),
        ("bothways.exports.hf", "import transformers"),
        (UNPICKLING, "import torch\ntorch.load('x', weights_only=True, mmap=True)"),
        ("bothways.serve.app", "import fastapi, torch"),
        ("bothways.text.packing", "import torch"),
        ("bothways.discover", "import importlib\nimportlib.import_module(name)"),
        ("bothways.model.heads", "model.eval()\nself.load('x')\nnp.load('x', allow_pickle=False)"),
        ("bothways.model.heads", "import torch.nn.functional as F\nF.load('x')"),
    ],
)
def test_what_is_allowed_is_left_alone(module, source):
    assert violations(module, source) == []


def test_torch_is_found_however_far_away(tmp_path):
    sources = {
        "bothways": "",
        "bothways.metrics": "",
        "bothways.metrics.rouge": "def score():\n    from bothways.language import words",
        "bothways.language": "from bothways.batch import Row",
        "bothways.batch": "import torch",
    }
    modules = {name: tmp_path / f"{name}.py" for name in sources}
    for name, source in sources.items():
        modules[name].write_text(source)
    chain = "bothways.metrics.rouge -> bothways.language -> bothways.batch"
    assert reached("bothways.metrics.rouge", modules)["bothways.batch"] == chain
    assert "bothways.batch" not in reached("bothways.metrics", modules)
