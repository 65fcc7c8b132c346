"""What a ``tokenizer.json`` may hold: the parts that published families are made of, and no others.

The library would take far more: any regular expression (which may take forever), any replacement (which may swallow or
multiply the text), random dropout. Each part is checked by an allow-list of types, of the fields of each type, and of the
values of each field.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bothways.text.tokenizing.training import UNIGRAM_SPLIT

Check = Callable[[Any], bool]
Fields = Mapping[str, Check]

DEPTH = 16  # of lists and objects within each other

# Regular expressions by which published families cut text into words; source: transformers 5.23.
KNOWN_PATTERNS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "GPT-2",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "GPT-4, Llama 3, EuroBERT",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "Qwen 2 and 3",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "Qwen 3.5",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "Mistral",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "GPT-4o, Llama 4",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+": "CLIP",
    UNIGRAM_SPLIT: "bothways",
}
_KNOWN_STRINGS = (" ", "\n")
_KNOWN_REPLACEMENTS = {
    ("String", " ", "▁"),
    ("String", "▁", " "),
    ("String", "``", '"'),
    ("String", "''", '"'),
    ("Regex", " {2,}", " "),
    ("Regex", " {2,}", "▁"),
    ("Regex", r"\s+", " "),
}


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of 0 to 2³¹ - 1 (a bool is none)."""
    return type(value) is int and 0 <= value < 2**31


def is_bool(value: Any) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def one_of(*values: Any) -> Check:
    """Return a check that a value is one of these, and of the same type."""
    return lambda value: any(type(value) is type(legal) and value == legal for legal in values)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def _small(value: Any) -> bool:
    return is_count(value) and value <= 16


def _pattern(value: Any) -> bool:
    match value:
        case {"Regex": str(pattern)} if len(value) == 1:
            return pattern in KNOWN_PATTERNS
        case {"String": str(text)} if len(value) == 1:
            return text in _KNOWN_STRINGS
    return False


def _replaces(part: Mapping[str, Any]) -> bool:
    match part:
        case {"pattern": {"String": str(text), **rest}, "content": str(content)} if not rest:
            return ("String", text, content) in _KNOWN_REPLACEMENTS
        case {"pattern": {"Regex": str(text), **rest}, "content": str(content)} if not rest:
            return ("Regex", text, content) in _KNOWN_REPLACEMENTS
    return False


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _short(value[0]) and is_count(value[1])


def _template(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 16 and all(_template_item(item) for item in value)


def _template_item(item: Any) -> bool:
    match item:
        case {"SpecialToken": {"id": name, "type_id": segment, **rest}} if not rest and len(item) == 1:
            return _short(name) and segment in (0, 1)
        case {"Sequence": {"id": "A" | "B", "type_id": segment, **rest}} if not rest and len(item) == 1:
            return is_count(segment) and segment <= 1
    return False


def _template_tokens(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= 16 and all(_template_token(*pair) for pair in value.items())


def _template_token(name: str, token: Any) -> bool:
    return (
        isinstance(token, dict)
        and set(token) == {"id", "ids", "tokens"}
        and token["id"] == name
        and all(isinstance(token[key], list) and len(token[key]) == 1 for key in ("ids", "tokens"))
        and is_count(token["ids"][0])
        and _short(token["tokens"][0])
    )


_BEHAVIORS = one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_BYTE_LEVEL: Fields = {"add_prefix_space": is_bool, "trim_offsets": is_bool, "use_regex": is_bool}
_METASPACE: Fields = {
    "replacement": one_of("▁"),
    "str_rep": one_of("▁"),
    "add_prefix_space": is_bool,
    "prepend_scheme": one_of("always", "never", "first"),
    "split": is_bool,
}
_REPLACE: Fields = {"pattern": lambda value: isinstance(value, dict), "content": lambda value: isinstance(value, str)}
_FRAME: Fields = {"sep": _pair, "cls": _pair}

# Part of the file → type → its fields. A Sequence holds others of the same part.
TYPES: Mapping[str, Mapping[str, Fields]] = {
    "normalizer": {
        "BertNormalizer": {
            "clean_text": is_bool,
            "handle_chinese_chars": is_bool,
            "strip_accents": _optional(is_bool),
            "lowercase": is_bool,
        },
        **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")},
        "Strip": {"strip_left": is_bool, "strip_right": is_bool},
        "Prepend": {"prepend": one_of("▁", " ")},
        "Replace": _REPLACE,
    },
    "pre_tokenizer": {
        **{name: {} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")},
        "ByteLevel": _BYTE_LEVEL,
        "Metaspace": _METASPACE,
        "Punctuation": {"behavior": _BEHAVIORS},
        "Digits": {"individual_digits": is_bool},
        "Split": {"pattern": _pattern, "behavior": _BEHAVIORS, "invert": is_bool},
    },
    "post_processor": {
        "ByteLevel": _BYTE_LEVEL,
        "BertProcessing": _FRAME,
        "RobertaProcessing": {**_FRAME, "trim_offsets": is_bool, "add_prefix_space": is_bool},
        "TemplateProcessing": {"single": _template, "pair": _template, "special_tokens": _template_tokens},
    },
    "decoder": {
        "ByteLevel": _BYTE_LEVEL,
        "WordPiece": {"prefix": one_of("##"), "cleanup": is_bool},
        "BPEDecoder": {"suffix": one_of("</w>")},
        "Metaspace": _METASPACE,
        "ByteFallback": {},
        "Fuse": {},
        "Strip": {"content": one_of(" ", "▁"), "start": _small, "stop": _small},
        "Replace": _REPLACE,
    },
}
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}

_no_affix = _optional(one_of(""))
MODELS: Mapping[str, Fields] = {
    "BPE": {
        "dropout": _optional(one_of(0, 0.0)),
        "unk_token": _optional(_short),
        "continuing_subword_prefix": _no_affix,
        "end_of_word_suffix": _optional(one_of("", "</w>")),
        "fuse_unk": is_bool,
        "byte_fallback": is_bool,
        "ignore_merges": is_bool,
    },
    "WordPiece": {
        "unk_token": _short,
        "continuing_subword_prefix": one_of("##"),
        "max_input_chars_per_word": lambda value: is_count(value) and 0 < value <= 1000,
    },
    "Unigram": {"unk_id": is_count, "byte_fallback": is_bool},
}
ADDED: Fields = {
    "id": is_count,
    "content": lambda value: isinstance(value, str),
    **dict.fromkeys(("special", "single_word", "lstrip", "rstrip", "normalized"), is_bool),
}
WHOLE = (
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
)


def wrong_part(part: str, value: Any, depth: int = 0) -> str | None:
    """Return what is wrong with a normaliser, pre-tokenizer, post-processor or decoder, or None."""
    if value is None and depth == 0:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return f"its {part} must be an object with a type"
    kind, types = value["type"], TYPES[part]
    if kind == "Sequence":
        members = value.get(_SEQUENCES[part])
        if depth >= 3 or set(value) != {"type", _SEQUENCES[part]} or not isinstance(members, list) or len(members) > 16:
            return f"its {part} is not a sequence of up to 16 parts"
        return next((wrong for member in members if (wrong := wrong_part(part, member, depth + 1))), None)
    if kind not in types:
        return f"its {part} {kind[:40]!r} is none of {', '.join((*types, 'Sequence'))}"
    if kind == "Replace" and not _replaces(value):
        return f"its {part} replaces text in a way that no known family does"
    return wrong_fields(f"{part} {kind}", value, types[kind])


def wrong_fields(name: str, value: Mapping[str, Any], fields: Fields) -> str | None:
    """Return the first field of an object that does not exist or has no legal value, or None."""
    for field, content in value.items():
        if field == "type":
            continue
        if field not in fields:
            return f"the {name} has no field {field[:40]!r}; legal: {', '.join(fields) or 'none'}"
        if not fields[field](content):
            known = "; a pattern must be that of a known family" if field == "pattern" else ""
            return f"{field} of the {name} has a value that is not legal{known}"
    return None


def template_ids(value: Any) -> list[tuple[str, int]]:
    """Return the tokens that a post-processor that was found right inserts, with their ids."""
    match value:
        case {"type": "Sequence", "processors": members}:
            return [pair for member in members for pair in template_ids(member)]
        case {"type": "TemplateProcessing", "special_tokens": tokens}:
            return [(token["tokens"][0], token["ids"][0]) for token in tokens.values()]
        case {"sep": [sep, sep_id], "cls": [cls, cls_id]}:
            return [(sep, sep_id), (cls, cls_id)]
    return []
