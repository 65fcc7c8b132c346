"""Text to token ids and back: byte-level BPE for GPT, WordPiece for BERT, Unigram for either.

The file format is Hugging Face's ``tokenizer.json``; training and encoding are done by the ``tokenizers`` library.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, models
from tokenizers import Tokenizer as Backend

from bothways.config import read_json
from bothways.errors import UserError, unknown
from bothways.text.tokenizing import files, training
from bothways.text.tokenizing.files import LIMIT
from bothways.text.tokenizing.training import (
    ALPHABET,
    KINDS,
    MOST_RESERVED,
    SAMPLE_BYTES,
    SPECIAL_TOKENS,
    Kind,
)

__all__ = ["KINDS", "LIMIT", "ROLES", "SAMPLE_BYTES", "SPECIAL_TOKENS", "Kind", "Tokenizer", "in_batches"]

# The role of each special token, and the strings that the published families give it, ours first. ``eot`` ends a turn of a
# conversation, and has a token only where a file says so.
ROLES = {
    "bos": ("<|endoftext|>", "<s>", "<|begin_of_text|>", "<|im_start|>"),
    "eos": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<|im_end|>"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<|endoftext|>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "eot": (),
}
_SETTINGS = "tokenizer_config.json"


# Bytes as byte-level BPE writes them: the first ones of Chinese characters, each a word of its own, and those that go on
# with any character of several bytes.
_ALONE = frozenset("ãäåæçèéð")
_INSIDE = frozenset(map(chr, (*range(0xA1, 0xC0), *range(0x122, 0x144))))


class Tokenizer:
    """A trained tokenizer.

    Special tokens are never produced from text: a document that contains ``[MASK]`` is encoded letter by letter, unless
    ``encode(text, special_tokens=True)`` asks otherwise.
    """

    def __init__(self, backend: Backend, *, roles: Mapping[str, str] | None = None) -> None:
        """Wrap what the library has built.

        Args:
            backend: of the library.
            roles: role to the token that a file gives it; others have the token that published families give them.
        """
        self.backend = backend
        self._roles = dict(roles or {})
        self.backend.no_padding()
        self.backend.no_truncation()
        found: dict[type, Kind] = {models.WordPiece: "wordpiece", models.Unigram: "unigram"}
        self.kind: Kind = found.get(type(backend.model), "bpe")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Kind = "bpe",
        vocab_size: int = 8192,
        lowercase: bool = True,
        reserved: int = 0,
        exact: bool = True,
    ) -> Self:
        """Train on a sample of texts.

        Args:
            texts: any number of them; read once, never held together. Memory stays under 600 MB for 32 MB of English or
                Chinese; ``SAMPLE_BYTES`` is how much is worth giving.
            kind: ``"bpe"`` (byte level, never an unknown token, any text comes back as it was), ``"wordpiece"`` (BERT's;
                Chinese characters stand alone) or ``"unigram"`` (SentencePiece's, with bytes for what it does not know;
                any text comes back as it was, but for ▁, which becomes a space).
            vocab_size: tokens, special ones included.
            lowercase: WordPiece only: fold case and strip accents.
            reserved: special tokens beside the kind's own, ``<|reserved_0|>`` and so on, for later use.
            exact: refuse text that has more characters than that, or supports fewer tokens; else take what comes of it.
        Raises:
            UserError: no such kind, a vocabulary too small for its alphabet, text too poor for the size asked, or no text.
        """
        if kind not in KINDS:
            raise unknown("tokenizer", kind, KINDS)
        if not 0 <= reserved <= MOST_RESERVED:
            raise UserError(f"a tokenizer can have 0 to {MOST_RESERVED:,} reserved tokens, not {reserved}")
        fixed = ALPHABET[kind] + len(SPECIAL_TOKENS[kind]) + reserved
        if vocab_size < fixed + 1:
            raise UserError(
                f"a {kind} vocabulary needs more than {fixed} tokens, and {vocab_size} were asked for; raise --vocab-size"
            )
        backend = training.train(texts, kind=kind, vocab_size=vocab_size, lowercase=lowercase, reserved=reserved)
        if exact and backend.get_vocab_size() > vocab_size:
            raise UserError(
                f"the text has so many different characters that a {kind} vocabulary needs at least "
                f"{backend.get_vocab_size()} tokens, and {vocab_size} were asked for; raise --vocab-size"
            )
        if exact and backend.get_vocab_size() < vocab_size:
            raise UserError(
                f"the text supports a vocabulary of {backend.get_vocab_size()} tokens, fewer than the {vocab_size} asked "
                "for; lower --vocab-size or give more text"
            )
        training.frame(backend, kind)
        return cls(backend)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer: ``tokenizer.json``, BERT's ``vocab.txt``, GPT-2's ``vocab.json`` and ``merges.txt``.

        The ``tokenizer_config.json`` beside it says which tokens have which roles, where it names tokens that there are.

        Args:
            path: one of these files, or a folder, in which they are looked for in this order.
        Raises:
            UserError: there is none, or it is not a valid tokenizer (see ``tokenizing.files``).
        """
        path = Path(path)
        return cls(files.read(path), roles=_named_roles((path if path.is_dir() else path.parent) / _SETTINGS))

    def framed_as_bert(self) -> Self:
        """Return a copy that other libraries, too, use as masked language modelling reads: ``[CLS] A [SEP] B [SEP]``.

        Ids are the same ones; only what ``tokenizer.json`` says of the frame differs.

        Raises:
            UserError: the tokenizer has no such tokens.
        """
        copy = self._copy()
        first, last = (str(copy.backend.id_to_token(copy.special_id(role))) for role in ("cls", "sep"))
        training.frame_as_bert(copy.backend, first, last)
        return copy

    def framed_by_kind(self) -> Self:
        """Return a copy that has the frame of its kind again, if it is what ``framed_as_bert`` made of one of ours."""
        copy, special = self._copy(), self.special_ids
        ours = "sep" in special and special.get("cls") == special.get("bos")
        if ours and self.framed_as_bert()._json() == self._json():
            training.frame(copy.backend, self.kind)
        return copy

    def _copy(self) -> Self:
        return type(self)(Backend.from_str(self._json()), roles=self._roles)

    def _json(self) -> str:
        return str(self.backend.to_str(pretty=True))

    def save(self, folder: str | Path, *, token_types: bool = False) -> None:
        """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that makes other libraries treat it alike.

        Args:
            folder: where to.
            token_types: the model tells the two texts of a pair apart, so that other libraries must hand it their types.
        """
        folder = Path(folder)
        (folder / "tokenizer.json").write_text(self._json(), encoding="utf-8")
        specials = {f"{role}_token": self.backend.id_to_token(index) for role, index in self.special_ids.items()}
        values: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **specials,
        }
        if token_types:
            values["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / _SETTINGS).write_text(text, encoding="utf-8")

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    @property
    def special_ids(self) -> dict[str, int]:
        """Role (``bos eos pad unk cls sep mask eot``) to token id, for the roles that this tokenizer has."""
        found = {}
        for role, candidates in ROLES.items():
            named = (self._roles[role],) if role in self._roles else ()
            ids = (self.backend.token_to_id(token) for token in (*named, *candidates))
            index = next((index for index in ids if index is not None), None)
            if index is not None:
                found[role] = index
        return found

    @property
    def unknown_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None where it is one that also begins or ends texts (GPT-2)."""
        special = self.special_ids
        return None if special.get("unk") in (special.get("bos"), special.get("eos")) else special.get("unk")

    def special_id(self, role: str) -> int:
        """Return the id of a special token.

        Raises:
            UserError: the tokenizer has no token in that role.
        """
        try:
            return self.special_ids[role]
        except KeyError:
            raise UserError(f"this tokenizer has no {role} token; it has {', '.join(self.special_ids)}") from None

    def frame(self) -> tuple[list[int], list[int]]:
        """Return the special tokens that other libraries, too, put before a text and after it."""
        encoding = self.backend.encode("a")
        ids, special = encoding.ids, encoding.special_tokens_mask
        first = special.index(0) if 0 in special else 0
        last = len(special) - special[::-1].index(0) if 0 in special else 0
        return list(ids[:first]), list(ids[last:])

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Return the token ids of a text, without any frame of special tokens.

        Args:
            text: any Unicode text.
            special_tokens: read ``[MASK]`` and its like in the text as the special tokens they name.
        """
        self.backend.encode_special_tokens = not special_tokens
        try:
            return list(self.backend.encode(text, add_special_tokens=False).ids)
        except TypeError:
            raise _not_text() from None

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the token ids of many texts, on all cores."""
        return [np.asarray(encoding.ids, dtype=np.int64) for encoding in self.encodings(texts)]

    def encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the library's own encodings, which also hold character offsets."""
        self.backend.encode_special_tokens = True
        try:
            return list(self.backend.encode_batch(list(texts), add_special_tokens=False))
        except TypeError:
            raise _not_text() from None

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; special tokens, and ids that no token has, are left out.

        Raises:
            UserError: a number cannot be an id at all.
        """
        try:
            return str(self.backend.decode([int(index) for index in ids]))
        except OverflowError:
            raise UserError("a token id must be a whole number of 0 to 4294967295") from None

    def continues_word(self) -> NDArray[np.bool_]:
        """Return, for each token id, whether it goes on with the word that the token before it began."""
        vocabulary = self.backend.get_vocab()
        continues = np.zeros(max(vocabulary.values()) + 1, dtype=bool)
        special = set(self.special_ids.values())
        for token, index in vocabulary.items():
            inside = (
                token.startswith("##") if self.kind == "wordpiece" else token[:1].isalpha() and token[:1] not in "ĠĊĉ▁"
            )
            if self.kind == "bpe" and token[:1] in _ALONE | _INSIDE:
                inside = token[:1] in _INSIDE
            continues[index] = inside and index not in special
        return continues


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Group items into lists of ``size``, the last one shorter."""
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _named_roles(file: Path) -> dict[str, str]:
    """Return role to token as a ``tokenizer_config.json`` names them; anything else in it says nothing of roles."""
    values = read_json(file) if file.is_file() else {}
    named = {role: values.get(f"{role}_token") for role in ROLES} if isinstance(values, dict) else {}
    named = {role: token.get("content") if isinstance(token, dict) else token for role, token in named.items()}
    return {role: token for role, token in named.items() if isinstance(token, str)}


def _not_text() -> UserError:
    return UserError(
        "only Unicode text can be encoded, and one of these is not: it is no str, or holds half of a surrogate pair"
    )
