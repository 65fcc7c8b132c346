"""What the documentation says is true: its commands exist, its trees match the folders, both READMEs say the same."""

import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import bothways

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bothways"
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
DOCUMENTS = [ENGLISH, CHINESE, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
DOCUMENTS += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a document: language and content."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(document), flags=re.MULTILINE | re.DOTALL)


def prose(document: str) -> str:
    return re.sub(r"^```.*?^```$", "", read(document), flags=re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """Return every command line of a document's blocks and code spans, in words."""
    lines = [line for language, content in blocks(document) if language == "bash" for line in content.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose(document))
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("make", "bothways "))]


@cache
def help_of(verb: str) -> str:
    """Return what a command of the command line says of itself."""
    call = [sys.executable, "-c", "from bothways.cli import main; main()", verb, "--help"]
    shown = subprocess.run(call, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, f"bothways {verb} --help: {shown.stderr}"
    return shown.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_exists(document):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = {words[1] for words in commands(document) if words[0] == "make" and len(words) > 1}
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_flag_exists(document):
    for words in commands(document):
        if words[0] == "bothways":
            known = help_of(words[1])
            missing = [
                word for word in words[2:] if word.startswith("--") and word not in re.split(r"[\s,/=|]+", known)
            ]
            assert not missing, f"{document}: bothways {words[1]} knows no {missing}"
    passed = [words for words in commands(document) if words[:2] == ["make", "demo"]]
    for flag in re.findall(r"--[a-z-]+", " ".join(" ".join(words) for words in passed)):
        assert flag in help_of("demo"), f"{document}: bothways demo knows no {flag}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", read(document))]
    broken = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_examples_parse_and_import_public_names(document):
    for language, content in blocks(document):
        if language == "python":
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom) and node.module == "bothways":
                    assert {name.name for name in node.names} <= set(bothways.__all__)


@pytest.mark.parametrize("document", [ENGLISH, CHINESE, "docs/architecture.md"])
def test_the_tree_is_the_folder(document):
    (tree,) = [content for _, content in blocks(document) if content.startswith("src/bothways/\n")]
    drawn = re.findall(r"^[├└]── (\S+) +# \S", tree, flags=re.MULTILINE)
    there = [f"{path.name}/" for path in SOURCE.iterdir() if (path / "__init__.py").exists()]
    there += [path.name for path in SOURCE.glob("*.py") if path.name != "__init__.py"]
    assert sorted(drawn) == sorted(there)


@pytest.mark.parametrize("document", [ENGLISH, CHINESE])
def test_the_table_of_sizes_is_true(document):
    from bothways.model.heads import Model
    from bothways.recipes.recipe import recipe, recipe_names

    cells = r"`([\w-]+)` \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \| ([\d.]+) M"
    rows = re.findall(rf"^\| {cells} \|$", read(document), flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == recipe_names()
    for name, layers, hidden_size, heads, vocabulary, parameters in rows:
        model = recipe(name).model
        sizes = (model.num_hidden_layers, model.hidden_size, model.num_attention_heads)
        assert sizes == (int(layers), int(hidden_size), int(heads)), name
        assert model.vocab_size == int(vocabulary.replace(",", ""))
        with torch.device("meta"):  # shapes alone, no memory
            built = Model(model, {"language_model": 0}).num_parameters() / 1e6
        assert built == pytest.approx(float(parameters), rel=0.01, abs=0.06), name


@pytest.mark.parametrize("document", [ENGLISH, CHINESE])
def test_the_table_of_tasks_is_true(document):
    from bothways import discover
    from bothways.tasks.task import get_task

    rows = re.findall(r"^\| `([\w-]+)` \| ([A-Z 或or]+) \| (`.*`) \|$", read(document), flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(name.replace("_", "-") for name in discover.names("tasks"))
    for name, models, columns in rows:
        task = get_task(name)
        assert re.findall(r"`(\w+)`", columns) == [*task.INPUTS, *task.ANSWERS], name
        named = {"causal": ["GPT"], "bidirectional": ["BERT"], None: ["BERT", "GPT"]}[task.ATTENTION]
        assert re.findall("[A-Z]+", models) == named, name


def without_words(content: str) -> list[str]:
    """Return the lines of a block less their comments, which are in the reader's language."""
    return [line.partition("#")[0].rstrip() for line in content.splitlines()]


def test_both_readmes_have_the_same_blocks():
    english = [(language, without_words(content)) for language, content in blocks(ENGLISH)]
    assert [(language, without_words(content)) for language, content in blocks(CHINESE)] == english
    assert len(english) >= 5


def test_both_readmes_have_the_same_shape():
    def shape(document: str) -> list[str]:
        marks = re.findall(r"^(#+ |- |\||!\[)", prose(document), flags=re.MULTILINE)
        return [mark.strip() for mark in marks]

    assert shape(CHINESE) == shape(ENGLISH)


@pytest.mark.parametrize("pattern", [r"`([^`\n]+)`", r"\]\(([^)]+)\)", r"\*\*([^*]+)\*\*"])
def test_both_readmes_name_the_same_things(pattern):
    assert set(re.findall(pattern, prose(CHINESE))) ^ set(re.findall(pattern, prose(ENGLISH))) <= {ENGLISH, CHINESE}
