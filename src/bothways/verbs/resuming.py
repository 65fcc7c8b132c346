"""Whether a run may go on: what it was made from beside what it is given now, each difference by its name."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways import progress
from bothways.errors import UserError, unknown
from bothways.experiment import Experiment
from bothways.training.states import GoingOn
from bothways.verbs.mixture import Mixture

Differences = dict[str, tuple[Any, Any]]

TOKENIZER = "tokenizer.json"  # SHA-256 of the file that all corpora of a run share
ORDER = (
    "data",
    "seed",
    "training.row_length",
    "objective.sequence_length",
    "objective.short_share",
)  # what decides which text makes a row; all else is done to a row when its step comes
MEASURE = ("data", "training.row_length", "objective.")  # what decides what a held-out loss means
# What no permission lets change, by the beginning of its name, and why.
FIXED = {
    "model.": "the trained weights are those of that model",
    "objective.name": "the trained heads are those of that objective",
    "objective.pairs": "the trained heads are those of that objective",
    "optimizer.name": "what the optimizer remembers is of no use to another one",
    TOKENIZER: "the model knows tokens by their numbers in that tokenizer",
    "from": "the run began there, and its weights are others by now",
}
FREE = ("model.hidden_dropout", "model.attention_dropout")  # of a model, yet no part of its weights
STEPS = "training.steps"
BATCH_TOKENS = "training.batch_tokens"
MOST_VALIDATION_TOKENS = 100_000  # of one evaluation
# Settings of how the work is spread over processes, which the result does not depend on.
OF_THE_MACHINES = ("training.sharding", "training.patience")
_DIGEST = 64  # characters
# Given 0, these are a tenth of the steps, and change along with them.
TENTHS = ("training.evaluate_every", "training.save_every")


def made_from(experiment: Experiment, mixture: Mixture, start_from: str | Path | None) -> dict[str, Any]:
    """Return what a run remembers, so that it never goes on with something else unnoticed."""
    return {
        "data": mixture.remembered(),
        TOKENIZER: mixture.sources[0].tokenizer,
        "from": None if start_from is None else str(start_from),
        **{name: value for name, value in experiment.flat().items() if name not in OF_THE_MACHINES},
    }


def accept_changes(
    state: Mapping[str, Any], *, fingerprint: Mapping[str, Any], allowed: Sequence[str], save: Callable[[], None]
) -> GoingOn:
    """Return how a run goes on, once all differences are known to be allowed.

    Args:
        state: of the checkpoint.
        fingerprint: of the run as it is now.
        allowed: what may differ.
        save: is called if something differs, and all of it is allowed.
    Raises:
        UserError: something else differs, or the run is further than it shall get.
    """
    changed = check_changes(state["fingerprint"], fingerprint, allowed)
    if state["step"] > fingerprint[STEPS]:
        raise UserError(
            f"{STEPS} is {fingerprint[STEPS]}, and this run has taken {state['step']} already; give it more"
        )
    if changed and state["step"] == fingerprint[STEPS] == state["fingerprint"][STEPS]:
        raise UserError(
            f"this run has taken all of its {state['step']:,} steps, so that {', '.join(changed)} would change nothing; give "
            f"it more by --set {STEPS}=N --allow-change {STEPS}, or start a new run with --from and another --out"
        )
    if changed:
        save()
        progress.note(f"Changed since the last checkpoint: {', '.join(changed)}")
    if restarts(changed):
        progress.note("The text is read from its beginning, since it makes other rows now")
    same_measure = not measures_anew(changed, state["fingerprint"], fingerprint)
    return GoingOn(same_text=not restarts(changed), same_measure=same_measure)


def check_names(allowed: Collection[str], settings: Sequence[str]) -> None:
    """Refuse permission to change what does not exist or cannot change.

    Args:
        allowed: names that ``--allow-change`` was given.
        settings: the dotted names of all settings.
    Raises:
        UserError: it is asked for.
    """
    for name in allowed:
        if (name in settings or name in FIXED) and (reason := _reason(name)):
            raise UserError(f"{name} cannot change when a run is resumed: {reason}; start a new run with another --out")
        if name not in ("data", *settings):
            legal = ["data", *(setting for setting in settings if not _reason(setting))]
            raise unknown("name for --allow-change:", name, legal)


def check_changes(before: Mapping[str, Any], now: Mapping[str, Any], allowed: Collection[str]) -> Differences:
    """Return the differences between what a run was made from and what it is given now, all of them allowed.

    Args:
        before, now: ``data`` (what is remembered of each corpus), ``tokenizer.json``, ``from`` and each setting.
        allowed: ``data``, or names of settings, that may differ; see ``check_names``.
    Raises:
        UserError: others differ; the message has each one's name, old and new value, and the way out.
    """
    found = differences(before, now)
    refused = {name: values for name, values in found.items() if _permission(name) not in allowed}
    if not refused:
        return found
    changes = "; ".join(f"{name} was {_shown(old)} and is now {_shown(new)}" for name, (old, new) in refused.items())
    fixed = {reason: name for name in reversed(refused) if (reason := _reason(name))}
    remedy = "start a new run with another --out"
    if fixed:
        remedy += f" ({', and '.join(f'{name} cannot change: {reason}' for reason, name in reversed(fixed.items()))})"
    else:
        names = dict.fromkeys([*allowed, *map(_permission, refused)])
        remedy += f", or go on all the same with --allow-change {' '.join(names)}"
    raise UserError(f"this run cannot be resumed, because {changes}; {remedy}")


def restarts(changed: Differences) -> bool:
    """Return whether a run with these differences begins the order of its text anew."""
    return any(name.startswith(ORDER) for name in changed)


def measures_anew(changed: Differences, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a run with these differences is evaluated on other text, or asked another thing about it.

    Args:
        changed: what differs.
        before, now: as in ``check_changes``.
    """
    tokens = [validation_tokens(steps=each[STEPS], batch_tokens=each[BATCH_TOKENS]) for each in (before, now)]
    return tokens[0] != tokens[1] or any(name.startswith(MEASURE) for name in changed)


def validation_tokens(*, steps: int, batch_tokens: int) -> int:
    """Return about how many tokens a run of so many steps is evaluated on: so few that it costs a few per cent."""
    return min(MOST_VALIDATION_TOKENS, steps * batch_tokens // 100)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """Return old and new value of all that differs, the parts of ``data`` by dotted names."""
    names = [name for name in {**before, **now} if name != "data" and before.get(name) != now.get(name)]
    found = {name: (before.get(name), now.get(name)) for name in names}
    if isinstance(before["data"], str):  # a checkpoint of an earlier version
        return {"data": (before["data"], _named(now["data"])), **found}
    return {**_data_differences(before["data"], now["data"], same_tokenizer=TOKENIZER not in found), **found}


def _data_differences(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], *, same_tokenizer: bool
) -> Differences:
    if len(before) != len(now) or (_marks(before) != _marks(now) and sorted(_marks(before)) == sorted(_marks(now))):
        return {"data": (_named(before), _named(now))}
    found: Differences = {}
    for number, (old, new) in enumerate(zip(before, now, strict=True), start=1):
        place = "data." if len(now) == 1 else f"data.{number}."
        found |= {place + name: values for name, values in _corpus_differences(old, new, same_tokenizer)}
    return found


def _corpus_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], same_tokenizer: bool
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield in what a corpus differs, short of what other differences explain; one that was moved is the same."""
    old, new = dict(_flat(before)), dict(_flat(now))
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    explained = {"folder"} if before["fingerprint"] == now["fingerprint"] else set()
    for name in differing:
        kind, _, rest = name.partition(".")
        if kind == "splits" and rest.endswith((".sentences", ".bytes")):
            explained.add(name)
        elif kind == "splits":
            explained.add(f"shards.{rest.partition('.')[0]}")
        if not same_tokenizer and kind in ("splits", "shards", "vocab_size"):
            explained.add(name)
    for name in differing:
        if name not in explained:
            yield name, (old.get(name), new.get(name))


def _marks(corpora: Sequence[Mapping[str, Any]]) -> list[str]:
    return [each["fingerprint"] for each in corpora]


def _named(corpora: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return corpora as ``--data`` takes them."""
    return [each["folder"] + ("" if each["weight"] is None else f":{each['weight']:g}") for each in corpora]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _reason(name: str) -> str | None:
    """Return why something can never change; None: it can."""
    if name in FREE:
        return None
    return next((reason for start, reason in FIXED.items() if name.startswith(start)), None)


def _permission(name: str) -> str:
    """Return what ``--allow-change`` calls a difference."""
    return "data" if name.startswith("data.") else name


def _shown(value: Any) -> str:
    """Return a value for a message, digests shortened."""
    text = repr(value)
    return f"{text[:13]}…'" if isinstance(value, str) and len(value) == _DIGEST else text
