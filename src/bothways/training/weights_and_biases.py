"""What a run writes down, sent to Weights & Biases too. It is an extra, and nothing that happens there stops a training."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bothways.errors import UserError
from bothways.progress import note

SECONDS = 30.0  # that a start or an end may wait for a server
IDENTITY = "wandb_id.json"  # in the run's folder: which run over there this one is
_HERE = ("offline", "dryrun", "disabled")  # modes of WANDB_MODE that ask no server


def check_installed() -> None:
    """Refuse where the package is missing, before any work is done.

    Raises:
        UserError: it is.
    """
    from importlib.util import find_spec

    if find_spec("wandb") is None:
        raise UserError(
            "--wandb needs the package wandb, which is not installed; install it with: pip install 'bothways[wandb]'"
        )


class WeightsAndBiases:
    """One run of a project. Where there is no login or no server, it is kept in ``wandb/`` for ``wandb sync``."""

    def __init__(self, folder: Path, project: str, settings: Mapping[str, Any], *, anew: bool) -> None:
        """Begin a run, or go on with it.

        Args:
            folder: of the run, which it is named after.
            project: to which it belongs; made over there if it is new.
            settings: are shown beside it; groups among them, such as the manifest of a corpus, are left out.
            anew: it is another run than the one that the folder held before.
        Raises:
            UserError: the package is missing.
        """
        check_installed()
        self._folder = folder
        self._run: Any = None
        try:
            self._run = self._begin(project, settings, _identity(folder, anew=anew))
        except Exception as error:  # whatever it is: a picture elsewhere is not worth a training
            self._give_up(error)

    def _begin(self, project: str, settings: Mapping[str, Any], identity: str) -> Any:
        import wandb

        asked = os.environ.get("WANDB_MODE", "")
        offline = asked in _HERE or not _logged_in(wandb)
        run = wandb.init(
            project=project,
            name=self._folder.resolve().name,
            id=identity,
            resume="allow",
            dir=str(self._folder),
            config={name: value for name, value in settings.items() if isinstance(value, str | int | float | None)},
            mode="offline" if offline and asked not in _HERE else None,
            settings=wandb.Settings(silent=True, console="off", init_timeout=SECONDS, finish_timeout=SECONDS),
        )
        run.define_metric("*", step_metric="step")  # a step that is taken again after a resume is no error then
        if asked != "disabled":
            note(f"Weights & Biases: {self._later() if offline else run.url}")
        return run

    def record(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of a step."""
        if self._run is None:
            return
        try:
            self._run.log({"step": step, **numbers})
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """End the run, waiting for what is under way for no longer than ``SECONDS``."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        note(f"Weights & Biases fails, and the run goes on without it: {_reason(error)}")

    def _later(self) -> str:
        return f"no login, or offline; to send it later: wandb sync {self._folder / 'wandb'}/offline-run-*"


def _logged_in(wandb: Any) -> bool:
    """Whether there is a login that the server takes; nobody is asked for one."""
    try:
        return bool(wandb.login(prompt=False))
    except Exception as error:  # the run is recorded here then, and can be sent later
        note(f"Weights & Biases: the login is not taken: {_reason(error)}")
        return False


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _identity(folder: Path, *, anew: bool) -> str:
    """Return the id that the run in this folder has over there, so that it goes on as the same one, even moved."""
    file = folder / IDENTITY
    if not anew and file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])
    identity = uuid.uuid4().hex[:16]
    file.write_text(json.dumps({"id": identity}) + "\n", encoding="utf-8")
    return identity
