import contextlib
import dataclasses
import errno
import json
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bothways.config import Config, read_json
from bothways.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine(Config):
    power: int = 100
    fuel: Literal["petrol", "diesel", "none"] = "petrol"
    ratio: float = 1.5
    betas: tuple[float, float] = (0.9, 0.95)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.power <= 0:
            raise UserError("power must be above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Car(Config):
    engine: Engine = dataclasses.field(default_factory=Engine)
    spare: Engine | None = None
    wheels: int = 4
    doors: Literal[3, 5] = 5
    open: bool = False
    tags: tuple[str, ...] = ()
    limit: int | float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(Config):
    width: int
    height: int
    depth: int = 1


def test_plain_values_and_back():
    car = Car(engine=Engine(power=7, name="three"), tags=("a", "b"), limit=3)
    values = car.to_dict()
    assert values["engine"]["betas"] == [0.9, 0.95]
    assert Car.from_dict(json.loads(json.dumps(values))) == car


def test_an_optional_group_comes_back_too():
    car = Car(spare=Engine(power=1))
    assert Car.from_dict(car.to_dict()) == car


def test_save_and_load(tmp_path):
    car = Car(tags=("快", "ü"))
    car.save(tmp_path / "car.json")
    assert Car.load(tmp_path / "car.json") == car
    assert "快" in (tmp_path / "car.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, monkeypatch, broken):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    Car(wheels=3).save(tmp_path / "car.json")
    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="No space left"):
            Car(wheels=5).save(tmp_path / "car.json")
    assert Car.load(tmp_path / "car.json").wheels == 3
    assert [file.name for file in tmp_path.iterdir()] == ["car.json"]


def test_a_config_cannot_be_changed_or_filled_by_position():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Car().wheels = 3
    with pytest.raises(TypeError):
        Car(Engine())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wheel": 3}, "unknown setting 'wheel'; legal: .*wheels.* Did you mean 'wheels'"),
        ({"engine": {"pover": 3}}, r"unknown setting 'engine\.pover'; legal: .* Did you mean 'engine\.power'"),
        ({"spare": {"pover": 3}}, r"unknown setting 'spare\.pover'"),
        ({"spare": {"fuel": "disel"}}, "unknown value for spare.fuel: 'disel'; .* Did you mean 'diesel'"),
        ({"engine": 3}, "engine must be a JSON object, not int"),
        ({"spare": 3}, r"spare must be Engine \(a JSON object\) or null, not 3"),
        ({"engine": {"power": -1}}, "power must be above 0"),
        ({"engine": {"power": 1.5}}, r"engine\.power must be a whole number, not 1\.5"),
        ({"engine": {"power": 1.0}}, r"engine\.power must be a whole number, not 1\.0"),
        ({"engine": {"power": None}}, "must be a whole number, not None"),
        ({"wheels": True}, "wheels must be a whole number, not True"),
        ({"wheels": "4"}, "wheels must be a whole number, not '4'"),
        ({"open": 1}, "open must be true or false, not 1"),
        ({"open": "true"}, "open must be true or false"),
        ({"engine": {"ratio": math.nan}}, "ratio must be a finite number"),
        ({"engine": {"ratio": math.inf}}, "ratio must be a finite number"),
        ({"engine": {"ratio": 10**400}}, "ratio must be a finite number"),
        ({"engine": {"ratio": True}}, "ratio must be a finite number"),
        ({"engine": {"betas": [0.9]}}, r"betas must be a list \[a finite number, a finite number\], not \[0\.9\]"),
        ({"engine": {"betas": [0.9, 0.9, 0.9]}}, "betas must be a list"),
        ({"engine": {"betas": ["x", 0.9]}}, "betas must be a finite number, not 'x'"),
        ({"engine": {"name": 3}}, "name must be text or null, not 3"),
        ({"doors": 4}, "doors must be one of 3, 5, not 4"),
        ({"doors": 3.0}, "doors must be one of 3, 5, not 3.0"),
        ({"doors": "3"}, "unknown value for doors: '3'"),
        ({"tags": "ab"}, "tags must be a list of text, not 'ab'"),
        ({"tags": [1]}, "tags must be text, not 1"),
        ({"limit": "x"}, "limit must be a whole number or a finite number or null"),
        ({7: 1}, "unknown setting '7'"),
        ([], "Car must be a JSON object, not list"),
        (None, "Car must be a JSON object, not NoneType"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(values, message):
    with pytest.raises(UserError, match=message) as caught:
        Car.from_dict(values)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named():
    with pytest.raises(UserError, match="width, height must be given"):
        Size.from_dict({"depth": 3})
    with pytest.raises(UserError, match=r"box\.height must be given"):
        Size.from_dict({"width": 3}, where="box.")
    assert Size.from_dict({"width": 1, "height": 2}) == Size(width=1, height=2)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("wheels=3", Car(wheels=3)),
        (" wheels = 3 ", Car(wheels=3)),
        ("wheels=1e3", Car(wheels=1000)),
        ("wheels=1_000", Car(wheels=1000)),
        ("doors=3", Car(doors=3)),
        ("open=true", Car(open=True)),
        ("open=Yes", Car(open=True)),
        ("open=off", Car(open=False)),
        ("tags=a, b", Car(tags=("a", "b"))),
        ("tags=7,true,none", Car(tags=("7", "true", "none"))),
        ('tags=["a, b", "c"]', Car(tags=("a, b", "c"))),
        ("tags=", Car(tags=())),
        ("limit=none", Car(limit=None)),
        ("limit=3", Car(limit=3)),
        ("limit=2.5", Car(limit=2.5)),
        ("engine.ratio=2", Car(engine=Engine(ratio=2.0))),
        ("engine.ratio=3e-4", Car(engine=Engine(ratio=3e-4))),
        ("engine.betas=0.8,0.99", Car(engine=Engine(betas=(0.8, 0.99)))),
        ("engine.betas=[0.8, 0.99]", Car(engine=Engine(betas=(0.8, 0.99)))),
        ("engine.fuel=none", Car(engine=Engine(fuel="none"))),
        ("engine.name=none", Car(engine=Engine(name=None))),
        ("engine.name=7", Car(engine=Engine(name="7"))),
        ("engine.name=a=b", Car(engine=Engine(name="a=b"))),
    ],
)
def test_override(setting, expected):
    overridden = Car().override([setting])
    assert overridden == expected
    assert json.dumps(overridden.to_dict()) == json.dumps(expected.to_dict())  # 2 and 2.0 are equal, but not the same


def test_the_last_override_wins_and_the_original_stays():
    car = Car()
    assert car.override(["wheels=3", "wheels=6"]).wheels == 6
    assert car == Car()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("wheels", "--set takes NAME=VALUE, and 'wheels' has no '='"),
        ("=3", "unknown setting ''"),
        ("whels=3", r"unknown setting 'whels'; legal: .*engine\.power.* Did you mean 'wheels'"),
        ("engine.pover=3", r"Did you mean 'engine\.power'"),
        ("engine=3", "unknown setting 'engine'"),
        ("wheels.size=3", r"unknown setting 'wheels\.size'"),
        ("spare.power=3", r"unknown setting 'spare\.power'"),
        ("engine.power.x=3", "unknown setting"),
        ("wheels=four", "wheels must be a whole number, not 'four'"),
        ("wheels=1.5", "wheels must be a whole number, not 1.5"),
        ("wheels=1e999", "wheels must be a whole number, not inf"),
        ("wheels=", "wheels must be a whole number, not ''"),
        ("wheels=none", "wheels must be a whole number"),
        ("open=2", "open must be true or false, not '2'"),
        ("engine.ratio=nan", "ratio must be a finite number"),
        ("engine.betas=0.8", "betas must be a list"),
        ("engine.betas=[0.8", "betas must be a list"),
        ("engine.fuel=disel", "Did you mean 'diesel'"),
        ("engine.power=-3", "power must be above 0"),
        ("doors=4", "doors"),
    ],
)
def test_a_bad_override_is_refused(setting, message):
    with pytest.raises(UserError, match=message):
        Car().override([setting])


def test_names_are_what_override_takes():
    names = Car().names()
    assert "engine.power" in names
    assert "engine" not in names
    assert len(set(names)) == len(names) == 11


def test_flat_values_are_plain_and_named_as_override_takes_them():
    car = Car(engine=Engine(power=7), tags=("a",))
    flat = car.flat()
    assert list(flat) == car.names()
    assert (flat["engine.power"], flat["engine.betas"], flat["tags"], flat["spare"]) == (7, [0.9, 0.95], ["a"], None)
    assert json.loads(json.dumps(flat)) == flat


@given(
    some.builds(
        Car,
        engine=some.builds(
            Engine,
            power=some.integers(min_value=1),
            fuel=some.sampled_from(["petrol", "diesel", "none"]),
            ratio=some.floats(allow_nan=False, allow_infinity=False),
            betas=some.tuples(some.floats(0, 1), some.floats(0, 1)),
            name=some.none() | some.text(),
        ),
        wheels=some.integers(),
        doors=some.sampled_from([3, 5]),
        open=some.booleans(),
        tags=some.lists(some.text()).map(tuple),
        limit=some.none() | some.integers(),
    )
)
def test_any_config_survives_json(car):
    assert Car.from_dict(json.loads(json.dumps(car.to_dict()))) == car


@given(some.text())
def test_any_text_for_a_setting_is_taken_or_refused_with_a_sentence(text):
    for name in Car().names():
        with contextlib.suppress(UserError):
            assert isinstance(Car().override([f"{name}={text}"]), Car)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' is repeated"),
        (b'{"b": {"a": 1, "a": 1}}', "the key 'a' is repeated"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
    ],
)
def test_bad_json_names_the_file(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert "bad.json" in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*nowhere\.json"):
        read_json(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)
