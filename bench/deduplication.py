"""How well and how fast copies are found among real texts: recall of planted copies, false flags, MB/s and memory.

Documents are cut from books and articles: whole paragraphs, 300 to 8,000 characters and more, as many short as long
ones. Of every second one a copy is planted: one word in twenty changed to a random other one (in Chinese: one character
in twenty), its paragraphs moved, both, or its case and spacing changed. No original is planted twice, so one that is
flagged is a false flag, unless the sources repeat themselves: where its true Jaccard similarity to an earlier one,
computed from the sets of shingles, reaches the threshold, it is none.

Usage: ``deduplication.py --data-dir DIR [--megabytes 10] [--documents 500000] [--set NAME=VALUE]``.
"""

import argparse
import io
import json
import random
import re
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

from bothways.language import word_list
from bothways.text.copies.deduplication import Deduplication, Fingerprints, find_duplicates

SHORTEST, LONGEST = 300, 8_000  # characters of a document
SHOWN = 5


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield source and text of the documents of all files of a folder, taken in turn."""
    open_files = []
    for path in sorted(folder.glob("*.jsonl.zst")):
        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
        open_files.append((path.name.partition(".")[0], io.TextIOWrapper(stream, "utf-8")))
    while open_files:
        for name, lines in list(open_files):
            if line := next(lines, None):
                row = json.loads(line)
                yield f"{name}/{row['title']}", row["text"]
            else:
                open_files.remove((name, lines))


def documents(folder: Path, megabytes: float) -> Iterator[tuple[str, str]]:
    """Yield source and text of documents of some paragraphs each."""
    generator = random.Random(0)
    left = megabytes * 1e6
    for source, text in texts(folder):
        paragraphs, size = [], SHORTEST * (LONGEST / SHORTEST) ** generator.random()
        for paragraph in re.split(r"\n\s*\n|\n(?=[\u3400-\u9fff\u3000])", text[:400_000]):
            paragraphs.append(paragraph)
            if sum(map(len, paragraphs)) >= size:
                document = "\n\n".join(paragraphs)[: 2 * LONGEST]
                left -= len(document.encode())
                if left < 0:
                    return
                yield source, document
                paragraphs, size = [], SHORTEST * (LONGEST / SHORTEST) ** generator.random()


def changed(text: str, vocabulary: list[str], generator: random.Random) -> str:
    """Return the text with one word in twenty replaced (one ideograph in twenty), at random places."""
    units = re.split(r"(\w+)" if vocabulary[0].isascii() else r"([\u3400-\u9fff]|[A-Za-z0-9]+)", text)
    places = list(range(1, len(units), 2))
    for place in generator.sample(places, round(len(places) / 20)):
        units[place] = generator.choice(vocabulary)
    return "".join(units)


def moved(text: str, generator: random.Random) -> str:
    """Return the text with its paragraphs in another order."""
    paragraphs = text.split("\n\n")
    generator.shuffle(paragraphs)
    return "\n\n".join(paragraphs)


def shingles(text: str, settings: Deduplication) -> set[tuple[str, ...]]:
    """Return the set that a signature stands for, found in the plain way."""
    words = word_list(text)
    lengths = [settings.characters if "\u3400" <= word[0] <= "\u9fff" else settings.words for word in words]
    return {tuple(words[i : i + n]) for i, n in enumerate(lengths) if i + n <= len(words)}


def jaccard(left: str, right: str, settings: Deduplication) -> float:
    first, second = shingles(left, settings), shingles(right, settings)
    return len(first & second) / len(first | second)


def measure(folder: Path, megabytes: float, settings: Deduplication) -> None:
    generator = random.Random(1)
    originals = list(documents(folder, megabytes))
    chinese = folder.name == "zh"
    sample = "".join(text for _, text in originals[:300])
    vocabulary = re.findall(r"[\u3400-\u9fff]" if chinese else r"[a-z]+", sample)
    ways = {
        "one in twenty changed": lambda text: changed(text, vocabulary, generator),
        "paragraphs moved": lambda text: moved(text, generator),
        "changed and moved": lambda text: moved(changed(text, vocabulary, generator), generator),
        "case and spacing": lambda text: "  " + text.upper().replace(" ", "\n"),
    }
    planted = [(way, number) for number in range(0, len(originals), 2) for way in [list(ways)[number // 2 % len(ways)]]]
    copies = [ways[way](originals[number][1]) for way, number in planted]
    everything = [text for _, text in originals] + copies
    size = sum(len(text.encode()) for text in everything)
    with tempfile.TemporaryDirectory() as name:
        fingerprint(Path(name), ["the tables that every process builds once"], settings)
        start = time.process_time()
        fingerprint(Path(name), everything, settings)
        middle = time.process_time()
        report = find_duplicates(Path(name), [len(everything)], settings)
        stop = time.process_time()
        dropped = np.load(Path(name) / "dropped-00000.npy")
    print(f"{folder.name}: {len(originals):,} documents, {len(copies):,} copies, {size / 1e6:.0f} MB; {settings}")
    for way in ways:
        found = [dropped[len(originals) + index] for index, (kind, _) in enumerate(planted) if kind == way]
        print(f"  recall, {way:22} {100 * sum(found) / len(found):6.2f} % of {len(found):,}")
    flagged = np.flatnonzero(dropped[: len(originals)])
    true = closest(flagged.tolist(), [text for _, text in originals], settings)
    false = [number for number, (similarity, _) in true.items() if similarity < settings.threshold]
    print(f"  originals flagged      {len(flagged)}, falsely {len(false)} ({100 * len(false) / len(originals):.2f} %)")
    for number in flagged[:SHOWN]:
        similarity, other = true[int(number)]
        print(f"    {similarity:.2f} {originals[number][0]} | {originals[other][0]}")
    print(f"  fingerprints {size / 1e6 / (middle - start):.0f} MB/s a core, search {stop - middle:.2f} s CPU")
    print(f"  {report.candidate_pairs:,} candidate pairs; peak memory {peak()} MB")


def fingerprint(folder: Path, everything: list[str], settings: Deduplication) -> None:
    with Fingerprints(folder, 0, settings) as fingerprints:
        for text in everything:
            fingerprints.add(text)


def search(count: int, settings: Deduplication) -> None:
    """Time the search among unrelated signatures."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        with (Path(name) / "signatures-00000.bin").open("wb") as signatures:
            for _ in range(0, count, 10_000):
                draw.integers(0, 2**32, (10_000, settings.num_permutations), dtype=np.uint32).tofile(signatures)
        draw.integers(0, 2**63, (count, 3)).tofile(Path(name) / "documents-00000.bin")
        start = time.process_time()
        find_duplicates(Path(name), [count], settings)
        print(f"search among {count:,} documents: {time.process_time() - start:.1f} s CPU; peak memory {peak()} MB")


def closest(numbers: list[int], originals: list[str], settings: Deduplication) -> dict[int, tuple[float, int]]:
    """Return for each document the true similarity to the most similar earlier one, and which that is."""
    where: dict[tuple[str, ...], list[int]] = {}
    wanted = set().union(*(shingles(originals[number], settings) for number in numbers))
    sizes = []
    for index, text in enumerate(originals):
        found = shingles(text, settings)
        sizes.append(len(found))
        for shingle in found & wanted:
            where.setdefault(shingle, []).append(index)
    answer = {}
    for number in numbers:
        shared: dict[int, int] = {}
        for shingle in shingles(originals[number], settings):
            for other in where[shingle]:
                if other < number:
                    shared[other] = shared.get(other, 0) + 1
        answer[number] = max((n / (sizes[number] + sizes[other] - n), other) for other, n in shared.items())
    return answer


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--documents", type=int, default=500_000, help="signatures to search, in tens of thousands")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    chosen = Deduplication().override(arguments.settings)
    search(arguments.documents, chosen)
    for language in ("en", "zh"):
        measure(arguments.data_dir / "text" / language, arguments.megabytes, chosen)
