"""``AutoTokenizer``: a model's tokenizer, called as that of Hugging Face's transformers is called.

Shapes: n texts, T tokens of one.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from tokenizers import Encoding

from bothways.auto.encodings import Encodings
from bothways.checkpoints.hub import tokenizer_place
from bothways.config import read_json
from bothways.errors import UserError, unknown
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
    def from_pretrained(cls, name_or_folder: str | Path) -> Self:
        """Load the tokenizer of a model.

        Args:
            name_or_folder: a run, a folder with ``tokenizer.json`` (or BERT's ``vocab.txt``, or GPT-2's ``vocab.json``),
                or the name of a model on the Hugging Face Hub, of which the tokenizer alone is downloaded unless it is
                cached.
        Raises:
            UserError: there is no such model, or it has no tokenizer.
        """
        folder = tokenizer_place(name_or_folder)
        return cls.of_model(Tokenizer.load(folder), folder)

    @classmethod
    def of_model(cls, tokenizer: Tokenizer, folder: Path) -> Self:
        """Complete a tokenizer by what the files beside it say."""
        config, settings = _read(folder / "config.json"), _read(folder / "tokenizer_config.json")
        limits = [*(config.get(name) for name in _LIMITS), settings.get("model_max_length")]
        known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < _LARGEST]
        bert = tokenizer.kind == "wordpiece" and config.get("model_type", "bert") == "bert"
        segments = config.get("type_vocab_size", 2 if bert else 0)
        return cls(tokenizer, model_max_length=min(known, default=None), token_types=segments not in (0, 1))

    def __call__(
        self,
        text: str | Iterable[str],
        text_pair: str | Iterable[str] | None = None,
        *,
        truncation: bool | Truncation | None = False,
        padding: bool | Padding | Literal["do_not_pad"] | None = False,
        max_length: int | None = None,
        return_tensors: Literal["np", "pt"] | None = None,
        add_special_tokens: bool = True,
        split_special_tokens: bool = True,
    ) -> Encodings:
        """Encode a text, or n of them.

        Args:
            text: one or many.
            text_pair: as many second texts, which follow the first ones.
            truncation: True or ``"longest_first"``: cut what is too long, the longer text of a pair first;
                ``"only_first"``, ``"only_second"``: cut that text alone.
            padding: True or ``"longest"``: pad to the longest text; ``"max_length"``: to ``max_length``.
            max_length: most tokens, the frame included; None: what the model can read.
            return_tensors: ``"np"`` or ``"pt"``: arrays or tensors [n, T]; None: lists.
            add_special_tokens: put the model's frame around each text.
            split_special_tokens: read ``[MASK]`` and its like in a text as plain letters; with False as the special
                token, which then anyone who writes the text can set.
        Raises:
            UserError: a text is no text, the numbers of texts differ, or an option has no such value.
        """
        single = isinstance(text, str)
        first, second = _texts(text, "text"), [] if text_pair is None else _texts(text_pair, "text_pair")
        if text_pair is not None and (len(first) != len(second) or single != isinstance(text_pair, str)):
            raise UserError(f"there are {len(first)} texts and {len(second)} in text_pair; give one for each text")
        cut, pad = _choice("truncation", truncation, TRUNCATIONS), _choice("padding", padding, PADDINGS)
        limit = self._limit(max_length, needed=bool(cut) or pad == "max_length")
        firsts, seconds = (self._plain(texts, split_special_tokens) for texts in (first, second))
        backend = self.tokenizer.backend
        if cut and limit is not None:
            frame = backend.num_special_tokens_to_add(bool(seconds)) if add_special_tokens else 0
            _cut_all(firsts, seconds, cut, limit - frame)
        pairs = zip_longest(firsts, seconds)
        encoded = [backend.post_process(one, other, add_special_tokens=add_special_tokens) for one, other in pairs]
        length = {"": None, "longest": max((len(each) for each in encoded), default=0), "max_length": limit}[pad]
        return self._columns(encoded, length, return_tensors, single=single)

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

    def _plain(self, texts: list[str], split_special_tokens: bool) -> list[Encoding]:
        """Return encodings without any frame."""
        self.tokenizer.backend.encode_special_tokens = split_special_tokens
        return list(self.tokenizer.backend.encode_batch(texts, add_special_tokens=False))

    def _columns(
        self, encoded: Sequence[Encoding], length: int | None, return_tensors: str | None, *, single: bool
    ) -> Encodings:
        """Return the columns, padded to a length and in the form that is asked for."""
        special = self.tokenizer.special_ids
        padding = special.get("pad", special.get("eos", 0))  # GPT has no padding token; the mask tells it apart
        columns = {
            "input_ids": [_padded(each.ids, length, padding) for each in encoded],
            "token_type_ids": [_padded(each.type_ids, length, 0) for each in encoded],
            "attention_mask": [_padded([1] * len(each), length, 0) for each in encoded],
        }
        if not self.token_types:
            del columns["token_type_ids"]
        if return_tensors is not None:
            return Encodings({name: _array(rows, return_tensors) for name, rows in columns.items()})
        return Encodings({name: rows[0] if single else rows for name, rows in columns.items()})


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


def _choice(name: str, value: Any, legal: Any) -> str:
    if isinstance(value, bool | str | None) and value in legal:
        return str(legal[value])
    raise unknown(f"value of {name}:", value, map(str, legal))


def _cut_all(firsts: Sequence[Encoding], seconds: Sequence[Encoding], cut: str, room: int) -> None:
    """Cut encodings in place, so that each, or each pair together, has at most ``room`` tokens.

    The library could do it, but by a setting of the tokenizer, which others use too.
    """
    if room < 0:
        raise UserError(f"max_length leaves no room for a text: the special tokens alone are {-room} more")
    for number, (first, second) in enumerate(zip_longest(firsts, seconds)):
        keep_first, keep_second = _kept(len(first), len(second or ()), cut, room)
        if min(keep_first, keep_second) < 0:
            raise UserError(f"text {number} is too long, and cutting it {cut!r} is not enough; use truncation=True")
        first.truncate(keep_first)
        if second is not None:
            second.truncate(keep_second)


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


def _padded(values: list[int], length: int | None, filler: int) -> list[int]:
    return values + [filler] * ((length or 0) - len(values))


def _array(rows: list[list[int]], kind: str) -> Any:
    if kind not in FORMATS:
        raise unknown("value of return_tensors:", kind, FORMATS)
    if len(set(map(len, rows))) > 1:
        raise UserError("texts of different lengths make no array; give padding=True, and truncation=True if need be")
    array = np.array(rows, dtype=np.int64)
    return array if kind == "np" else torch.from_numpy(array)
