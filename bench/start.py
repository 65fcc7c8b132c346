"""How long a person waits before bothways does anything: importing it, and asking a command for its help.

Each line is the median of several fresh processes, in milliseconds, beside an empty Python process.
"""

import statistics
import subprocess
import sys
import time

REPEATS = 7
COMMANDS = {
    "python alone": [sys.executable, "-c", ""],
    "import bothways": [sys.executable, "-c", "import bothways"],
    "bothways --help": [sys.executable, "-c", "from bothways.cli import main; main()", "--help"],
}


def seconds(command: list[str]) -> float:
    """Return how long one run of a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    for name, command in COMMANDS.items():
        median = statistics.median(seconds(command) for _ in range(REPEATS))
        print(f"{name:16} {1000 * median:6.0f} ms")
