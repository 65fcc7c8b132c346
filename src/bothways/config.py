"""Settings: frozen dataclasses that load, save and override themselves and refuse any name they do not know."""

import dataclasses
import json
import math
import os
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from bothways.errors import UserError, unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every group of settings.

    A subclass is a frozen, keyword-only dataclass whose fields are numbers, strings, booleans, tuples of these, or
    other ``Config`` objects (one level deep). ``__post_init__`` may validate further and raises ``UserError``.
    """

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from plain values, checking every name and type.

        Args:
            values: names to plain JSON values.
            where: dotted prefix that error messages show.
        Raises:
            UserError: an unknown name (the legal ones are listed), a missing one, or a value of the wrong type.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"{where.rstrip('.') or cls.__name__} must be a JSON object, not {type(values).__name__}")
        hints = _hints(cls)
        for name in values:
            if name not in hints:
                raise unknown("setting", f"{where}{name}", [where + known for known in hints])
        missing = [
            where + field.name for field in dataclasses.fields(cls) if field.name not in values and _needed(field)
        ]
        if missing:
            raise UserError(f"{', '.join(missing)} must be given: there is no default")
        return cls(**{name: _read(hints[name], value, where + name) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` turns back into an equal object."""
        return {
            field.name: value.to_dict() if isinstance(value, Config) else _plain(value)
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }

    def flat(self) -> dict[str, Any]:
        """Return plain values by dotted name, as ``override`` takes them."""
        return {name: _plain(attrgetter(name)(self)) for name in self.names()}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file written by ``save``."""
        return cls.from_dict(read_json(path))

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        replace_file(path, (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())

    def override(self, settings: Sequence[str]) -> Self:
        """Return a copy with ``"dotted.name=value"`` settings applied, in order.

        >>> Experiment().override(["model.hidden_size=384", "seed=1"])  # doctest: +SKIP
        """
        values = self.to_dict()
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise UserError(f"--set takes NAME=VALUE, and {setting!r} has no '='")
            self._set(values, name.strip(), text.strip())
        return type(self).from_dict(values)

    def _set(self, values: dict[str, Any], name: str, text: str) -> None:
        group, config = values, self
        *path, leaf = name.split(".")
        for part in path:
            child = getattr(config, part, None) if part in group else None
            if not isinstance(child, Config):
                raise unknown("setting", name, self.names())
            group, config = group[part], child
        if leaf not in group or isinstance(getattr(config, leaf), Config):
            raise unknown("setting", name, self.names())
        group[leaf] = _parse(_hints(type(config))[leaf], text, name)

    def names(self, prefix: str = "") -> list[str]:
        """Return every dotted name that ``override`` takes."""
        found: list[str] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            found += value.names(f"{prefix}{field.name}.") if isinstance(value, Config) else [prefix + field.name]
        return found


def replace_file(file: str | Path, content: bytes) -> None:
    """Write a file as a whole: whoever looks at it meanwhile, or after a crash or on a full disk, sees the old one."""
    file = Path(file)
    temporary = file.with_name(f".tmp-{file.name}-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Read a JSON file, with an error that names the file, and refusing a repeated key.

    Raises:
        UserError: the file is missing, is not UTF-8 JSON, or repeats a key.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_no_repeats)
    except FileNotFoundError:
        raise UserError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not valid JSON: {error}") from None


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the key {name!r} is repeated")
        values[name] = value
    return values


def _hints(cls: type[Config]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is(hint: Any, kind: type) -> bool:
    return isinstance(hint, type) and issubclass(hint, kind)


def _items(hint: Any, length: int) -> list[Any]:
    """Return the hint of each item of a tuple: ``tuple[int, ...]`` takes any length, ``tuple[float, float]`` two."""
    first, *rest = typing.get_args(hint)
    return [first] * length if rest == [...] else [first, *rest]


_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(hint))
    if _is_union(hint):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        items = [_describe(item) for item in _items(hint, 1)]
        return f"a list of {items[0]}" if typing.get_args(hint)[-1] is ... else f"a list [{', '.join(items)}]"
    return _WORDS.get(hint, f"{hint.__name__} (a JSON object)")


def _read(hint: Any, value: Any, name: str) -> Any:
    """Check a plain value against a type hint and return it in that type."""
    if _is_union(hint):
        return _read_union(typing.get_args(hint), value, name)
    if typing.get_origin(hint) is typing.Literal:
        if isinstance(value, str) and value not in typing.get_args(hint):
            raise unknown(f"value for {name}:", value, map(str, typing.get_args(hint)))
        if any(value == legal and type(value) is type(legal) for legal in typing.get_args(hint)):
            return value
    elif typing.get_origin(hint) is tuple:
        items = _items(hint, len(value)) if isinstance(value, list | tuple) else []
        if isinstance(value, list | tuple) and len(items) == len(value):
            return tuple(_read(item, part, name) for item, part in zip(items, value, strict=True))
    elif _is(hint, Config):
        return value if isinstance(value, hint) else hint.from_dict(value, where=name + ".")
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and _finite(value):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UserError(f"{name} must be {_describe(hint)}, not {value!r}")


def _read_union(hints: tuple[Any, ...], value: Any, name: str) -> Any:
    for hint in hints:
        if _is(hint, Config) and isinstance(value, Mapping):
            return _read(hint, value, name)  # its error says which of its own settings is wrong
        try:
            return _read(hint, value, name)
        except UserError:
            continue
    raise UserError(f"{name} must be {' or '.join(map(_describe, hints))}, not {value!r}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _parse(hint: Any, text: str, name: str) -> Any:
    """Turn the text of ``--set NAME=TEXT`` into a plain value of the hinted type; what does not fit stays text."""
    if _is_union(hint):
        return _parse_union(typing.get_args(hint), text, name)
    if typing.get_origin(hint) is tuple:
        return _parse_list(hint, text, name)
    if typing.get_origin(hint) is typing.Literal:
        return next((legal for legal in typing.get_args(hint) if str(legal) == text), text)
    if hint in (int, float):
        return _number(text)
    if hint is bool:
        return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
            text.lower(), text
        )
    return None if hint is types.NoneType and text.lower() in ("none", "null") else text


def _parse_union(hints: tuple[Any, ...], text: str, name: str) -> Any:
    # Text comes last, since everything is text: "none" is null and "3" is 3 where the setting may be those.
    for hint in sorted(hints, key=lambda hint: hint is str):
        try:
            return _read(hint, _parse(hint, text, name), name)
        except UserError:
            continue
    return text


def _parse_list(hint: Any, text: str, name: str) -> Any:
    """``0.9,0.95`` and ``[0.9, 0.95]`` are the same."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    parts = [part.strip() for part in text.split(",") if part.strip()]
    items = _items(hint, len(parts))
    if len(items) != len(parts):
        return parts
    return [_parse(item, part, name) for item, part in zip(items, parts, strict=True)]


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)  # 1e6 is a whole number too
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
