"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Tracker:
    """Appends one JSON line a record, each flushed at once, and the same numbers to TensorBoard."""

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        """Open a run's records.

        Args:
            folder: of the run; made if it is not there.
            resume_at: the step that training goes on from: later records of an interrupted run are dropped.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "metrics.jsonl"
        self._keep_up_to(resume_at)
        self._stream = self._file.open("a", encoding="utf-8")
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(folder / "tensorboard"),
            purge_step=resume_at + 1 if resume_at else None,
            filename_suffix=f".{resume_at}",  # or two files of one second would be one
        )

    def _keep_up_to(self, step: int) -> None:
        if self._file.exists():
            *lines, _ = self._file.read_text(encoding="utf-8").split("\n")  # what has no end of line was cut off
            kept = [line for line in lines if step and json.loads(line)["step"] <= step]
            self._file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the values of a step; a nested mapping becomes a group."""
        self._stream.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        self._stream.flush()
        for name, value in values.items():
            group = value if isinstance(value, Mapping) else {"": value}
            for leaf, number in group.items():
                if isinstance(number, int | float):
                    self._writer.add_scalar("/".join(part for part in (name, leaf) if part), number, step)

    def close(self) -> None:
        """Finish both files."""
        self._stream.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run, oldest first."""
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
