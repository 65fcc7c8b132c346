"""Training of tokenizers on a stream of texts, in memory that the sample's size bounds.

The training itself is done by the ``tokenizers`` library and, for Unigram, by ``sentencepiece``. What is done here keeps
it small and repeatable: texts are passed on in slices, words are counted once, and words without end (Chinese has no
spaces) are cut.
"""

import io
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from bothways import progress
from bothways.errors import UserError
from bothways.text.tokenizing.word_chunks import BARE_CHUNK

Kind = Literal["bpe", "wordpiece", "unigram"]
KINDS: tuple[Kind, ...] = ("bpe", "wordpiece", "unigram")

SPECIAL_TOKENS: dict[Kind, tuple[str, ...]] = {
    "bpe": ("<|endoftext|>", "[PAD]", "[SEP]", "[MASK]"),
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "unigram": ("<pad>", "<unk>", "<s>", "</s>", "<mask>"),
}
MOST_RESERVED = 10_000
# Bytes of text that are worth training on: more changes little, and costs time (Unigram takes minutes for ten times it).
SAMPLE_BYTES: dict[Kind, int] = {"bpe": 32 * 2**20, "wordpiece": 32 * 2**20, "unigram": 8 * 2**20}

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_VISIBLE = tuple(
    "▁" + "".join(map(chr, range(0x21, 0x7F)))
)  # always known to Unigram, so no text needs "<s>" or "<0x41>"
ALPHABET: dict[Kind, int] = {"bpe": 256, "wordpiece": 1, "unigram": 256 + len(_VISIBLE)}

_SLICE = 2**15  # characters passed on at a time; the library holds 256 of them
_MOST_WORDS: dict[Kind, int] = {"wordpiece": 2**20, "unigram": 2**19}  # distinct ones that are counted
_REPEATED = 2**10  # times that a word stands in one text made of counts

# Scripts without spaces (Thai to Khmer, kana, ideographs). A run of them is one word to byte-level BPE, and hardly any
# comes twice, so that the library keeps every byte of the text as a symbol: 32 MB of Chinese took 2.4 GB.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ENDLESS = re.compile(rf"([{_SPACELESS}]{{3,}})|[^\s{_SPACELESS}]{{64,}}|\s{{64,}}")
_WHOLE = 1_500_000  # bytes of such runs that are taken whole; what follows is cut
_SHORT, _LONG = 2, 16  # characters of a cut run, spaceless or other
# Where a slice may end, since every GPT-2 word does.
_WORD_END = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])|(?<=[。，])(?=[\u4e00-\u9fff])")

# Unigram's words: a run of ideographs, of other letters, one digit, a run of signs, each with a space before it.
UNIGRAM_SPLIT = r" ?\p{Han}{1,16}| ?(?:(?!\p{Han})[\p{L}\p{M}])+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s"
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"(?:(?![{_HAN}])[^\W\d_])"
# What it is trained on: the same, but shorter, since runs of four ideographs repeat and longer ones hardly do.
_UNIGRAM_WORD = re.compile(rf" ?[{_HAN}]{{1,4}}| ?{_LETTER}{{1,32}}| ?\d| ?[^\s\w]{{1,16}}|\S")
_COVERAGE = 0.9995  # share of the sample's characters that get pieces of their own; others are written in bytes
_FEWEST_SEEDS = 100_000  # pieces to begin with, ten for each that is to remain; a million, as usual, gains nothing
_MOST_CHARACTERS = 2**24  # SentencePiece keeps each word as often as it comes, at 20 bytes a character
_NEVER = -10_000.0  # score of a piece that no text is cut into


def special_tokens(kind: Kind, reserved: int) -> list[AddedToken]:
    """Return the special tokens of a kind, in the order of their ids, reserved ones last."""
    names = [*SPECIAL_TOKENS[kind], *(f"<|reserved_{number}|>" for number in range(reserved))]
    return [AddedToken(name, special=True, normalized=False) for name in names]


def train(texts: Iterable[str], *, kind: Kind, vocab_size: int, lowercase: bool, reserved: int) -> Backend:
    """Train a tokenizer of a kind; it may come out smaller or larger than ``vocab_size``.

    Raises:
        UserError: one of the texts is no text.
    """
    special = special_tokens(kind, reserved)
    sliced = _slices(texts)
    if kind == "bpe":
        return _train_bpe(sliced, vocab_size, special)
    if kind == "wordpiece":
        return _train_wordpiece(sliced, vocab_size, special, lowercase)
    return _train_unigram(sliced, vocab_size, special)


def frame(backend: Backend, kind: Kind) -> None:
    """Let other libraries, too, put BERT's and XLM-R's special tokens around texts, and a start before GPT's."""
    first, last = {"bpe": ("<|endoftext|>", None), "wordpiece": ("[CLS]", "[SEP]"), "unigram": ("<s>", "</s>")}[kind]
    used = [(token, backend.token_to_id(token)) for token in (first, last) if token is not None]
    if any(index is None for _, index in used):
        return
    if kind == "wordpiece" and last is not None:
        frame_as_bert(backend, first, last)
        return
    if last is None:
        single, pair = f"{first} $A", f"{first} $A $B:1"
    else:
        single, pair = f"{first} $A {last}", f"{first} $A {last} {last} $B {last}"
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)


def frame_as_bert(backend: Backend, first: str, last: str) -> None:
    """Let other libraries, too, put a token before texts and one after each, and tell the two of a pair apart by types."""
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in dict.fromkeys((first, last))],
    )


def wordpiece(model: models.WordPiece, *, lowercase: bool) -> Backend:
    """Return BERT's tokenizer around a vocabulary."""
    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def byte_level(model: models.BPE) -> Backend:
    """Return GPT-2's tokenizer around a vocabulary."""
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _slices(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on, long ones in slices that end where a word does, if any does in reach."""
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"a tokenizer is trained on texts, and one of these is {type(text).__name__}")
        start = 0
        while len(text) - start > 2 * _SLICE:
            end = _WORD_END.search(text, start + _SLICE, start + 2 * _SLICE)
            stop = end.start() if end else start + 2 * _SLICE
            yield _checked(text[start:stop])
            start = stop
        yield _checked(text[start:])


def _checked(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            "a tokenizer is trained on Unicode text, and one of these holds half of a surrogate pair"
        ) from None
    return text


# Byte-level BPE.


def _train_bpe(texts: Iterable[str], vocab_size: int, special: list[AddedToken]) -> Backend:
    backend = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_without_endless_words(texts), trainer)
    return backend


def _without_endless_words(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on; once ``_WHOLE`` bytes of endless words have been, cut such words into short ones.

    Cut, not left out, so that languages keep their shares. Pairs of Chinese characters repeat, where clauses do not.
    """
    spent = 0
    for text in texts:
        if spent <= _WHOLE:
            spent += sum(len(match[0].encode()) for match in _ENDLESS.finditer(text))
        if spent <= _WHOLE:
            yield text
        else:
            yield from _cut(text)


def _cut(text: str) -> Iterator[str]:
    done = 0
    for match in _ENDLESS.finditer(text):
        if match.start() > done:
            yield text[done : match.start()]
        size = _SHORT if match[1] else _LONG
        yield from (text[at : min(at + size, match.end())] for at in range(match.start(), match.end(), size))
        done = match.end()
    if done < len(text):
        yield text[done:]


# Counted words, for WordPiece and Unigram.


def _count(words: Iterable[list[str]], most: int) -> Counter[str]:
    """Count words; when there are too many distinct ones, the rarest are given up, and it is said."""
    counts: Counter[str] = Counter()
    least = 0
    for group in words:
        counts.update(group)
        while len(counts) > most:
            least += 1
            counts = Counter({word: count for word, count in counts.items() if count > least})
    if least:
        progress.note(f"The tokenizer's sample has more than {most:,} different words; rare ones were left out")
    return counts


def _repeated(counts: Counter[str], separator: str) -> Iterator[str]:
    """Write each word as often as it was counted, in texts of bounded length."""
    for word, count in counts.items():
        for done in range(0, count, _REPEATED):
            yield separator.join([word] * min(_REPEATED, count - done))


# WordPiece.


def _train_wordpiece(texts: Iterable[str], vocab_size: int, special: list[AddedToken], lowercase: bool) -> Backend:
    """Train BERT's tokenizer, the same one in every process.

    The library numbers the pieces that continue a word in the order of a hash table, which differs from process to
    process and decides between equally frequent merges. Given beforehand, in order, as if they were special, they keep
    their numbers; the trained vocabulary then goes into a tokenizer whose special tokens are only the real ones.
    """
    counts = _bert_words(_count(map(BARE_CHUNK.findall, texts), _MOST_WORDS["wordpiece"]), lowercase)
    inner = [f"##{character}" for character in sorted({character for word in counts for character in word[1:]})]
    trained = Backend(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=[*special, *inner], show_progress=False)
    trained.train_from_iterator(_repeated(counts, " "), trainer)
    backend = wordpiece(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"), lowercase=lowercase)
    backend.add_special_tokens(special)
    return backend


def _bert_words(chunks: Counter[str], lowercase: bool) -> Counter[str]:
    """Count the words that BERT's normaliser and pre-tokenizer make of chunks."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(chunk)):
            counts[word] += count
    return counts


# Unigram.


def _train_unigram(texts: Iterable[str], vocab_size: int, special: list[AddedToken]) -> Backend:
    """Train SentencePiece's Unigram with byte fallback, such that any text can be written.

    The vocabulary is: special tokens, the 256 bytes, then pieces from likely to unlikely. Special tokens and bytes score
    so low that a text which spells one out ("<s>", "<0x41>") is cut into ordinary pieces.
    """
    counts = _covered(_count(map(_UNIGRAM_WORD.findall, texts), _MOST_WORDS["unigram"]))
    pieces = _unigram_pieces(counts, vocab_size - len(special) - len(BYTES))
    scored = sorted(pieces.items(), key=lambda pair: (-pair[1], pair[0]))
    never = [(token.content, _NEVER) for token in special] + [(byte, _NEVER) for byte in BYTES]
    backend = unigram(models.Unigram([*never, *scored], unk_id=1, byte_fallback=True))
    backend.add_special_tokens(special)
    return backend


def _unigram_pieces(counts: Counter[str], size: int) -> dict[str, float]:
    """Return at most ``size`` pieces (more where there are more characters) with the logarithms of their likelihoods.

    By SentencePiece itself: the trainer of ``tokenizers`` decides between equals in the order of a hash table, which
    differs from process to process. One thread, since sums of floats depend on how they are divided.

    Raises:
        UserError: ``sentencepiece`` is not installed.
    """
    characters = sorted({character for word in counts for character in word} | set(_VISIBLE))
    if not any(len(word) > 1 for word in counts):
        return dict.fromkeys(characters, round(-math.log(len(characters)), 6))
    try:
        import sentencepiece
    except ImportError:
        raise UserError("training a unigram tokenizer needs sentencepiece; run: pip install sentencepiece") from None
    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder) / "words.tsv", io.BytesIO()
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{word}\t{count}\n" for word, count in _scaled(counts, _MOST_CHARACTERS).items())
            stream.write("".join(f"{character}\t1\n" for character in _VISIBLE))
        sentencepiece.SentencePieceTrainer.train(
            input=str(file),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=max(size, len(characters)) + 1,  # and its own <unk>
            hard_vocab_limit=False,
            seed_sentencepiece_size=min(max(_FEWEST_SEEDS, 10 * size), 1_000_000),
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            allow_whitespace_only_pieces=True,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    # Rounded, so that reading the scores from JSON gives the same ones.
    found = {trained.id_to_piece(i): round(trained.get_score(i), 6) for i in range(1, trained.get_piece_size())}
    unlikely = min(found.values()) - 1
    return {**dict.fromkeys(characters, unlikely), **found}


def _scaled(counts: Counter[str], most: int) -> Counter[str]:
    """Divide counts, such that the words as often as they are counted have about ``most`` characters; none is lost."""
    total = sum(len(word) * count for word, count in counts.items())
    return counts if total <= most else Counter({word: -(-count * most // total) for word, count in counts.items()})


def unigram(model: models.Unigram) -> Backend:
    """Return our Unigram tokenizer around a vocabulary: spaces are ▁, nothing else is changed."""
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(UNIGRAM_SPLIT), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _covered(words: Counter[str]) -> Counter[str]:
    """Write spaces as Unigram does, and cut words at the rarest characters, which are then written in bytes."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    total, kept, seen = sum(characters.values()), set(), 0
    for character, count in sorted(characters.items(), key=lambda pair: (-pair[1], pair[0])):
        if seen >= math.ceil(_COVERAGE * total):
            break
        kept.add(character)
        seen += count
    counts: Counter[str] = Counter()
    for word, count in words.items():
        if kept.issuperset(word):
            counts[word.replace(" ", "▁")] += count
            continue
        plain = "".join(character if character in kept else "\n" for character in word)
        for part in plain.replace(" ", "▁").split("\n"):
            if part:
                counts[part] += count
    return counts
