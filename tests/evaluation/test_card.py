import json
import re
import shlex
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.cli import command
from bothways.evaluation.card import preparation, write_card
from bothways.finetuning import Finetuning
from bothways.model.heads import Model
from bothways.recipes.recipe import recipe
from bothways.training.run import Trained

FIGURES = {
    "parameters": 1_200_000,
    "tokens": 600_000,
    "steps": 7,
    "validation": {"loss": 3.14159265, "step": 7},
    "run": "models/gpt",
}
MANIFEST = {
    "folder": "/home/somebody/secret place/books|1",
    "weight": None,
    "fingerprint": "f1" * 32,
    "language": "en",
    "splits": {
        "train": {"documents": 1576, "tokens": 300_000, "bytes": 1_142_237},
        "validation": {"documents": 19, "tokens": 4503, "bytes": 17_508},
    },
    "settings": {
        "cleaning": {
            "mojibake": True,
            "private_use": False,
            "unicode": "NFC",
            "min_characters": 5,
            "language_share": None,
        },
        "deduplication": {"exact": True, "near": True, "threshold": 0.5},
        "decontamination": {"ngram": 13, "action": "drop"},
    },
}
FILES = [{"folder": "data/train.csv", "examples": 1200}]
EXPERIMENTS = {
    "gpt": (recipe("gpt-tiny"), ["generate"], [MANIFEST]),
    "bert": (recipe("bert-tiny"), ["finetune"], [MANIFEST]),
    "hybrid": (recipe("hybrid-tiny"), ["generate", "finetune"], [MANIFEST]),
    "sorter": (Finetuning(task="classification"), ["predict"], FILES),
}


def trained(**others):
    values = {
        "steps": 7,
        "tokens": 600_000,
        "seconds": 7200.0,
        "flops": 4.5e15,
        "evaluations": [],
        "best": {},
        "curve": [],
    }
    return Trained(**{**values, "warnings": [], "skipped": 0, "rewinds": 0, **others})


@pytest.fixture(params=EXPERIMENTS)
def card(request, tmp_path):
    """Return folder, experiment, the verbs that the card should show, and the card."""
    experiment, verbs, data = EXPERIMENTS[request.param]
    folder = tmp_path / f"a {request.param}"
    folder.mkdir()
    experiment.save(folder / "experiment.json")
    write_card(folder, title="A card", figures=FIGURES, data=data, trained=trained())
    return folder, experiment, verbs, (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def tiny(request, tmp_path):
    """Return the folder of a tiny run with a saved model, of the recipe that is asked for."""
    experiment = recipe(getattr(request, "param", "gpt-tiny"))
    experiment = replace(experiment, model=replace(experiment.model, vocab_size=40))
    experiment.save(tmp_path / "experiment.json")
    save_checkpoint(tmp_path / "last", Model(experiment.model, {"language_model": 0}))
    return tmp_path


def test_the_commands_it_shows_can_be_typed(card):
    folder, _, verbs, text = card
    [block] = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    for line, verb in zip(block.splitlines(), verbs, strict=True):
        program, shown, *words = shlex.split(line)
        assert (program, shown) == ("bothways", verb)
        assert command.commands[verb].make_context(verb, words).params["model"] == str(folder)


def test_it_tells_how_the_model_was_made_and_how_good_it_is(card):
    _, experiment, _, text = card
    assert text.count("\n# A card\n") == 1
    [settings] = re.findall(r"^```json\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert json.loads(settings) == experiment.to_dict()
    for row in (
        "| parameters | 1,200,000 |",
        "| validation.loss | 3.142 |",
        "| validation.step | 7 |",
        "| steps | 7 |",
    ):
        assert text.count(f"\n{row}\n") == 1, row
    assert "models/gpt" not in text


def test_it_tells_the_cost_with_all_that_is_assumed(card):
    text = card[-1]
    for row in ("| time | 2 hours |", "| computation | 4.5e+15 FLOPs |"):
        assert f"\n{row}\n" in text
    for said in ("kWh", "kg CO2 equivalent", "W a core", "the world's average", "are not counted"):
        assert said in text


def test_the_hub_reads_its_head(card):
    folder, _, verbs, text = card
    values = ModelCard(text).data.to_dict()
    assert values["library_name"] == "bothways"
    assert values["license"] == "unknown"
    assert values.get("language") == (None if verbs == ["predict"] else ["en"])
    tags = [{"generate": "gpt", "finetune": "bert", "predict": "classification"}[verb] for verb in verbs]
    assert {"bothways", *tags} <= set(values["tags"])
    assert "datasets" not in values
    assert "pipeline_tag" not in values, "no model is saved, so nothing is known of what opens it"
    assert folder.name not in json.dumps(values)


def test_it_says_what_the_model_must_not_be_used_for(card):
    text = card[-1]
    assert "no safety training" in text
    assert "Licence" in text


@pytest.mark.parametrize(("steps", "batch", "times"), [(50, 32, "1.32"), (114, 32, "3"), (None, 32, "3")])
def test_how_often_examples_were_seen_goes_by_the_steps(tmp_path, steps, batch, times):
    Finetuning(task="classification", batch_size=batch).save(tmp_path / "experiment.json")
    write_card(tmp_path, title="A card", figures={"steps": steps} if steps else {}, data=FILES)
    assert f"\n| times that it saw the examples | {times} |\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_it_tells_what_was_read_and_not_where_it_lay(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    write_card(tmp_path, title="A card", figures=FIGURES, data=[MANIFEST])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for row in (
        "| corpus | books\\|1 |",
        "| documents | 1,576 |",
        "| tokens | 300,000 |",
        "| documents held out to measure on | 19 |",
        "| tokens held out to measure on | 4,503 |",
        f"| fingerprint | {MANIFEST['fingerprint']} |",
        "| licence | unknown |",
        "| times that it saw the text | 2 |",
    ):
        assert f"\n{row}\n" in text, row
    assert "somebody" not in text
    assert "It read 600,000 tokens with 1,200,000 parameters (0.5 tokens for each)" in text
    assert "It read English" in text


def test_text_of_two_languages_is_told_as_both(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    data = [{**MANIFEST, "languages": {"en": 800, "zh": 200}}]
    write_card(tmp_path, title="A card", figures=FIGURES, data=data)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "\n| language | en 80 %, zh 20 % |\n" in text
    assert "It read English and Chinese" in text
    assert ModelCard(text).data.to_dict()["language"] == ["en", "zh"]


def test_preparation_is_told_in_words():
    said = preparation(MANIFEST["settings"])
    assert said == (
        "Cleaned: mojibake, min characters 5. Unicode: NFC. Copies removed: exact and near (at least 50% alike). "
        "Overlap with named test files: drop, by 13 words in a row."
    )
    assert preparation({"deduplication": {"exact": False, "near": False}}) == "Copies were not removed."
    assert preparation({}) == ""


def test_files_of_examples_are_counted(tmp_path):
    Finetuning(task="classification").save(tmp_path / "experiment.json")
    write_card(tmp_path, title="A card", figures={"steps": 3}, data=FILES)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "\n| train.csv | 1,200 |\n" in text
    assert "Nothing was held out" in text


def test_examples_that_were_learnt_from_are_told_beside_the_figures(tmp_path):
    Finetuning(task="classification").save(tmp_path / "experiment.json")
    figures = {"validation": {"accuracy": 1.0}, "validation_overlap": {"exact": 2, "share": 0.5, "of": 4}}
    write_card(tmp_path, title="A card", figures=figures)
    said = "50.0 % of these 4 examples stand in the training files, too"
    assert said in (tmp_path / "README.md").read_text(encoding="utf-8")
    write_card(tmp_path, title="A card", figures={**figures, "validation_overlap": {"share": 0.0, "of": 4}})
    assert "in the training files, too" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_warnings_stand_beside_the_figures(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    warnings = [{"step": 30, "name": "plateau", "text": "The loss\nstays."}]
    write_card(tmp_path, title="A card", figures=FIGURES, trained=trained(warnings=warnings))
    assert "\n- Step 30: The loss stays.\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_saved_model_opens_in_transformers_as_the_card_says(tiny):
    write_card(tiny, title="A card", figures=FIGURES, licence="apache-2.0")
    text = (tiny / "README.md").read_text(encoding="utf-8")
    values = ModelCard(text).data.to_dict()
    assert (values["pipeline_tag"], values["license"]) == ("text-generation", "apache-2.0")
    assert "\n| opens in transformers as | LlamaForCausalLM |\n" in text
    [block] = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = block.splitlines()
    assert lines[0] == "from transformers import AutoModelForCausalLM, AutoTokenizer"
    assert json.loads(lines[2].removeprefix("folder = ")) == str(tiny / "last")
    assert lines[-1] == "model = AutoModelForCausalLM.from_pretrained(folder)"


@pytest.mark.parametrize("tiny", ["hybrid-tiny"], indirect=True)
def test_a_hybrid_opens_both_ways_as_the_card_says(tiny):
    write_card(tiny, title="A card", figures=FIGURES)
    text = (tiny / "README.md").read_text(encoding="utf-8")
    assert "\n| opens in transformers as | LlamaForCausalLM |\n" in text
    assert "\n| opens with config.bidirectional.json as | EuroBertForMaskedLM |\n" in text
    one, other = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert one.splitlines()[-1] == "model = AutoModelForCausalLM.from_pretrained(folder)"
    assert other.splitlines() == [
        "from transformers import AutoConfig, AutoModelForMaskedLM",
        "",
        'config = AutoConfig.from_pretrained(f"{folder}/config.bidirectional.json")',
        "model = AutoModelForMaskedLM.from_pretrained(folder, config=config)",
    ]
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    folder = json.loads(one.splitlines()[2].removeprefix("folder = "))
    config = AutoConfig.from_pretrained(f"{folder}/config.bidirectional.json")
    assert type(AutoModelForCausalLM.from_pretrained(folder)).__name__ == "LlamaForCausalLM"
    assert type(AutoModelForMaskedLM.from_pretrained(folder, config=config)).__name__ == "EuroBertForMaskedLM"


@pytest.mark.slow
def test_transformers_opens_it_so(tiny):
    from transformers import AutoModelForCausalLM

    assert type(AutoModelForCausalLM.from_pretrained(tiny / "last")).__name__ == "LlamaForCausalLM"


def test_a_hostile_title_stays_a_title(tmp_path):
    recipe("gpt-tiny").save(tmp_path / "experiment.json")
    write_card(tmp_path, title="x\n---\nlicense: mit\n# y", figures=FIGURES)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert ModelCard(text).data.to_dict()["license"] == "unknown"
    assert "\n# x --- license: mit # y\n" in text


def test_it_replaces_an_older_card(card):
    folder, _, verbs, text = card
    write_card(folder, title="Another card", figures={})
    write_card(
        folder, title="A card", figures=FIGURES, data=FILES if verbs == ["predict"] else [MANIFEST], trained=trained()
    )
    assert (folder / "README.md").read_text(encoding="utf-8") == text
