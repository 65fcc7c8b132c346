"""Reading tokenizer files that anybody may have written.

Everything is checked before the file is handed to the ``tokenizers`` library, which panics or goes on forever on some
files (huggingface/tokenizers#2094, #2198) and accepts many that go wrong at the first text.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from bothways import progress
from bothways.config import read_json
from bothways.errors import UserError
from bothways.text.tokenizing.schema import (
    ADDED,
    DEPTH,
    MODELS,
    TYPES,
    WHOLE,
    is_count,
    template_ids,
    wrong_fields,
    wrong_part,
)
from bothways.text.tokenizing.training import BYTES, SPECIAL_TOKENS, byte_level, frame, wordpiece

LIMIT = 64 * 2**20  # bytes of a file that we are willing to read
_MOST_TOKENS = 2**20
_MOST_ADDED = 20_000
_LONGEST = 1024  # characters of a token
_MOST_PARTS = 4 * 2**20  # lists, objects and values of a file: parsing more would take long
_UNLIKELY = 1000.0  # by how much a special token scores less than the least likely piece
_PLAIN = re.compile(r"[\w\s'’.,-]+")
NAMES = ("tokenizer.json", "vocab.txt", "vocab.json")  # of files that a folder may hold, the one to read first
_NEVER = frozenset("ÀÁõö÷øùúûüýþÿ")  # bytes that no UTF-8 has, as byte-level BPE writes them
_PROBES = ("The quick brown fox, 1234.", "我们今天去北京。", "é\u0301🙂\x00\n\t  \u200b￼", "a" * 300)


def is_tokenizer(path: Path) -> bool:
    """Whether this is by its name a file of a tokenizer, or is a folder that holds one."""
    if not path.is_dir():
        return path.suffix in (".json", ".txt")
    return any(os.path.lexists(path / name) for name in NAMES)  # what is no regular file is refused when it is read


def read(path: Path) -> Backend:
    """Read ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` with ``merges.txt``, or the one in a folder.

    Raises:
        UserError: there is none, or it is not valid; the message names the file and what is wrong.
    """
    if path.is_dir():
        found = next((path / name for name in NAMES if os.path.lexists(path / name)), None)
        if found is None:
            raise UserError(
                f"there is no tokenizer.json in {str(path)!r}, nor a vocab.txt or a vocab.json with its merges.txt"
            )
        path = found
    if not path.is_file():
        fault = "is not a regular file" if os.path.lexists(path) else "is not there"
        raise UserError(f"the tokenizer {str(path)!r} {fault}; it may be a tokenizer.json, vocab.txt or vocab.json")
    if path.suffix == ".txt" and path.name != "merges.txt":
        return _from_vocabulary(path)
    if path.name in ("vocab.json", "merges.txt"):
        return _from_merges(path.parent)
    return build(_json(path), path)


def build(values: Any, file: Path) -> Backend:
    """Build a tokenizer from what a ``tokenizer.json`` would hold.

    Args:
        values: they may be from anybody.
        file: where they are from, for messages.
    Raises:
        UserError: they are not valid.
    """
    _check(values, file)
    return _build(values, file)


# The steps.


def _invalid(file: Path, reason: str) -> UserError:
    return UserError(f"{str(file)!r} is not a valid tokenizer: {reason}")


def _bytes(file: Path) -> bytes:
    """Return what a file holds, if it is not too large."""
    if not file.is_file():
        raise UserError(f"there is no file {str(file)!r}")
    try:
        with file.open("rb") as stream:
            data = stream.read(LIMIT + 1)
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise UserError(f"{str(file)!r} is larger than the {LIMIT // 2**20} MiB that a tokenizer may have")
    return data


def _json(file: Path) -> Any:
    data = _bytes(file)
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > _MOST_PARTS:
        raise _invalid(file, f"it has more than {_MOST_PARTS:,} values")
    return read_json(file)


def _check(values: Any, file: Path) -> None:
    """Refuse what is not made as published tokenizers are made.

    Raises:
        UserError: something is wrong.
    """
    if not isinstance(values, dict):
        raise _invalid(file, f"it must hold a JSON object, not {type(values).__name__}")
    if foreign := [name for name in values if name not in WHOLE]:
        raise _invalid(file, f"it has no part {foreign[0][:40]!r}; legal: {', '.join(WHOLE)}")
    if values.get("version") != "1.0":
        raise _invalid(file, "its version is not '1.0'")
    for name in ("truncation", "padding"):
        if wrong := _wrong_setting(name, values.get(name)):
            raise _invalid(file, wrong)
    for part in TYPES:
        if _deeper(values.get(part), DEPTH):
            raise _invalid(file, f"its {part} is nested deeper than {DEPTH}")
        if wrong := wrong_part(part, values.get(part)):
            raise _invalid(file, wrong)
    if wrong := _wrong_model(values.get("model")):
        raise _invalid(file, wrong)
    vocabulary = _vocabulary(values["model"])
    wrong = (
        _wrong_tokens(vocabulary)
        or _wrong_added(values.get("added_tokens", []), vocabulary)
        or _wrong_ids([*vocabulary.values(), *_added_ids(values, vocabulary)])
        or _wrong_letters(values, vocabulary)
    )
    if wrong:
        raise _invalid(file, wrong)
    known = {**vocabulary, **{token["content"]: token["id"] for token in values.get("added_tokens", [])}}
    for token, index in template_ids(values.get("post_processor")):
        if known.get(token) != index:
            raise _invalid(file, f"its post_processor gives {token[:40]!r} the id {index}, which it does not have")


def _build(values: dict[str, Any], file: Path) -> Backend:
    """Hand checked values to the library, without padding and truncation, and try the result."""
    values = {**values, "truncation": None, "padding": None}
    special = [token["content"] for token in values.get("added_tokens", []) if token.get("special")]
    model = values["model"]
    if isinstance(model["vocab"], list):
        values["model"] = {**model, "type": "Unigram", "vocab": _out_of_reach(model["vocab"], {*special, *BYTES})}
    try:
        backend = Backend.from_str(json.dumps(values, ensure_ascii=False))
        backend.encode_special_tokens = True
        for text in _PROBES:
            backend.encode(text)
        reached = next((token for token in special if token != _unknown(model) and _reaches(backend, token)), None)
    except BaseException as error:  # the library's own panics do not derive from Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _invalid(file, " ".join(str(error).split())[:300]) from None
    if reached is not None:
        raise _invalid(file, f"a text that spells out its special token {reached[:40]!r} would become that token")
    plain = [token["content"] for token in values.get("added_tokens", []) if _shadows(token)]
    if plain:
        shown = ", ".join(repr(content[:40]) for content in plain[:3])
        progress.note(f"{file.name} has {len(plain)} added tokens that are read in ordinary text: {shown}")
    return backend


def _reaches(backend: Backend, token: str) -> bool:
    """Whether plain text that spells out a special token becomes it."""
    index = backend.token_to_id(token)
    return any(index in backend.encode(text, add_special_tokens=False).ids for text in (token, f"a {token} b"))


def _unknown(model: Mapping[str, Any]) -> Any:
    """Return the unknown token of a model, which any text may become."""
    return model["vocab"][model["unk_id"]][0] if "unk_id" in model else model.get("unk_token", "[UNK]")


def _out_of_reach(vocabulary: list[list[Any]], special: set[str]) -> list[list[Any]]:
    """Let special tokens score so low that Unigram never cuts a text into them."""
    lowest = min((score for token, score in vocabulary if token not in special), default=0.0) - _UNLIKELY
    return [[token, min(score, lowest) if token in special else score] for token, score in vocabulary]


# What may be wrong: each returns the reason, or None.


def _deeper(value: Any, room: int) -> bool:
    """Whether lists and objects are nested deeper than ``room``."""
    if isinstance(value, dict):
        return room == 0 or any(_deeper(member, room - 1) for member in value.values())
    if isinstance(value, list):
        return room == 0 or any(_deeper(member, room - 1) for member in value)
    return False


def _wrong_setting(name: str, value: Any) -> str | None:
    """Check truncation or padding, which are switched off, but show whether the file is sound."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return f"its {name} must be an object or null"
    numbers = [value[key] for key in ("max_length", "stride", "pad_id", "pad_type_id") if key in value]
    if not all(is_count(number) for number in numbers):
        return f"its {name} holds a number that is not of 0 to 2147483647"
    return None


def _wrong_model(model: Any) -> str | None:
    if not isinstance(model, dict):
        return "its model must be an object"
    kind = _model_type(model)
    if kind not in MODELS:
        return f"its model {str(kind)[:40]!r} is none of {', '.join(MODELS)}"
    shape = list if kind == "Unigram" else dict
    if not isinstance(model.get("vocab"), shape):
        return f"the vocab of a {kind} must be {'a list' if shape is list else 'an object'}"
    if not 0 < len(model["vocab"]) <= _MOST_TOKENS:
        return f"its vocab must hold 1 to {_MOST_TOKENS:,} tokens, not {len(model['vocab']):,}"
    rest = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    if wrong := wrong_fields(kind, rest, MODELS[kind]):
        return wrong
    if kind == "Unigram":
        return _wrong_scores(model)
    if kind == "BPE":
        return _wrong_merges(model.get("merges"), model["vocab"])
    return "a WordPiece has no merges" if "merges" in model else None


def _model_type(model: Mapping[str, Any]) -> Any:
    """Return the type of a model; old files do not tell it."""
    if "type" in model:
        return model["type"]
    return "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def _wrong_scores(model: Mapping[str, Any]) -> str | None:
    for entry in model["vocab"]:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            return "the vocab of a Unigram must be pairs of a token and its score"
        score = entry[1]
        if type(score) not in (int, float) or not math.isfinite(score) or abs(score) > 1e6:
            return f"the score of {entry[0][:40]!r} is not a number of -1,000,000 to 1,000,000"
    if len({token for token, _ in model["vocab"]}) < len(model["vocab"]):
        return "its vocab has a token twice"
    if not model.get("unk_id", -1) < len(model["vocab"]) or "unk_id" not in model:
        return "a Unigram needs an unk_id within its vocab"
    return None


def _wrong_merges(merges: Any, vocabulary: Mapping[str, Any]) -> str | None:
    if not isinstance(merges, list) or len(merges) > _MOST_TOKENS:
        return f"the merges of a BPE must be a list of at most {_MOST_TOKENS:,}"
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            return "a merge must be two tokens"
        for token in (*pair, pair[0] + pair[1]):
            if token not in vocabulary:
                return f"the merge of {pair[0][:40]!r} and {pair[1][:40]!r} needs {token[:40]!r}, which its vocab lacks"
    return None


def _vocabulary(model: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}


def _wrong_tokens(vocabulary: Mapping[str, Any]) -> str | None:
    """Check the tokens themselves: text that can come up, of a sane length."""
    for token in vocabulary:
        if wrong := _wrong_token(token):
            return wrong
    return None


def _wrong_token(token: str) -> str | None:
    if not 0 < len(token) <= _LONGEST:
        return f"the token {token[:40]!r} has {len(token):,} characters; 1 to {_LONGEST:,} are legal"
    if token.isprintable():
        return None
    bare = token.strip("\n")  # Gemma has tokens of line feeds alone
    if "\x00" in token or "\r" in bare or (bare and "\n" in token) or ("\ufeff" in token and len(token) > 1):
        return f"the token {token[:40]!r} holds a character that no token may hold (NUL, a line end, a byte order mark)"
    if any("\ud800" <= character <= "\udfff" for character in token):
        return f"the token {token[:40]!a} holds half of a surrogate pair"
    return None


def _wrong_added(added: Any, vocabulary: Mapping[str, Any]) -> str | None:
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        return f"its added_tokens must be a list of at most {_MOST_ADDED:,}"
    seen: set[str] = set()
    for token in added:
        if not isinstance(token, dict) or not {"id", "content"} <= set(token):
            return "an added token must be an object with an id and a content"
        if wrong := wrong_fields("added token", token, ADDED) or _wrong_token(token["content"]):
            return wrong
        content = token["content"]
        if content in seen:
            return f"the added token {content[:40]!r} is there twice"
        if vocabulary.get(content, token["id"]) != token["id"]:
            return f"the added token {content[:40]!r} has another id in the vocab"
        if len(content) == 1 and content.isprintable():
            return f"the added token {content!r} is an ordinary character, and would change every text that has it"
        seen.add(content)
    return None


def _added_ids(values: Mapping[str, Any], vocabulary: Mapping[str, Any]) -> list[int]:
    return [token["id"] for token in values.get("added_tokens", []) if token["content"] not in vocabulary]


def _wrong_ids(ids: Iterable[Any]) -> str | None:
    found = list(ids)
    if all(is_count(index) for index in found) and sorted(found) == list(range(len(found))):
        return None
    return "its token ids must be 0, 1, 2 and so on without gaps"


def _wrong_letters(values: Mapping[str, Any], vocabulary: Mapping[str, Any]) -> str | None:
    """Check that no character of a text can vanish or make the library fail, for want of an unknown token."""
    model = values["model"]
    kind, unknown = _model_type(model), model.get("unk_token")
    if unknown is None and kind == "WordPiece":
        unknown = "[UNK]"
    if unknown is not None and unknown not in vocabulary:
        return f"it lacks its own unknown token {unknown!r}"
    if model.get("byte_fallback") and any(byte not in vocabulary for byte in BYTES):
        return "it falls back to bytes and does not have all 256 of them"
    if kind != "BPE" or unknown is not None or model.get("byte_fallback"):
        return None
    if '"ByteLevel"' not in json.dumps([values.get("pre_tokenizer"), values.get("normalizer")]):
        return "it has neither an unknown token nor bytes for characters that it does not know"
    if lacking := [
        char for char in pre_tokenizers.ByteLevel.alphabet() if char not in vocabulary and char not in _NEVER
    ]:
        return f"it lacks the byte {min(lacking)!r} and has no unknown token, so characters would vanish"
    return None


def _shadows(token: Mapping[str, Any]) -> bool:
    """Whether an added token is read in ordinary text: a plain word, and no special token."""
    return (
        not token.get("special") and _PLAIN.fullmatch(token["content"]) is not None and bool(token["content"].strip())
    )


# Old formats.


def _from_vocabulary(file: Path) -> Backend:
    """Build BERT's tokenizer from a ``vocab.txt``: a token a line, its id the line's number."""
    try:
        lines = _bytes(file).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(file)!r} is not a valid vocabulary: it is not UTF-8 ({error.reason})") from None
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    wrong = _wrong_tokens(vocabulary) if vocabulary else "it is empty"
    if len(vocabulary) < len(tokens):
        wrong = "it has a token twice"
    if "[UNK]" not in vocabulary:
        wrong = wrong or "it lacks its own unknown token '[UNK]'"
    if wrong or len(tokens) > _MOST_TOKENS:
        raise UserError(f"{str(file)!r} is not a valid vocabulary: {wrong or 'it is too long'}")
    settings = _settings(file.parent)
    lowercase = bool(settings.get("do_lower_case", True))
    backend = wordpiece(models.WordPiece(vocabulary, unk_token="[UNK]"), lowercase=lowercase)
    backend.add_special_tokens([token for token in SPECIAL_TOKENS["wordpiece"] if token in vocabulary])
    frame(backend, "wordpiece")
    return backend


def _from_merges(folder: Path) -> Backend:
    """Build GPT-2's tokenizer from its ``vocab.json`` and ``merges.txt``."""
    file, beside = folder / "vocab.json", folder / "merges.txt"
    vocabulary = _json(file)
    try:
        lines = _bytes(beside).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(beside)!r} is not valid: it is not UTF-8 ({error.reason})") from None
    merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    special = [token for token in SPECIAL_TOKENS["bpe"] if isinstance(vocabulary, dict) and token in vocabulary]
    values = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
    _check(values, file)
    pairs = [merge.partition(" ") for merge in merges]
    backend = byte_level(models.BPE(vocabulary, [(first, second) for first, _, second in pairs]))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    frame(backend, "bpe")
    return backend


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings beside a vocabulary, if there are any."""
    file = folder / "tokenizer_config.json"
    values = read_json(file) if file.is_file() else {}
    if not isinstance(values, dict):
        raise UserError(f"{str(file)!r} must hold a JSON object, not {type(values).__name__}")
    return values
