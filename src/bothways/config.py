"""Settings: frozen dataclasses that load, save and override themselves and refuse any name they do not know."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bothways.errors import UserError, unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every group of settings.

    A subclass is a frozen, keyword-only dataclass whose fields are numbers, strings, booleans, tuples of these, or other
    ``Config`` objects (one level deep). ``__post_init__`` may validate further and raises ``UserError``.
    """

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from plain values, checking every name and type.

        Args:
            values: names to plain JSON values.
            where: dotted prefix that error messages show.
        Raises:
            UserError: an unknown name (the legal ones are listed) or a value of the wrong type.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"{where.rstrip('.') or cls.__name__} must be a JSON object, not {type(values).__name__}")
        hints = _hints(cls)
        for name in values:
            if name not in hints:
                raise unknown("setting", where + name, [where + known for known in hints])
        return cls(**{name: _read(hints[name], value, where + name) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` turns back into an equal object."""
        return {
            field.name: value.to_dict() if isinstance(value, Config) else _plain(value)
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file written by ``save``."""
        return cls.from_dict(read_json(path))

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

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
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key is repeated among {sorted(name for name, _ in pairs)}")
    return values


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(hint))
    if _is_union(hint):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"a list of {_describe(typing.get_args(hint)[0])}"
    words = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        types.NoneType: "null",
    }
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _read(hint: Any, value: Any, name: str) -> Any:
    """Check a plain value against a type hint and return it in that type."""
    if _is_union(hint):
        for part in typing.get_args(hint):
            try:
                return _read(part, value, name)
            except UserError:
                continue
    elif typing.get_origin(hint) is typing.Literal:
        if value in typing.get_args(hint) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            raise unknown(f"value for {name}:", value, [str(legal) for legal in typing.get_args(hint)])
    elif typing.get_origin(hint) is tuple:
        if isinstance(value, list | tuple):
            return tuple(_read(typing.get_args(hint)[0], item, name) for item in value)
    elif isinstance(hint, type) and issubclass(hint, Config):
        return value if isinstance(value, hint) else hint.from_dict(value, where=name + ".")
    elif hint is types.NoneType and value is None:
        return None
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        if not isinstance(value, float):
            return value
    raise UserError(f"{name} must be {_describe(hint)}, not {value!r}")


def _parse(hint: Any, text: str, name: str) -> Any:
    """Turn the text of ``--set NAME=TEXT`` into a plain value of the hinted type."""
    if hint is str or (typing.get_origin(hint) is typing.Literal and text in typing.get_args(hint)):
        return text
    if typing.get_origin(hint) is tuple and not text.startswith("["):
        return [_parse(typing.get_args(hint)[0], item.strip(), name) for item in text.split(",") if item.strip()]
    for words, value in (({"true", "yes", "on"}, True), ({"false", "no", "off"}, False), ({"none", "null"}, None)):
        if text.lower() in words:
            return value
    try:
        return int(text.replace("_", ""))
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if hint is int and number.is_integer() else number
