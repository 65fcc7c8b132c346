import io
import itertools
import json
import multiprocessing
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import DamagedFileError, UserError
from bothways.language import is_cjk, word_list
from bothways.text.copies import minhash
from bothways.text.copies.deduplication import Deduplication, DocumentIndex, Fingerprints, find_duplicates
from bothways.text.copies.minhash import MOST_TEXTS, PIECE, Fingerprinter
from bothways.text.found.docstrings import installed_docstrings
from bothways.text.reading.documents import Document
from bothways.text.splitting import cut_long, without_duplicates

DEFAULT = Deduplication()
SHAPE = {"words": 3, "characters": 3, "fewest": 20, "num_permutations": 128, "seed": 1}


def search(folder, *parts, settings=DEFAULT, sources=None, **options):
    """Fingerprint parts of a corpus; return the report, and one list of whether each document is dropped."""
    folder.mkdir(exist_ok=True)
    number = itertools.count()
    for index, texts in enumerate(parts):
        with Fingerprints(folder, index, settings) as fingerprints:
            for text in texts:
                fingerprints.add(text, source=sources[next(number)] if sources else "")
    report = find_duplicates(folder, [len(texts) for texts in parts], settings, **options)
    masks = [np.load(folder / f"dropped-{index:05}.npy") for index in range(len(parts))]
    assert [mask.dtype for mask in masks] == [bool] * len(parts)
    assert [len(mask) for mask in masks] == [len(texts) for texts in parts]
    dropped = [bool(flag) for mask in masks for flag in mask]
    assert report.documents == len(dropped)
    assert report.dropped == sum(dropped) == report.within_source + report.across_sources
    return report, dropped


def english(count, *, words=150, seed=0, vocabulary=3000):
    """Return texts of unrelated words; some words are far more common than others, as in any language."""
    draw = np.random.default_rng(seed)
    chances = 1 / np.arange(1, vocabulary + 1)
    names = ["".join(draw.choice(list("abcdefghijklmnop"), size=draw.integers(2, 9))) for _ in range(vocabulary)]
    chosen = draw.choice(names, size=(count, words), p=chances / chances.sum())
    return [". ".join(" ".join(row[start : start + 12]) for start in range(0, words, 12)) for row in chosen.tolist()]


def chinese(count, *, characters=300, seed=0):
    draw = np.random.default_rng(seed)
    chances = 1 / np.arange(1, 3001)
    chosen = draw.choice(
        [chr(0x4E00 + 5 * n) for n in range(3000)], size=(count, characters), p=chances / chances.sum()
    )
    return ["".join(row) for row in chosen.tolist()]


def changed(text, share=20, seed=0):
    """Return the text with one word, or ideograph, of every so many replaced."""
    generator = random.Random(seed)
    units = re.split(r"([\u3400-\u9fff]|[^\W\u3400-\u9fff]+)", text)
    for place in generator.sample(range(1, len(units), 2), len(units) // 2 // share):
        units[place] = chr(generator.randrange(0x4E00, 0x9FA0)) if is_cjk(units[place][0]) else f"new{place}x{seed}"
    return "".join(units)


def moved(text, seed=0):
    paragraphs = text.split("\n\n")
    random.Random(seed).shuffle(paragraphs)
    return "\n\n".join(paragraphs)


def shingles(text, settings=DEFAULT):
    """The set that a signature stands for, by the slow and plain rule."""
    words = word_list(re.sub(r"['’\u2010\u2011.,_-]", " ", text))
    lengths = [settings.characters if is_cjk(word) else settings.words for word in words]
    return {tuple(words[at : at + length]) for at, length in enumerate(lengths) if at + length <= len(words)}


def jaccard(left, right):
    return len(shingles(left) & shingles(right)) / len(shingles(left) | shingles(right))


def estimate(left, right, **shape):
    _, signatures = Fingerprinter(**{**SHAPE, **shape}).of_texts([left, right])
    return (signatures[0] == signatures[1]).mean()


# Settings.


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("threshold=0.05", "threshold must be from 0.1 to 1"),
        ("threshold=1.1", "threshold must be from 0.1 to 1"),
        ("words=0", "words must be from 1 to 32"),
        ("characters=33", "characters must be from 1 to 32"),
        ("fewest_shingles=0", "fewest_shingles must be at least 1"),
        ("num_permutations=100", "multiple of 16"),
        ("num_permutations=0", "multiple of 16"),
        ("num_permutations=2048", "multiple of 16"),
        ("seed=-1", "seed must be from 0"),
        ("seed=18446744073709551616", "seed must be from 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        DEFAULT.override([setting])


@pytest.mark.parametrize(("threshold", "rows"), [(0.1, 1), (0.3, 2), (0.5, 4), (0.7, 4), (0.8, 8), (1.0, 128)])
def test_bands_leave_a_pair_at_the_threshold_a_good_chance(threshold, rows):
    settings = Deduplication(threshold=threshold)
    assert settings.rows == rows
    assert settings.bands * rows == 128
    chance = {rows: 1 - (1 - threshold**rows) ** (128 // rows) for rows in (1, 2, 4, 8, 16, 32, 64, 128)}
    assert chance[rows] >= 0.85
    assert all(chance[more] < 0.85 for more in chance if more > rows)


# Exact copies.


def test_texts_that_differ_in_case_and_spacing_are_equal(tmp_path):
    texts = [
        "One, two.",
        " one,\n\n\u3000TWO. ",
        "One two.",
        "one, two",
        "中文 English",
        "中文\tENGLISH",
        "中文English",
    ]
    report, dropped = search(tmp_path, texts)
    assert dropped == [False, True, False, False, False, True, False]
    assert (report.exact, report.near) == (2, 0)
    assert report.examples[0].kind == "exact"
    assert report.examples[0].similarity == 1
    assert [(found.original, found.dropped) for found in report.examples] == [((0, 0), (0, 1)), ((0, 4), (0, 5))]


PARTS_OF_TEXTS = st.sampled_from(
    [" ", "  ", "\n", "\u3000", "\x85", "\x00", "a", "A", "ab", "é", "É", "中", "。", "\ud800", "😀"]
)


@given(st.lists(st.lists(PARTS_OF_TEXTS, max_size=4).map("".join), max_size=12))
def test_exact_copies_are_those_that_without_duplicates_finds(tmp_path_factory, texts):
    _, dropped = search(tmp_path_factory.mktemp("folder"), texts)
    kept = [text for text, gone in zip(texts, dropped, strict=True) if not gone]
    assert kept == [
        document.text for document in without_duplicates([Document(text=text, source="") for text in texts])
    ]


def test_a_digest_depends_on_the_text_alone():
    """Whichever texts are handled together, and whether a text counts as long."""
    texts = [*english(20), "", "x", *chinese(5), "last  one"]
    fingerprinter = Fingerprinter(**SHAPE)
    digests, signatures = fingerprinter.of_texts(texts)
    for index, text in enumerate(texts):
        for alone in (fingerprinter.of_texts([text]), fingerprinter.of_long_text(text)):
            assert alone[0].tolist() == digests[index : index + 1].tolist()
            assert alone[1].tolist() == signatures[index : index + 1].tolist()


def test_fingerprints_are_the_same_on_every_machine_and_in_every_version():
    text = "The quick brown fox jumps over the lazy dog near the river bank. 敏捷的棕色狐狸跳过了懒狗，然后回家。" * 2
    digests, signatures = Fingerprinter(**SHAPE).of_texts([text])
    assert [f"{half:016x}" for half in digests[0]] == ["c5b0603e5fd724f7", "040cd21bb63edfd4"]
    assert signatures[0, :4].tolist() == [137751092, 3222060385, 503737269, 3282425168]
    assert (signatures != Fingerprinter(**{**SHAPE, "seed": 2}).of_texts([text])[1]).any()


@pytest.mark.parametrize("gap", [" ", "  \n", ""])
def test_a_long_text_is_fingerprinted_in_pieces_as_if_it_were_whole(tmp_path, gap):
    long = gap.join(chinese(1000, characters=200)) + gap.join(english(20))
    assert len(long) > 3 * PIECE
    spaced = re.sub(r"\s+", "\n \n", long).upper()
    report, dropped = search(tmp_path, [long, spaced, changed(long), long[:-1]])
    assert dropped == [False, True, True, True]
    assert (report.exact, report.near) == (1, 2)


@pytest.mark.parametrize("make", [english, chinese])
def test_no_shingle_is_lost_or_made_between_pieces(monkeypatch, make):
    text = " \n".join(make(30))
    fingerprinter = Fingerprinter(**{**SHAPE, "num_permutations": 1024})
    whole = fingerprinter.of_texts([text])
    monkeypatch.setattr(minhash, "PIECE", 1100)
    pieces = fingerprinter.of_long_text(text)
    assert [part.tolist() for part in pieces] == [part.tolist() for part in whole]


def test_the_smallest_hashes_are_kept_whatever_the_order(monkeypatch):
    monkeypatch.setattr(minhash, "MOST_SHINGLES", 100)
    values = np.random.default_rng(0).integers(0, 2**40, 5000).astype(np.uint64) // 1000 * 1000
    smallest = minhash._Smallest()
    for start in range(0, len(values), 70):
        smallest.add(values[start : start + 70])
        assert smallest.count <= 200
    assert smallest.values().tolist() == sorted(set(values.tolist()))[:100]


def test_the_signature_of_a_long_text_estimates_what_its_pieces_hold():
    long = "\n".join(english(300, words=100))
    assert len(long) > 2 * PIECE
    half = long[: len(long) // 2]
    fingerprinter = Fingerprinter(**SHAPE)
    signatures = [fingerprinter.of_long_text(text)[1][0] for text in (long, half, changed(long))]
    assert (signatures[0] == signatures[1]).mean() == pytest.approx(jaccard(long, half), abs=0.13)
    assert (signatures[0] == signatures[2]).mean() == pytest.approx(jaccard(long, changed(long)), abs=0.13)


def test_a_text_of_more_shingles_than_are_held_is_found_by_the_smallest_of_them(monkeypatch):
    long = "\n".join(english(100, words=100))
    other = "\n".join(english(100, words=100, seed=1))
    whole = Fingerprinter(**SHAPE).of_long_text(long)[1][0]
    monkeypatch.setattr(minhash, "MOST_SHINGLES", 2000)
    fingerprinter = Fingerprinter(**SHAPE)
    signatures = [fingerprinter.of_long_text(text)[1][0] for text in (long, changed(long), other)]
    assert (whole != signatures[0]).any()
    assert (signatures[0] == signatures[1]).mean() == pytest.approx(jaccard(long, changed(long)), abs=0.13)
    assert (signatures[0] == signatures[2]).mean() < 0.1


# Signatures.


@pytest.mark.parametrize("make", [english, chinese])
@pytest.mark.parametrize("share", [5, 10, 20, 100])
def test_signatures_estimate_the_jaccard_similarity_of_shingles(make, share):
    texts = make(60)
    copies = [changed(text, share, seed) for seed, text in enumerate(texts)]
    errors = [estimate(*pair) - jaccard(*pair) for pair in zip(texts, copies, strict=True)]
    assert np.mean(errors) == pytest.approx(0, abs=0.02)
    assert np.std(errors) < 0.05


def test_mixed_texts_are_cut_by_the_same_rule():
    texts = [
        "".join(itertools.chain(*zip(*[iter(c)] * 9, e.split(), strict=False)))
        for c, e in zip(chinese(40), english(40), strict=True)
    ]
    copies = [changed(text, 10, seed) for seed, text in enumerate(texts)]
    errors = [estimate(*pair) - jaccard(*pair) for pair in zip(texts, copies, strict=True)]
    assert 0.3 < np.mean([jaccard(*pair) for pair in zip(texts, copies, strict=True)]) < 0.8
    assert np.mean(errors) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("don't stop - well-known U.S. friends", "Don’t stop; well known (U S) “friends”"),
        ("我们，今天。去 North 大学", "我们今天去NORTH大学！"),
        ("cafe\u0301 naive", "CAFE\u0301 NAIVE"),
        ("1,000.5 snake_case", "1 000 5 snake case"),
    ],
)
def test_punctuation_case_and_spacing_do_not_count_as_words(left, right):
    assert estimate(left, right, words=2, characters=2, fewest=1) == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("one two three", "onetwo three"),
        ("我 们a", "我 们 b"),
        ("ab ba", "ba ab"),
        ("aab b", "aba b"),
        ("café x", "cafe x"),
        ("cafe\u0301 x", "cafe x"),
    ],
)
def test_other_words_and_another_order_count(left, right):
    assert estimate(left, right, words=2, characters=2, fewest=1) < 0.7


def test_shingles_do_not_reach_into_the_next_text():
    texts = ["a b", "c d", "e f g", "h i"]
    _, signatures = Fingerprinter(**{**SHAPE, "fewest": 1}).of_texts(texts)
    assert [(row != minhash.EMPTY).any() for row in signatures] == [False, False, True, False]


@pytest.mark.parametrize(("make", "units"), [(english, 22), (chinese, 22)])
def test_short_texts_have_no_near_copies(tmp_path, make, units):
    """Twenty shingles: 22 words or Chinese characters."""
    size = {"words": units} if make is english else {"characters": units}
    enough = make(1, **size)[0]
    short = enough.rpartition(" ")[0] if make is english else enough[:-1]
    report, dropped = search(tmp_path, [enough, enough + "!", short + "。", short + "?", short + "? "])
    assert dropped == [False, True, False, False, True]
    assert (report.exact, report.near, report.too_short) == (1, 1, 3)


# Near copies.


@pytest.fixture(scope="module")
def documentation():
    texts = (docstring.text for docstring in installed_docstrings(libraries=["stdlib"], megabytes=0.6))
    return [text for text in texts if len(word_list(text)) >= 40][:1500]


def check_planted(folder, originals, ways, *, recall=0.95, false=0.01):
    """Plant a copy of every second text in one of the ways, in turn; check how many are found, and nothing else is."""
    kinds = [(ways[number // 2 % len(ways)], number) for number in range(0, len(originals), 2)]
    copies = [way(originals[number], number) for way, number in kinds]
    _, dropped = search(folder, originals, copies)
    for way in ways:
        found = [dropped[len(originals) + index] for index, (kind, _) in enumerate(kinds) if kind is way]
        assert np.mean(found) >= recall, way
    flagged = [number for number in range(len(originals)) if dropped[number]]
    # Documents do repeat each other; flagged ones that have no earlier text like them are false.
    sets = [shingles(text) for text in originals[: max(flagged, default=-1) + 1]]
    alike = [
        max(len(sets[number] & other) / len(sets[number] | other) for other in sets[:number]) for number in flagged
    ]
    assert sum(similarity < DEFAULT.threshold - 0.05 for similarity in alike) <= false * len(originals)
    assert len(flagged) < 0.1 * len(originals)


WAYS = [
    lambda text, seed: changed(text, 20, seed),
    moved,
    lambda text, seed: moved(changed(text, 20, seed), seed),
    lambda text, _: "\n" + text.upper().replace(" ", "  "),
]


def test_planted_copies_of_documentation_are_found(tmp_path, documentation):
    assert len(documentation) > 500
    check_planted(tmp_path, documentation, WAYS)


def test_planted_copies_of_chinese_are_found(tmp_path):
    texts = chinese(600)
    texts = ["\n\n".join(text[start : start + 60] for start in range(0, 300, 60)) for text in texts]
    check_planted(tmp_path, texts, WAYS, false=0)


def read_texts(path, most):
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(path.open("rb")) as stream:
        for line in itertools.islice(io.TextIOWrapper(stream, "utf-8"), most):
            yield json.loads(line)


@pytest.mark.parametrize("name", ["en/eltec", "zh/lctt_tech_articles"])
def test_planted_copies_of_real_texts_are_found(tmp_path, data_dir, name):
    rows = read_texts(data_dir / "text" / f"{name}.jsonl.zst", 1500)
    pieces = (row["text"][start : start + 3000] for row in rows for start in range(0, 60_000, 3000))
    check_planted(tmp_path, list(itertools.islice((piece for piece in pieces if len(piece) > 500), 1200)), WAYS)


def test_books_of_two_collections_are_found(tmp_path, data_dir):
    names = ("100_novels", "classic_books", "eltec")
    books = [
        Document(text=row["text"], source=row["title"])
        for name in names
        for row in read_texts(data_dir / "text" / "en" / f"{name}.jsonl.zst", None)
    ]
    documents = cut_long(books)
    sources = [document.source.partition("#")[0] for document in documents]
    report, dropped = search(tmp_path, [document.text for document in documents], sources=sources)
    found = {
        (sources[example.original.document], sources[example.dropped.document]): example.similarity
        for example in report.examples
    }
    assert set(found) == {
        ("Woolf_Night_1919", "ENG19192_Woolf"),
        ("Braddon_Audley_1862", "ENG18621_Braddon"),
        ("Lawrence_Women_1920", "ENG19200_Lawrence"),
        ("Chesterton_Thursday_1908", "ENG19080_Chesterton"),
    }
    assert report.across_sources == sum(dropped)


def test_every_dropped_text_has_a_near_copy_that_is_kept(tmp_path):
    """A chain of small changes joins texts with nothing in common: every few links one stays."""
    chain = english(1, words=200)
    for seed in range(40):
        chain.append(changed(chain[-1], 20, seed))
    report, dropped = search(tmp_path, chain)
    kept = [text for text, gone in zip(chain, dropped, strict=True) if not gone]
    assert 4 <= len(kept) <= 20
    assert jaccard(chain[0], chain[-1]) < 0.1
    for text, gone in zip(chain, dropped, strict=True):
        assert not gone or max(jaccard(text, other) for other in kept) > DEFAULT.threshold - 0.1
    assert report.near == report.dropped
    assert all(not dropped[example.original.document] for example in report.examples)
    assert all(example.original < example.dropped for example in report.examples)


def test_the_threshold_decides(tmp_path):
    text = english(1, words=300)[0]
    copies = [changed(text, share, share) for share in (4, 8, 16, 32, 64, 128)]
    similarities = [jaccard(text, copy) for copy in copies]
    for threshold in (0.4, 0.6, 0.8):
        for copy, similarity in zip(copies, similarities, strict=True):
            if abs(similarity - threshold) > 0.12:
                _, dropped = search(tmp_path, [text, copy], settings=Deduplication(threshold=threshold))
                assert dropped == [False, similarity > threshold]


def test_similarity_is_reported(tmp_path):
    text = english(1)[0]
    report, _ = search(tmp_path, [], ["other", text], [changed(text)])
    (example,) = report.examples
    assert (example.kind, example.original, example.dropped) == ("near", DocumentIndex(1, 1), DocumentIndex(2, 0))
    assert example.similarity == pytest.approx(jaccard(text, changed(text)), abs=0.15)
    assert example.similarity == estimate(text, changed(text))
    for threshold, near in ((example.similarity, 1), (example.similarity + 1 / 128, 0)):
        settings = Deduplication(threshold=threshold)
        assert search(tmp_path, [text], [changed(text)], settings=settings)[0].near == near
    assert report.candidate_pairs == 1


def test_either_kind_can_be_left_out(tmp_path):
    text = english(1)[0]
    texts = [text, text.upper(), changed(text), "short", "SHORT"]
    neither, dropped = search(tmp_path, texts, settings=Deduplication(exact=False, near=False))
    assert not any(dropped)
    assert neither.examples == ()
    exact, dropped = search(tmp_path, texts, settings=Deduplication(near=False))
    assert dropped == [False, True, False, False, True]
    assert (exact.exact, exact.near, exact.too_short, exact.candidate_pairs) == (2, 0, 0, 0)
    assert not (tmp_path / "signatures-00000.bin").stat().st_size
    near, dropped = search(tmp_path, texts, settings=Deduplication(exact=False))
    assert dropped == [False, True, True, False, False]
    assert (near.exact, near.near, near.too_short) == (0, 2, 2)


# The corpus as a whole.


@pytest.fixture(scope="module")
def corpus():
    """Texts with all kinds of copies, near and far from each other, and near copies of copies."""
    texts = english(40) + chinese(20) + ["", "short", "Short"]
    generator = random.Random(5)
    for seed in range(120):
        text = generator.choice(texts)
        texts.append(generator.choice([text, text.upper(), changed(text, 15, seed), changed(text, 8, seed)]))
    generator.shuffle(texts)
    return texts


def flat(report, size):
    """Return a report with documents numbered through the corpus, for parts of this size."""
    numbers = [
        (
            found.kind,
            found.original.part * size + found.original.document,
            found.dropped.part * size + found.dropped.document,
        )
        for found in report.examples
    ]
    return {**vars(report), "examples": (numbers, [found.similarity for found in report.examples])}


@pytest.mark.parametrize("size", [1, 3, 10, MOST_TEXTS])
def test_the_division_into_parts_makes_no_difference(tmp_path, corpus, size):
    sources = [f"source {number % 3}" for number in range(len(corpus))]
    report, dropped = search(tmp_path / "whole", corpus, sources=sources)
    parts = [corpus[start : start + size] for start in range(0, len(corpus), size)]
    again, same = search(tmp_path / "parts", *parts, sources=sources)
    assert same == dropped
    assert flat(again, size) == flat(report, len(corpus))
    assert report.exact > 10
    assert report.near > 10
    assert min(report.within_source, report.across_sources) > 10
    assert [example.kind for example in report.examples] == ["exact"] * 10 + ["near"] * 10
    for kind in ("exact", "near"):
        shown = [example.dropped for example in report.examples if example.kind == kind]
        assert shown == sorted(shown)


@pytest.mark.parametrize("partition_bytes", [500, 5000, 1 << 16])
def test_memory_makes_no_difference(tmp_path, corpus, partition_bytes):
    crowd = [corpus[0]] * 50
    for settings in (DEFAULT, Deduplication(exact=False), Deduplication(threshold=0.3)):
        usual = search(tmp_path, corpus + crowd, crowd, settings=settings)
        assert search(tmp_path, corpus + crowd, crowd, settings=settings, partition_bytes=partition_bytes) == usual
    assert not [path.name for path in tmp_path.iterdir() if path.name[:4] not in ("docu", "sign", "drop")]


def test_many_copies_are_compared_with_the_first_ones_only(tmp_path):
    settings = Deduplication(exact=False)
    report, dropped = search(tmp_path, english(1) * 100, settings=settings)
    assert dropped == [False] + [True] * 99
    assert report.crowded == (100 - 9) * settings.bands
    assert report.candidate_pairs == sum(min(before, 8) for before in range(100))
    assert search(tmp_path, english(1) * 9, settings=settings)[0].crowded == 0


@pytest.mark.parametrize("text", ["", "short", english(1)[0], chinese(1)[0]])
def test_a_corpus_of_copies_alone_becomes_one_document(tmp_path, text):
    report, dropped = search(tmp_path, [text] * 300, [], [text.upper()] * 100)
    assert dropped == [False] + [True] * 399
    assert (report.exact, report.near) == (399, 0)
    assert len(report.examples) == 20
    assert {example.original for example in report.examples} == {(0, 0)}


def test_half_copies(tmp_path):
    texts = english(500)
    _, dropped = search(tmp_path, texts, [text.replace(" ", "\n") for text in texts])
    assert dropped == [False] * 500 + [True] * 500


@pytest.mark.parametrize("parts", [(), ([],), ([], [])])
def test_nothing(tmp_path, parts):
    report, dropped = search(tmp_path, *parts)
    assert dropped == []
    assert report.dropped == report.documents == 0


@pytest.mark.parametrize(
    "text", ["", " \n", "\x00", "word", "\ud800", "中", english(1)[0], "x" * 3 * PIECE, " " * 2 * PIECE]
)
def test_one_document_is_kept(tmp_path, text):
    assert search(tmp_path, [text])[1] == [False]


def test_sources(tmp_path):
    texts = english(3)
    report, _ = search(
        tmp_path,
        [texts[0], texts[0], texts[1]],
        [texts[0], changed(texts[1]), changed(texts[1], 30, seed=1)],
        sources=["a", "a", "b", "b", "b", "a"],
    )
    assert (report.exact, report.near) == (2, 2)
    assert (report.within_source, report.across_sources) == (2, 2)


# Files.


def test_a_block_that_fails_leaves_no_files(tmp_path):
    def fail():
        with Fingerprints(tmp_path, 0, DEFAULT) as fingerprints:
            fingerprints.add("text")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())
    with pytest.raises(DamagedFileError, match=r"documents-00000\.bin.*has not been fingerprinted"):
        find_duplicates(tmp_path, [1], DEFAULT)


def test_files_that_do_not_fit_are_refused(tmp_path):
    search(tmp_path, english(3))
    with pytest.raises(DamagedFileError, match="does not hold 4 rows of 24 bytes"):
        find_duplicates(tmp_path, [4], DEFAULT)
    with pytest.raises(DamagedFileError, match="does not hold 3 rows of 1024 bytes"):
        find_duplicates(tmp_path, [3], Deduplication(num_permutations=256))
    path = tmp_path / "signatures-00000.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"signatures-00000\.bin.*does not hold 3 rows of 512 bytes"):
        find_duplicates(tmp_path, [3], DEFAULT)


def test_too_many_documents_are_refused(tmp_path):
    with pytest.raises(UserError, match="2,147,483,649 documents are too many"):
        find_duplicates(tmp_path, [1 << 30, (1 << 30) + 1], DEFAULT)


def fingerprint(folder, part, texts):
    with Fingerprints(folder, part, DEFAULT) as fingerprints:
        for text in texts:
            fingerprints.add(text)


def test_forked_workers_can_fingerprint_as_their_parent_did(tmp_path):
    """The library of signatures must not need threads, which a fork leaves behind."""
    texts = english(500, words=40)
    fingerprint(tmp_path, 0, texts)
    worker = multiprocessing.get_context("fork").Process(target=fingerprint, args=(tmp_path, 1, texts))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    for name in ("documents", "signatures"):
        assert (tmp_path / f"{name}-00000.bin").read_bytes() == (tmp_path / f"{name}-00001.bin").read_bytes()


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=250).stdout


def test_importing_is_light():
    loaded = run("import sys, bothways.text.copies.deduplication; print(*sys.modules)").split()
    assert not {"torch", "rensa", "pyarrow", "sklearn", "datasets"} & set(loaded)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_small_for_many_documents():
    """Half a million documents have 256 MB of signatures, and as much again of bands."""
    code = """
import tempfile
import numpy as np
from pathlib import Path
from bothways.text.copies.deduplication import Deduplication, find_duplicates
settings, parts, size = Deduplication(), 10, 50_000
draw = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as folder:
    for part in range(parts):
        signatures = draw.integers(0, 2**32, (size, 128), dtype=np.uint32)
        signatures[::2, :100] = signatures[0, :100]  # a crowd: half of all are near copies of the first
        signatures.tofile(Path(folder, f"signatures-{part:05}.bin"))
        draw.integers(0, 2**63, (size, 3)).tofile(Path(folder, f"documents-{part:05}.bin"))
    report = find_duplicates(Path(folder), [size] * parts, settings)
    status = Path("/proc/self/status").read_text()  # what getrusage says includes the process that started this one
    print(report.near, report.documents, int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""
    near, documents, megabytes = map(int, run(code).split())
    assert documents == 500_000
    assert near == 250_000 - 10
    assert megabytes < 300


def test_folder_may_be_anywhere(tmp_path):
    folder = Path(tmp_path) / "a b" / "中文"
    folder.mkdir(parents=True)
    assert search(folder, ["x", "x"])[1] == [False, True]
