import json
import re
import shlex

import pytest

from bothways.cli import command
from bothways.evaluation.card import write_card
from bothways.finetuning import Finetuning
from bothways.recipes.recipe import recipe

FIGURES = {"parameters": 1_200_000, "validation": {"loss": 3.14159265, "step": 7}, "run": "models/gpt"}
EXPERIMENTS = {
    "gpt": (recipe("gpt-tiny"), "generate"),
    "bert": (recipe("bert-tiny"), "finetune"),
    "sorter": (Finetuning(task="classification"), "predict"),
}


@pytest.fixture(params=EXPERIMENTS)
def card(request, tmp_path):
    """Return folder, experiment, the verb that the card should show, and the card."""
    experiment, verb = EXPERIMENTS[request.param]
    folder = tmp_path / f"a {request.param}"
    folder.mkdir()
    experiment.save(folder / "experiment.json")
    write_card(folder, title="A card", figures=FIGURES)
    return folder, experiment, verb, (folder / "README.md").read_text(encoding="utf-8")


def test_the_command_it_shows_can_be_typed(card):
    folder, _, verb, text = card
    [block] = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    program, shown, *words = shlex.split(block)
    assert (program, shown) == ("bothways", verb)
    assert command.commands[verb].make_context(verb, words).params["model"] == str(folder)


def test_it_tells_how_the_model_was_made_and_how_good_it_is(card):
    _, experiment, _, text = card
    assert text.startswith("---\nlibrary_name: bothways\n---\n\n# A card\n")
    [settings] = re.findall(r"^```json\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert json.loads(settings) == experiment.to_dict()
    for row in ("| parameters | 1200000 |", "| validation.loss | 3.142 |", "| validation.step | 7 |"):
        assert f"\n{row}\n" in text


def test_it_replaces_an_older_card(card):
    folder, _, _, text = card
    write_card(folder, title="A card", figures=FIGURES)
    assert (folder / "README.md").read_text(encoding="utf-8") == text
