"""How long a process takes from its start to a loaded model, and how much memory, beside ``transformers`` doing the same.

Each program is a process of its own, the two by turns, so that what else the machine does hits both alike. Memory is the peak
of the process (VmHWM, Linux) less that after the imports, in multiples of the weights' size.

    python bench/loading.py --model FOLDER        # a BERT with weights in model.safetensors
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
PROGRAMS = {
    "bothways": PEAK
    + """
import json, sys
import bothways
found = bothways.AutoModelForSequenceClassification
before = peak()
model = found.from_pretrained(sys.argv[1], num_labels=2)
print(json.dumps({"before": before, "after": peak()}))
""",
    "transformers": PEAK
    + """
import json, sys
from transformers import AutoModelForSequenceClassification
before = peak()
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=2)
print(json.dumps({"before": before, "after": peak()}))
""",
}


def run(program: str, model: Path) -> tuple[float, int, int]:
    """Return the seconds of a whole process, and its peak memory after imports and at the end, in bytes."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[program], str(model)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    seconds = time.perf_counter() - start
    said = json.loads(done.stdout.splitlines()[-1])
    return seconds, said["before"], said["after"]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with config.json and model.safetensors")
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    weights = sum(file.stat().st_size for file in options.model.glob("*.safetensors"))
    if not weights:
        parser.error(f"there are no .safetensors files in {options.model}")
    found: dict[str, list[tuple[float, int, int]]] = {program: [] for program in PROGRAMS}
    for repeat in range(options.repeats + 1):
        for program in PROGRAMS:
            measured = run(program, options.model)
            if repeat:  # the first one fills the disk's cache
                found[program].append(measured)
    print(f"{options.model.resolve().name}: {weights / 1e6:.1f} MB of weights, {options.repeats} runs each, medians")
    print("| program | seconds | of them, fastest | memory after imports, MB | for loading, MB | times the weights |")
    print("|---|---|---|---|---|---|")
    for program, runs in found.items():
        seconds, before, after = ([run[at] for run in runs] for at in range(3))
        grown = statistics.median(end - start for start, end in zip(before, after, strict=True))
        print(
            f"| {program} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {statistics.median(before) / 1e6:.0f} "
            f"| {grown / 1e6:.0f} | {grown / weights:.2f} |"
        )
    pairs = zip(found["bothways"], found["transformers"], strict=True)
    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
    print(f"\nbothways takes {ratio:.2f} times as long, the median of pairs.")


if __name__ == "__main__":
    main()
