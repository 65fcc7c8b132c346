"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard events, and Weights & Biases if it is asked for.

Records are for people. A full disk delays them and never stops a training; what a crash tore is passed over.
"""

import errno
import io
import json
import math
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bothways.progress import note
from bothways.training.weights_and_biases import WeightsAndBiases

METRICS = "metrics.jsonl"
MEASURED_ANEW = "measured_anew"  # in a record: evaluations from here on are not to be compared with those before


class Tracker:
    """Appends one JSON line a record, each flushed at once, and the same numbers to TensorBoard.

    A record is whatever belongs to a step: numbers, groups of numbers such as ``validation``, ``null`` for what could
    not be told, ``{"warning": {"name": …, "text": …}}``, or ``{"measured_anew": true}``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume_at: int = 0,
        wandb_project: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a run's records.

        Args:
            folder: of the run; made if it is not there.
            resume_at: the step that training goes on from: later records of an interrupted run are dropped.
            wandb_project: of Weights & Biases, to send the numbers to as well; None: they stay here.
            settings: plain values that Weights & Biases shows beside the run.
        Raises:
            UserError: a project is named, and the package ``wandb`` is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / METRICS
        _cut(file, resume_at)
        self._lines = _Lines(file)
        self._events = _Events(folder / "tensorboard", resume_at)
        self._elsewhere = (
            WeightsAndBiases(folder, wandb_project, settings or {}, anew=not resume_at) if wandb_project else None
        )

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the values of a step; a nested mapping becomes a group."""
        self._lines.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        numbers = dict(_numbers(values))
        self._events.write(step, numbers)
        if self._elsewhere:
            self._elsewhere.record(step, numbers)

    def close(self) -> None:
        """Finish all of it."""
        self._lines.close()
        self._events.close()
        if self._elsewhere:
            self._elsewhere.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(source: Path) -> list[dict[str, Any]]:
    """Return the records of a run, oldest first; lines that are none are left out, which is noted.

    Args:
        source: a run's folder, or its ``metrics.jsonl``.
    """
    file = source / METRICS if source.is_dir() else source
    if not file.is_file():
        return []
    records: list[dict[str, Any]] = []
    torn: list[int] = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line.strip():
            torn.append(number)
    if torn:
        more = f", nor are {len(torn) - 1} others" if len(torn) > 1 else ""
        note(f"{file}, line {torn[0]}: not a record{more}; left out")
    return records


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record on a line; None: there is none, as where a power cut tore it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    known = isinstance(step, int | float) and not isinstance(step, bool) and math.isfinite(step)
    return record if known else None


def _cut(file: Path, step: int) -> None:
    """Drop what a metrics file says of later steps, and a line without an end. It only gets shorter: that needs no room."""
    if not file.exists():
        return
    kept = 0
    for line in file.read_bytes().splitlines(keepends=True) if step else ():
        record = _parse(line)
        if not line.endswith(b"\n") or (record is not None and record["step"] > step):
            break
        kept += len(line)
    with file.open("r+b") as stream:
        stream.truncate(kept)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield name and value of each number, those of groups as ``group/name``."""
    for name, value in values.items():
        group = value if isinstance(value, Mapping) else {"": value}
        for leaf, number in group.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield "/".join(part for part in (name, leaf) if part), number


class _Lines:
    """The lines of a file; while there is no room for them they wait."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("ab", buffering=0)
        self._waiting = b""
        self._told = False

    def write(self, line: str) -> None:
        self._waiting += line.encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[self._stream.write(self._waiting) :]
        except OSError as error:
            if not self._told:
                note(f"{self._stream.name} cannot be written ({error.strerror}); training goes on, and its lines wait")
            self._told = True
        else:
            self._told = False

    def close(self) -> None:
        self.write("")
        self._stream.close()


class _Events:
    """A file of TensorBoard, written by this very thread: one of its own would die on a full disk and then block all."""

    def __init__(self, folder: Path, resume_at: int) -> None:
        self._stream: io.FileIO | None = None
        now = f"{time.time_ns():019}"  # TensorBoard reads files in the order of their names
        name = f"events.out.tfevents.{now[:-9]}.{now[-9:]}.{socket.gethostname()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = io.FileIO(folder / name, "w")
            self._put(0, file_version="brain.Event:2")
            if resume_at:
                self._put(resume_at + 1, session_log={"status": "START"})  # drops what older files say from here on
        except OSError as error:
            self._give_up(error)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        if not self._stream or not numbers:
            return
        try:
            self._put(step, summary={"value": [{"tag": tag, "simple_value": value} for tag, value in numbers.items()]})
        except OSError as error:
            self._give_up(error)

    def _put(self, step: int, **what: Any) -> None:
        """Append an event: its length, a checksum of that, the event, a checksum of it."""
        assert self._stream is not None
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        data = Event(wall_time=time.time(), step=step, **what).SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        record = length + sums[0] + data + sums[1]
        if self._stream.write(record) < len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def _give_up(self, error: OSError) -> None:
        self.close()
        self._stream = None
        note(f"TensorBoard's events cannot be written ({error.strerror}); training goes on without them")
