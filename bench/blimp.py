"""Models side by side on BLiMP (English) or ZhoBLiMP (Chinese): phenomena in rows, models and directions in columns.

The folder of data holds ``eval/blimp/blimp.tar.zst`` and ``eval/zhoblimp/zhoblimp.tar.zst``, as published, packed by
``tar`` and ``zstd``. A hybrid is measured both ways and set against the models that read in one.
"""

import argparse
import json
import sys
from pathlib import Path

from bothways import progress
from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.evaluation.linguistic import measure_pairs, ratios, read_pairs, table
from bothways.tasks.minimal_pairs import MinimalPairs
from bothways.training.machine import default_device, describe_machine

ARCHIVES = {"en": "eval/blimp/blimp.tar.zst", "zh": "eval/zhoblimp/zhoblimp.tar.zst"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--model", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--language", choices=ARCHIVES, default="en")
    parser.add_argument("--limit", type=int, help="only so many pairs of each paradigm, the first ones")
    parser.add_argument("--masking", choices=("word", "token"), default="word")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--end", action="store_true", help="causal scores include the end token")
    parser.add_argument("--out", type=Path, help="write everything, paradigms too, to this JSON file")
    options = parser.parse_args()

    try:
        examples = read_pairs(options.data_dir / ARCHIVES[options.language], limit=options.limit)
    except UserError as error:
        sys.exit(f"Error: {error}")
    measured = []
    for name in options.model:
        loaded = load(name)
        loaded.model.to(default_device())
        task = MinimalPairs(masking=options.masking, precision=options.precision, end=options.end)
        with progress.display():
            measured += measure_pairs(name, loaded, examples, task=task)
    print(table(measured))
    print("\n".join(ratios(measured)))
    if options.out:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        found = [each.to_dict() for each in measured]
        values = {"settings": settings, "machine": describe_machine(), "measured": found, "ratios": ratios(measured)}
        options.out.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
