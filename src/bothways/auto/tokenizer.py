"""``AutoTokenizer``: a model's tokenizer, called as that of Hugging Face's transformers is called.

Shapes: n texts, T tokens of one.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from bothways.auto.encodings import Encodings
from bothways.checkpoints.gguf import ENDING, GGUF
from bothways.checkpoints.hub import tokenizer_place
from bothways.config import read_json
from bothways.errors import UserError, unknown
from bothways.language import is_cjk
from bothways.text.tokenizing.tokenizer import ROLES, Tokenizer

Truncation = Literal["longest_first", "only_first", "only_second"]
Padding = Literal["longest", "max_length"]

TRUNCATIONS = {True: "longest_first", False: "", None: "", **{name: name for name in get_args(Truncation)}}
PADDINGS = {True: "longest", False: "", None: "", "do_not_pad": "", "longest": "longest", "max_length": "max_length"}
FORMATS = ("np", "pt")

_SPECIAL = re.compile(rf"({'|'.join(ROLES)})_token(_id)?")
_LIMITS = ("max_position_embeddings", "n_positions")  # of the families, in config.json
_LARGEST = 10**9  # transformers writes 10**30 for a tokenizer without a limit


class AutoTokenizer:
    """A tokenizer that frames texts as its model wants them (BERT: ``[CLS] text [SEP]``), cuts them and pads them.

    ``pad_token_id``, ``mask_token`` and their like give the special tokens, or None where there is none.

    Attributes:
        tokenizer: what encodes, without any frame.
        model_max_length: most tokens that the model reads, the frame included; None: no limit is known.
        token_types: whether encodings tell the two texts of a pair apart.
    """

    def __init__(self, tokenizer: Tokenizer, *, model_max_length: int | None = None, token_types: bool = False) -> None:
        self.tokenizer = tokenizer
        self.model_max_length = model_max_length
        self.token_types = token_types

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, revision: str | None = None) -> Self:
        """Load the tokenizer of a model.

        Args:
            name_or_folder: a run, a folder with ``tokenizer.json`` (or BERT's ``vocab.txt``, or GPT-2's ``vocab.json``),
                or the name of a model on the Hugging Face Hub, of which the tokenizer alone is downloaded unless it is
                cached.
            revision: branch, tag or commit; on the Hub only.
        Raises:
            UserError: there is no such model, or it has no tokenizer.
        """
        place = tokenizer_place(name_or_folder, revision)
        if place.suffix == ENDING and place.is_file():
            file = GGUF(place)
            return cls.of_model(file.tokenizer(), place, config=file.config())
        return cls.of_model(Tokenizer.load(place), place)

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> Self:
        """Take over a fast tokenizer of the ``transformers`` library; one of ours is returned as it is.

        Raises:
            UserError: it is another thing, or a slow tokenizer.
        """
        if isinstance(tokenizer, cls):
            return tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Backend):
            raise UserError(f"only a fast tokenizer of transformers can be taken over, not {type(tokenizer).__name__}")
        said = {role: getattr(tokenizer, f"{role}_token", None) for role in ROLES}
        roles = {role: token for role, token in said.items() if isinstance(token, str)}
        copy = Tokenizer(Backend.from_str(backend.to_str()), roles=roles)
        limit = getattr(tokenizer, "model_max_length", None)
        known = limit if isinstance(limit, int) and 0 < limit < _LARGEST else None
        types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        return cls(copy, model_max_length=known, token_types=types)

    @classmethod
    def of_model(cls, tokenizer: Tokenizer, folder: Path, *, config: Mapping[str, Any] | None = None) -> Self:
        """Complete a tokenizer by what the files beside it say.

        Args:
            tokenizer: of a model.
            folder: of the model.
            config: what ``config.json`` holds; None: it is read.
        """
        config = _read(folder / "config.json") if config is None else config
        settings = _read(folder / "tokenizer_config.json")
        limits = [*(config.get(name) for name in _LIMITS), settings.get("model_max_length")]
        known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < _LARGEST]
        bert = tokenizer.kind == "wordpiece" and config.get("model_type", "bert") == "bert"
        segments = config.get("type_vocab_size", 2 if bert else 0)
        return cls(tokenizer, model_max_length=min(known, default=None), token_types=segments not in (0, 1))

    def __call__(
        self,
        text: str | Iterable[Any],
        text_pair: str | Iterable[str] | None = None,
        *,
        truncation: bool | Truncation | None = False,
        padding: bool | Padding | Literal["do_not_pad"] | None = False,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
        return_offsets_mapping: bool = False,
        is_split_into_words: bool = False,
        return_tensors: Literal["np", "pt"] | None = None,
        add_special_tokens: bool = True,
        split_special_tokens: bool = True,
    ) -> Encodings:
        """Encode a text, or n of them.

        Args:
            text: one or many; with ``is_split_into_words`` a list of words, or many.
            text_pair: as many second texts, which follow the first ones.
            truncation: True or ``"longest_first"``: cut what is too long, the longer text of a pair first;
                ``"only_first"``, ``"only_second"``: cut that text alone.
            padding: True or ``"longest"``: pad to the longest text; ``"max_length"``: to ``max_length``.
            max_length: most tokens, the frame included; None: what the model can read.
            stride: tokens that the parts of a long text have in common.
            return_overflowing_tokens: what is cut off becomes further rows, and the column
                ``overflow_to_sample_mapping`` tells which text each row is a part of.
            return_offsets_mapping: add the column ``offset_mapping``.
            is_split_into_words: texts are lists of words (or of Chinese characters), as for tagging them.
            return_tensors: ``"np"`` or ``"pt"``: arrays or tensors [n, T]; None: lists.
            add_special_tokens: put the model's frame around each text.
            split_special_tokens: read ``[MASK]`` and its like in a text as plain letters; with False as the special
                token, which then anyone who writes the text can set.
        Raises:
            UserError: a text is no text, the numbers of texts differ, or an option has no such value.
        """
        words = is_split_into_words
        if words and text_pair is not None:
            raise UserError("is_split_into_words reads single texts; leave text_pair out")
        single = bool(_is_words(text)) if words else isinstance(text, str)
        first = _word_lists(text) if words else _texts(text, "text")
        second = [] if text_pair is None else _texts(text_pair, "text_pair")
        if text_pair is not None and (len(first) != len(second) or single != isinstance(text_pair, str)):
            raise UserError(f"there are {len(first)} texts and {len(second)} in text_pair; give one for each text")
        cut, pad = _choice("truncation", truncation, TRUNCATIONS), _choice("padding", padding, PADDINGS)
        limit = self._limit(max_length, needed=bool(cut) or pad == "max_length")
        firsts, seconds = (self._plain(texts, split_special_tokens, words=words) for texts in (first, second))
        backend = self.tokenizer.backend
        if cut and limit is not None:
            frame = backend.num_special_tokens_to_add(bool(seconds)) if add_special_tokens else 0
            _cut_all(firsts, seconds, cut, limit - frame, stride)
        pairs = zip_longest(firsts, seconds)
        encoded = [backend.post_process(one, other, add_special_tokens=add_special_tokens) for one, other in pairs]
        source = list(range(len(encoded)))
        if return_overflowing_tokens:
            source = [number for number, each in enumerate(encoded) for _ in range(1 + len(each.overflowing))]
            encoded = [part for each in encoded for part in (each, *each.overflowing)]
            single = False
        length = {"": None, "longest": max((len(each) for each in encoded), default=0), "max_length": limit}[pad]
        columns = self._columns(encoded, length)
        if return_offsets_mapping:
            columns["offset_mapping"] = [_padded(each.offsets, length, (0, 0)) for each in encoded]
        if return_tensors is not None:
            columns = {name: _array(rows, return_tensors) for name, rows in columns.items()}
        elif single:
            columns = {name: rows[0] for name, rows in columns.items()}
        if return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = source
        return Encodings(columns, encoded)

    def encode(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        truncation: bool | Truncation | None = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
    ) -> list[int]:
        """Return the token ids of one text or pair; the options are those of a call."""
        called = self(
            text, text_pair, truncation=truncation, max_length=max_length, add_special_tokens=add_special_tokens
        )
        return list(called.input_ids)

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids: a list, array or tensor [T]."""
        ids = [int(index) for index in token_ids]
        return str(self.tokenizer.backend.decode(ids, skip_special_tokens=skip_special_tokens))

    def batch_decode(self, sequences: Any, *, skip_special_tokens: bool = False) -> list[str]:
        """Return the text of each of n sequences of token ids."""
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in sequences]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which transformers reads too."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.tokenizer.save(folder, token_types=self.token_types)
            settings = {**_read(folder / "tokenizer_config.json"), "model_max_length": self.model_max_length}
            text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
            (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{str(folder)!r} cannot be written: {error.strerror or error}") from None

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __getattr__(self, name: str) -> Any:
        match = _SPECIAL.fullmatch(name)
        if not match:
            raise AttributeError(f"the tokenizer has no attribute {name!r}")
        role, number = match.groups()
        index = self.tokenizer.special_ids.get(role)
        return index if number or index is None else self.tokenizer.backend.id_to_token(index)

    def _limit(self, max_length: int | None, *, needed: bool) -> int | None:
        """Return the most tokens of a text."""
        limit = self.model_max_length if max_length is None else max_length
        if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
            raise UserError(f"max_length must be a whole number of at least 1, not {max_length!r}")
        if needed and limit is None:
            raise UserError("this tokenizer knows no limit of its model; give max_length")
        return limit

    def _plain(self, texts: list[Any], split_special_tokens: bool, *, words: bool) -> list[Encoding]:
        """Return encodings without any frame."""
        self.tokenizer.backend.encode_special_tokens = split_special_tokens
        if words and self.tokenizer.kind != "wordpiece":  # there, what stands between words is part of their tokens
            texts = [_spaced(each) for each in texts]
        encode = self.tokenizer.backend.encode_batch
        return list(encode(texts, is_pretokenized=words, add_special_tokens=False))

    def _columns(self, encoded: Sequence[Encoding], length: int | None) -> dict[str, Any]:
        """Return the columns, padded to a length."""
        special = self.tokenizer.special_ids
        padding = special.get("pad", special.get("eos", 0))  # GPT has no padding token; the mask tells it apart
        columns = {
            "input_ids": [_padded(each.ids, length, padding) for each in encoded],
            "token_type_ids": [_padded(each.type_ids, length, 0) for each in encoded],
            "attention_mask": [_padded([1] * len(each), length, 0) for each in encoded],
        }
        if not self.token_types:
            del columns["token_type_ids"]
        return columns


def _read(file: Path) -> dict[str, Any]:
    return dict(read_json(file)) if file.is_file() else {}


def _texts(texts: str | Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable):
        raise UserError(f"{name} must be a text or a list of texts, not {texts!r}")
    found = list(texts)
    for number, each in enumerate(found):
        if not isinstance(each, str):
            raise UserError(f"{name}[{number}] must be a text, not {each!r}")
    return found


def _is_words(text: Any) -> bool:
    """Whether this is one list of words, and not a list of such lists."""
    return isinstance(text, list | tuple) and bool(text) and isinstance(text[0], str)


def _word_lists(text: Any) -> list[list[str]]:
    if isinstance(text, str) or not isinstance(text, Iterable):
        raise UserError(f"with is_split_into_words a text must be a list of words, or many such lists, not {text!r}")
    texts = [text] if _is_words(text) else list(text)
    for number, words in enumerate(texts):
        if isinstance(words, str) or not isinstance(words, Iterable):
            raise UserError(f"text[{number}] must be a list of words, not {words!r}")
    lists = [list(words) for words in texts]
    for number, words in enumerate(lists):
        if odd := next((word for word in words if not isinstance(word, str)), None):
            raise UserError(f"text[{number}] holds {odd!r}, which is no word")
    return lists


def _spaced(words: list[str]) -> list[str]:
    """Return words as they stand in running text: a space before each but the first, and none beside ideographs."""
    before = ["", *words]
    return [
        f" {word}" if last and word and not (is_cjk(last[-1]) or is_cjk(word[0])) else word
        for last, word in zip(before, words, strict=False)
    ]


def _choice(name: str, value: Any, legal: Any) -> str:
    if isinstance(value, bool | str | None) and value in legal:
        return str(legal[value])
    raise unknown(f"value of {name}:", value, map(str, legal))


def _cut_all(firsts: Sequence[Encoding], seconds: Sequence[Encoding], cut: str, room: int, stride: int) -> None:
    """Cut encodings in place, so that each, or each pair together, has at most ``room`` tokens.

    They keep what is cut off in further parts, each of which begins with the last ``stride`` tokens of the one before.

    The library could do it, but by a setting of the tokenizer, which others use too.
    """
    if room < 0:
        raise UserError(f"max_length leaves no room for a text: the special tokens alone are {-room} more")
    for number, (first, second) in enumerate(zip_longest(firsts, seconds)):
        keep_first, keep_second = _kept(len(first), len(second or ()), cut, room)
        if min(keep_first, keep_second) < 0:
            raise UserError(f"text {number} is too long, and cutting it {cut!r} is not enough; use truncation=True")
        for encoding, keep in ((first, keep_first), (second, keep_second)):
            if encoding is None or len(encoding) <= keep:
                continue
            if stride >= max(keep, 1):
                raise UserError(f"stride must be less than the {keep} tokens that a part of text {number} has")
            encoding.truncate(keep, stride=stride)


def _kept(first: int, second: int, cut: str, room: int) -> tuple[int, int]:
    """Return how many tokens stay of two texts, given how many they have."""
    if first + second <= room:
        return first, second
    if cut == "only_first":
        return room - second, second
    if cut == "only_second":
        return first, room - first
    shorter = min(first, second, room // 2)
    longer = min(max(first, second), room - shorter)
    return (longer, shorter) if first > second else (shorter, longer)


def _padded(values: list[Any], length: int | None, filler: Any) -> list[Any]:
    return values + [filler] * ((length or 0) - len(values))


def _array(rows: list[list[int]], kind: str) -> Any:
    if kind not in FORMATS:
        raise unknown("value of return_tensors:", kind, FORMATS)
    if len(set(map(len, rows))) > 1:
        raise UserError("texts of different lengths make no array; give padding=True, and truncation=True if need be")
    array = np.array(rows, dtype=np.int64)
    return array if kind == "np" else torch.from_numpy(array)
