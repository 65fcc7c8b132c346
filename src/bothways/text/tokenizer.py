"""Text to token ids and back: byte-level BPE for GPT, WordPiece for BERT, trained on the user's own text.

The file format is Hugging Face's ``tokenizer.json``; training and encoding are done by the ``tokenizers`` library.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Encoding, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from bothways.config import read_json
from bothways.errors import UserError, unknown
from bothways.language import is_cjk

Kind = Literal["bpe", "wordpiece"]
KINDS: tuple[Kind, ...] = ("bpe", "wordpiece")
LIMIT = 64 * 2**20  # bytes of a tokenizer.json that we are willing to read

_WORD = re.compile(r"[^\W_]+")

# The role of each special token, and the strings that the published families give it, ours first.
ROLES = {
    "bos": ("<|endoftext|>", "<s>", "<|begin_of_text|>", "<|im_start|>"),
    "eos": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<|im_end|>"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
}
SPECIAL_TOKENS: dict[Kind, tuple[str, ...]] = {
    "bpe": ("<|endoftext|>", "[PAD]", "[SEP]", "[MASK]"),
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
}


class Tokenizer:
    """A trained tokenizer.

    Special tokens are never produced from text: a document that contains ``[MASK]`` is encoded letter by letter, unless
    ``encode(text, special_tokens=True)`` asks otherwise.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.backend.no_padding()
        self.backend.no_truncation()
        self.kind: Kind = "wordpiece" if isinstance(backend.model, models.WordPiece) else "bpe"

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        kind: Kind = "bpe",
        vocab_size: int = 8192,
        lowercase: bool = True,
        exact: bool = True,
    ) -> Self:
        """Train on texts.

        Args:
            texts: any number of them; read once.
            kind: ``"bpe"`` (byte level, never an unknown token) or ``"wordpiece"`` (BERT's; Chinese characters stand alone).
            vocab_size: tokens, special ones included.
            lowercase: WordPiece only: fold case and strip accents.
            exact: refuse text that has more characters than that, or supports fewer tokens; else take what comes of it.
        Raises:
            UserError: no such kind, a vocabulary too small for its alphabet, or text too poor for the size asked.
        """
        if kind not in KINDS:
            raise unknown("tokenizer", kind, KINDS)
        alphabet = 256 if kind == "bpe" else 1
        if vocab_size < alphabet + len(SPECIAL_TOKENS[kind]) + 1:
            raise UserError(
                f"a {kind} vocabulary needs more than {alphabet + len(SPECIAL_TOKENS[kind])} tokens, and {vocab_size} "
                "were asked for; raise --vocab-size"
            )
        backend = _train_bpe(texts, vocab_size) if kind == "bpe" else _train_wordpiece(texts, vocab_size, lowercase)
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
        tokenizer = cls(backend)
        _frame(tokenizer)
        return tokenizer

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a ``tokenizer.json``, or the one in a folder.

        Raises:
            UserError: there is none, or it is not a valid tokenizer file.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            if (path / "vocab.txt").is_file():
                return cls(_from_vocabulary(path))
            raise UserError(f"there is no tokenizer.json in {str(path)!r}")
        if file.stat().st_size > LIMIT:
            raise UserError(f"{str(file)!r} is larger than the {LIMIT // 2**20} MiB that a tokenizer may have")
        read_json(file)
        try:
            backend = Backend.from_str(file.read_text(encoding="utf-8"))
        except BaseException as error:  # the library's own panics do not derive from Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise UserError(f"{str(file)!r} is not a valid tokenizer: {error}") from None
        _check(backend, file)
        return cls(backend)

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that makes other libraries treat it alike."""
        folder = Path(folder)
        (folder / "tokenizer.json").write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        specials = {f"{role}_token": self.backend.id_to_token(index) for role, index in self.special_ids.items()}
        values = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **specials}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    @property
    def special_ids(self) -> dict[str, int]:
        """Role (``bos eos pad unk cls sep mask``) to token id, for the roles that this tokenizer has."""
        found = {}
        for role, candidates in ROLES.items():
            ids = (self.backend.token_to_id(token) for token in candidates)
            index = next((index for index in ids if index is not None), None)
            if index is not None:
                found[role] = index
        return found

    def special_id(self, role: str) -> int:
        """Return the id of a special token.

        Raises:
            UserError: the tokenizer has no token in that role.
        """
        try:
            return self.special_ids[role]
        except KeyError:
            raise UserError(f"this tokenizer has no {role} token; it has {', '.join(self.special_ids)}") from None

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
        """Return the text of token ids; special tokens are left out."""
        return str(self.backend.decode([int(index) for index in ids]))

    def continues_word(self) -> NDArray[np.bool_]:
        """Return, for each token id, whether it goes on with the word that the token before it began."""
        vocabulary = self.backend.get_vocab()
        continues = np.zeros(max(vocabulary.values()) + 1, dtype=bool)
        special = set(self.special_ids.values())
        for token, index in vocabulary.items():
            inside = (
                token.startswith("##") if self.kind == "wordpiece" else token[:1].isalpha() and token[:1] not in "ĠĊĉ"
            )
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


def _not_text() -> UserError:
    return UserError(
        "only Unicode text can be encoded, and one of these is not: it is no str, or holds half of a surrogate pair"
    )


def _check(backend: Backend, file: Path) -> None:
    """Refuse a vocabulary that no model can be built on, or that fails at the first unknown word."""
    ids = sorted(backend.get_vocab().values())
    if not ids or ids != list(range(len(ids))):
        raise UserError(f"{str(file)!r} is not a valid tokenizer: its token ids must be 0, 1, 2 and so on without gaps")
    unknown_token = getattr(backend.model, "unk_token", None)
    if unknown_token is not None and backend.token_to_id(unknown_token) is None:
        raise UserError(f"{str(file)!r} is not a valid tokenizer: it lacks its own unknown token {unknown_token!r}")


def _special(kind: Kind) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS[kind]]


def _train_bpe(texts: Iterable[str], vocab_size: int) -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = _special("bpe")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Backend:
    """Train BERT's tokenizer, the same one in every process.

    The library numbers the pieces that continue a word in the order of a hash table, which differs from process to
    process and decides between equally frequent merges. Given beforehand, in order, as if they were special, they keep
    their numbers; the trained vocabulary then goes into a tokenizer whose special tokens are only the real ones.
    """
    real = _special("wordpiece")
    texts = list(texts)
    inner = [f"##{character}" for character in sorted(_continuing(texts, lowercase))]
    trained = _wordpiece(models.WordPiece(unk_token="[UNK]"), lowercase)
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=[*real, *inner], show_progress=False)
    trained.train_from_iterator(texts, trainer)
    backend = _wordpiece(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"), lowercase)
    backend.add_special_tokens(real)
    return backend


def _wordpiece(model: models.WordPiece, lowercase: bool) -> Backend:
    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _continuing(texts: Iterable[str], lowercase: bool) -> set[str]:
    """Return the characters that stand inside words, after normalisation; Chinese characters are words of their own."""
    seen = {word for text in texts for word in _WORD.findall(text)}
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    found = {character for word in seen for part in normalizer.normalize_str(word).split() for character in part[1:]}
    return {character for character in found if not is_cjk(character)}


def _frame(tokenizer: Tokenizer) -> None:
    """Let other libraries, too, put [CLS] and [SEP] around BERT's texts, and a start before GPT's."""
    if tokenizer.kind == "bpe":
        start = [("<|endoftext|>", tokenizer.special_id("bos"))]
        tokenizer.backend.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A $B:1", special_tokens=start
        )
    if tokenizer.kind == "wordpiece":
        frame = [(role, tokenizer.special_id(role.strip("[]").lower())) for role in ("[CLS]", "[SEP]")]
        tokenizer.backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
        )


def _from_vocabulary(folder: Path) -> Backend:
    """Build BERT's tokenizer from an old ``vocab.txt``."""
    file, beside = folder / "vocab.txt", folder / "tokenizer_config.json"
    try:
        vocabulary = models.WordPiece.read_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise UserError(f"{str(file)!r} is not a valid vocabulary: {error}") from None
    settings = read_json(beside) if beside.is_file() else {}
    if not isinstance(settings, dict):
        raise UserError(f"{str(beside)!r} must hold a JSON object, not {type(settings).__name__}")
    backend = _wordpiece(
        models.WordPiece(vocabulary, unk_token="[UNK]"), lowercase=bool(settings.get("do_lower_case", True))
    )
    backend.add_special_tokens([token for token in SPECIAL_TOKENS["wordpiece"] if token in vocabulary])
    _check(backend, file)
    _frame(Tokenizer(backend))
    return backend
