"""The command line of bench/ablations.py."""

import re
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parents[2] / "bench" / "ablations.py"


def test_every_option_says_what_it_is_for() -> None:
    shown = subprocess.run([sys.executable, str(FILE), "--help"], capture_output=True, text=True, check=True).stdout
    options = re.split(r"^  (?=-)", shown.partition("options:\n")[2], flags=re.MULTILINE)[1:]
    texts = {option.split()[0]: re.split(r"\n {10,}|  +", option.strip(), maxsplit=1)[1:] for option in options}
    assert set(texts) == {"-h,", "--data", "--minutes", "--seeds", "--size", "--only", "--out"}
    assert [name for name, text in texts.items() if not text] == []
