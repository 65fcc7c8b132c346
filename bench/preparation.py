"""How fast text becomes token shards, beside the usual pipeline of ``datasets`` and ``tokenizers``, and in what memory.

The usual pipeline is that of the published run_clm script: ``datasets.map`` over a fast tokenizer, then over a function that
joins the ids and cuts them into blocks, each with two processes. Ours reads, cleans, drops exact and near copies, finds
sentences, splits and stores, with two workers. Both read the same .jsonl and use the same tokenizer.json, and the ids are
compared. Whole processes are timed, in pairs, one after the other, and the ratio of the medians is what counts. Memory is
the most that a process and its children hold together (proportional set size, so that shared pages count once).

Usage: ``preparation.py --data-dir DIR [--english 100] [--chinese 50] [--rounds 3]`` (megabytes); for the usual pipeline,
``pip install datasets transformers``.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import zstandard

VOCABULARY = 8192
BLOCK = 512

USUAL = """
import sys
from itertools import chain
from datasets import load_dataset
from transformers import PreTrainedTokenizerFast

tokenizer_file, out, *files = sys.argv[1:]
tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file)
data = load_dataset("json", data_files=files, split="train", cache_dir=out)
data = data.map(
    lambda rows: tokenizer(rows["text"], add_special_tokens=False), batched=True, num_proc=2,
    remove_columns=data.column_names,
)

def group(rows):
    joined = {name: list(chain(*rows[name])) for name in rows}
    total = len(joined["input_ids"]) // BLOCK * BLOCK
    return {name: [ids[at : at + BLOCK] for at in range(0, total, BLOCK)] for name, ids in joined.items()}

data.map(group, batched=True, num_proc=2).save_to_disk(out + "/saved")
""".replace("BLOCK", str(BLOCK))


def texts(folder: Path, megabytes: float) -> Iterator[str]:
    """Yield the lines of the .jsonl.zst files of a folder, in turn, until there is enough text."""
    left = megabytes * 1e6
    for path in sorted(folder.glob("*.jsonl.zst")):
        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
        for line in io.TextIOWrapper(stream, "utf-8"):
            text = json.loads(line)["text"]
            yield json.dumps({"text": text}, ensure_ascii=False) + "\n"
            left -= len(text.encode())
            if left <= 0:
                return


def measured(command: Sequence[str | Path]) -> tuple[float, float]:
    """Run a command and return its seconds, and the most megabytes that it and its children held."""
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, most))
    watcher.start()
    _, said = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(said.decode()[-3000:])
    return time.perf_counter() - start, most[0]


def _watch(process: "subprocess.Popen[bytes]", most: list[float]) -> None:
    while process.poll() is None:
        most[0] = max(most[0], sum(_megabytes(number) for number in _family(process.pid)))
        time.sleep(0.2)


def _family(number: int) -> Iterator[int]:
    yield number
    try:
        for task in os.listdir(f"/proc/{number}/task"):
            for child in Path(f"/proc/{number}/task/{task}/children").read_text().split():
                yield from _family(int(child))
    except OSError:
        return


def _megabytes(number: int) -> float:
    try:
        for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1e3
    except OSError:
        pass
    return 0.0


def same_ids(data: Path, file: Path) -> bool:
    """Whether the ids stored are those that ``tokenizers`` gives to the same documents."""
    from tokenizers import Tokenizer

    from bothways.text.cleaning.cleaning import Cleaner, Cleaning
    from bothways.text.cutting import cut
    from bothways.text.shards import Shards

    tokenizer, cleaner = Tokenizer.from_file(str(data / "tokenizer.json")), Cleaner(Cleaning())
    shards = Shards(data)
    stored = {
        corpus.document(index).tobytes()
        for corpus in (shards.corpus(split) for split in shards.manifest["splits"])
        for index in range(len(corpus))
    }
    found = []
    for line in file.read_text("utf-8").splitlines()[:40]:
        cleaned = cleaner.clean(json.loads(line)["text"])
        for piece in cut(cleaned or ""):
            ids = tokenizer.encode(piece, add_special_tokens=False).ids
            found.append(np.array(ids, dtype=np.int64).tobytes() in stored)
    return sum(found) > 0.9 * len(found)  # a copy that was dropped is not there


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="holds text/en/*.jsonl.zst and text/zh/*.jsonl.zst")
    parser.add_argument("--english", type=float, default=100)
    parser.add_argument("--chinese", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.data_dir is None:
        print("skipped: needs --data-dir")
        return
    program = Path(sys.executable).with_name("bothways")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for language, megabytes in (("en", options.english), ("zh", options.chinese)):
            lines = texts(options.data_dir / "text" / language, megabytes)
            (folder / f"{language}.jsonl").write_text("".join(lines), encoding="utf-8")
        files = [folder / "en.jsonl", folder / "zh.jsonl"]
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"{size:.0f} MB of jsonl, {options.rounds} rounds, {os.cpu_count()} cores")
        for kind in ("bpe", "wordpiece"):
            trained = folder / kind
            sized = ("--vocab-size", VOCABULARY, "--tokenizer", kind)
            seconds, memory = measured([program, "prepare", *files, "--out", trained, *sized])
            print(f"{kind}: with training of the tokenizer {seconds:.1f} s, {memory:.0f} MB")
            compare(program, files, trained / "tokenizer.json", folder, size, options.rounds)
            for file in files:
                assert same_ids(trained, file), "the ids are not those of tokenizer.json"


def compare(program: Path, files: Sequence[Path], tokenizer: Path, folder: Path, size: float, rounds: int) -> None:
    """Time the three ways in turn."""
    plain = ("--set", "deduplication.near=false")
    ways: dict[str, Sequence[str | Path]] = {
        "bothways": [program, "prepare", *files, "--tokenizer", tokenizer, "--workers", "2"],
        "bothways without near copies": [
            program,
            "prepare",
            *files,
            "--tokenizer",
            tokenizer,
            "--workers",
            "2",
            *plain,
        ],
        "datasets + tokenizers": [sys.executable, "-c", USUAL, tokenizer],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    memories: dict[str, float] = dict.fromkeys(ways, 0)
    for number in range(rounds):
        for name, command in ways.items():
            out = folder / f"out-{tokenizer.parent.name}-{number}-{name.replace(' ', '-')}"
            command = [*command, "--out", out] if name.startswith("bothways") else [*command, out, *files]
            seconds, memory = measured(command)
            times[name].append(seconds)
            memories[name] = max(memories[name], memory)
    slowest = statistics.median(times["datasets + tokenizers"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(
            f"  {name:30} {middle:6.1f} s ({min(seconds):.1f} to {max(seconds):.1f})  {size / middle:5.2f} MB/s"
            f"  {slowest / middle:5.2f} times  {memories[name]:6.0f} MB"
        )


if __name__ == "__main__":
    main()
