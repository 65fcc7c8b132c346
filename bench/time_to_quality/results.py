"""Runs arms one after the other and keeps what came of each, so that a long bench can be run in pieces."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from time_to_quality.arms import Arm
from time_to_quality.heldout import FIGURES
from time_to_quality.machine import Watch, others
from time_to_quality.runners import Bench, run

QUIET = 0.15  # cores that others may keep busy


class NotYetError(Exception):
    """An arm has not been run, and this call is not to run it."""


class Results:
    """What came of each arm, from its file or from running it now."""

    def __init__(
        self, bench: Bench, *, identity: dict[str, Any], ours: dict[str, Any], wanted: tuple[str, ...]
    ) -> None:
        """Begin.

        Args:
            bench: what arms share.
            identity: what a kept result must have been made with.
            ours: the same of our own arms, in addition.
            wanted: peers that may be run now; empty: all.
        """
        self.bench, self.identity, self.ours, self.wanted = bench, identity, ours, wanted

    def get(self, arm: Arm) -> dict[str, Any]:
        """Return an arm's figures.

        Raises:
            NotYetError: it would have to be run, and it is not wanted now.
        """
        file = self.bench.work / "results" / f"{arm.name}.json"
        if file.exists():
            kept: dict[str, Any] = json.loads(file.read_text())
            if kept["identity"] == self.identity_of(arm.peer):
                return {**kept, "role": arm.role}
            print(f"{arm.name}: made with other settings, run again", flush=True)
        if self.wanted and arm.peer not in self.wanted:
            raise NotYetError(arm.name)
        result = self.run(arm)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=2) + "\n")
        partial.replace(file)
        return result

    def run(self, arm: Arm) -> dict[str, Any]:
        """Train and measure an arm."""
        busy = others()
        if busy > QUIET:
            print(f"WARNING: others keep {busy:.1f} cores busy (load {os.getloadavg()[0]:.1f}) before {arm.name}")
        folder = self.bench.work / "runs" / arm.name
        shutil.rmtree(folder, ignore_errors=True)
        logs = self.bench.work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        print(f"{arm.name} …", end=" ", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (logs / f"{arm.name}.txt").open("w") as log, Watch() as watch:
            try:
                trained = run(arm, self.bench, folder, log)
            except subprocess.CalledProcessError as error:
                sys.exit(f"failed; see {log.name}: {error}")
        model = trained.pop("model")
        figures = measure(self.bench, arm.peer, arm.family, model)
        shutil.rmtree(folder)
        main = next(iter(figures))
        print(f"{trained['seconds']:.1f} s, {main} {figures[main]:.4f}", flush=True)
        quiet = {"others_before": round(busy, 2), "others_during": round(watch.others, 2)}
        if watch.others > QUIET:
            print(f"WARNING: others kept {watch.others:.1f} cores busy meanwhile", flush=True)
        identity = self.identity_of(arm.peer)
        return {"identity": identity, **arm.to_dict(), **trained, "figures": figures, **quiet}

    def identity_of(self, peer: str) -> dict[str, Any]:
        """Return what a result of a peer must have been made with."""
        return {**self.identity, **(self.ours if peer == "bothways" else {})}

    def forget(self, beginning: str) -> None:
        """Remove what is kept of the arms whose names begin so."""
        for file in (self.bench.work / "results").glob(f"{beginning}*.json"):
            file.unlink()


def measure(bench: Bench, peer: str, family: str, model: str | Path) -> dict[str, float]:
    """Return a model's figures, found by the common evaluator in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        file, out = Path(temporary) / "job.json", Path(temporary) / "figures.json"
        job = {
            "peer": peer,
            "family": family,
            "model": str(model),
            "checkout": str(bench.checkout),
            "heldout": str(bench.work / "heldout"),
            "figures": FIGURES[family],
            "out": str(out),
        }
        file.write_text(json.dumps(job))
        command = [sys.executable, "-m", "time_to_quality.measure", file]
        done = subprocess.run(command, env=bench.environment(), capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found: dict[str, float] = json.loads(out.read_text())
    return found
