"""How much sooner bothways is as good as its peers are at the end of a time budget, on one machine, with the same text.

Every peer trains for ``--minutes``. Then bothways trains at shorter budgets, each run whole, with a schedule that ends at
zero; the shortest run that ends no worse than the peer did is what counts, and the ratio of the two times is the result.
All arms have the same text, the same held-out documents, equal tokenizers (byte-level BPE for GPTs, WordPiece for BERTs),
and numbers of parameters within 5 %; how wide and deep a model is for its parameters is part of its recipe. Each is trained
in a fresh process, one after the other, with as many threads as there are cores, and measured by the same evaluator in
float32 (``heldout.py`` has the windows).

**Time.** "Training" is the time from the first step to the end of the last one: warm-up and compilation are in it, an arm's
own evaluations and saving are not. "Whole process" is all of a process: imports, for ours also the trial that plans the
steps, its ten evaluations, checkpoints and charts; of a peer its trial is left out, since its users give a number of steps.
Reading and tokenizing text is in neither.

**What the peers are told.** A short trial measures a peer's step, the number of steps that fit the budget follows, and its
schedule is made for that number, though its users have to find that out by themselves; the time that it really takes counts.

- nanoGPT: its train.py as it is, with what its README gives for a computer without a GPU: ``config/train_shakespeare_char.py
  --device=cpu --compile=False --dropout=0.0 --batch_size=12 --log_interval=1``, with the configuration's context of 256 (the
  README's 64 would be less than that of the other arms), learning rate 1e-3, ``min_lr`` a tenth of it, ``max_iters`` and
  ``lr_decay_iters`` as fit the budget, its 100 iterations of warm-up or a tenth of all, and two evaluations on one batch.
  On a CPU it computes in float32 whatever ``dtype`` says. Learning rates: 6e-4 (the default of train.py), 1e-3, 3e-3.
- Trainer with ``GPT2LMHeadModel``, as run_clm: blocks of 256 tokens, 8 of them a step, AdamW at 5e-5, linear schedule,
  float32, dropout 0.1; the same with ``bf16=True``; and at its best: bf16, no dropout, 5 % warm-up, learning rate 3e-4, 1e-3
  or 3e-3.
- Trainer with ``BertForMaskedLM``, as run_mlm with ``--max_seq_length 128``: ``trainer-lines`` is ``--line_by_line`` on
  sentences, 8 a step, padded to the longest of them; ``trainer-blocks`` joins the text, its default. Each at its defaults
  (5e-5, float32, dropout 0.1) and at its best as above; for lines, which learn best at lower rates, 1e-4, 3e-4 or 1e-3.

Best learning rates are chosen by the held-out loss at ``--sweep-minutes``; the best one is then trained for all of the time.
Peers have the memory allocator that their users have; with ``--allocator`` each best arm is run again with ours.
More ``--seeds`` repeat the arms at their defaults and at their best with other seeds (nanoGPT, which fixes its own: with the
documents in another order), and medians and ranges are told.

What is done is kept in ``--work`` and not done again, so that the bench can be stopped at any time, and run in pieces with
``--peers``. Results go to ``--out`` as JSON.

Usage: ``time_to_quality.py --data-dir DIR [--nanogpt CHECKOUT] [--size mini] [--minutes 10]``; for Trainer,
``pip install transformers accelerate``. ``--check`` only proves the evaluator. It takes nearly three hours a size.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import describe_machine, measured_peak
from time_to_quality import arms as made
from time_to_quality import check, corpus, heldout
from time_to_quality.comparison import compare, ladder, main_figure, ratio_table, shortest, soonest, speed_table
from time_to_quality.machine import others
from time_to_quality.operations import operations, our_experiment, shape_of
from time_to_quality.results import NotYetError, Results
from time_to_quality.runners import Bench, TooShortError

Result = dict[str, Any]
PARAMETERS_APART = 0.05


def parse() -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="holds text/en/*.jsonl.zst")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--work", type=Path, default=Path("time-to-quality"), help="folder of all that is kept")
    parser.add_argument("--out", type=Path, help="file for the results; WORK/results-SIZE-MINUTES.json if not given")
    parser.add_argument("--size", default="mini", help="of our recipes: tiny, mini, small")
    parser.add_argument("--families", default="gpt,bert")
    parser.add_argument("--peers", default="", help="run only these now, such as nanogpt,bothways; all if not given")
    parser.add_argument("--minutes", type=float, default=10, help="of each peer")
    parser.add_argument("--sweep-minutes", type=float, default=3, help="of each learning rate of a sweep")
    parser.add_argument("--ours-minutes", help="our budgets, such as 0.5,0.75,1; from minutes/50 up if not given")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--allocator", action="store_true", help="the best arms once more with our allocator settings")
    parser.add_argument("--heldout-tokens", type=int, default=100_000)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], help="a setting of ours, NAME=VALUE; may be repeated")
    parser.add_argument("--again", action="store_true", help="forget our own runs, as after a change of bothways")
    parser.add_argument("--check", action="store_true", help="only prove that the evaluator is right")
    return parser.parse_args()


def make_bench(options: argparse.Namespace, families: list[str]) -> tuple[Bench, dict[str, Any]]:
    """Prepare the text and what is measured on; return what arms share, and what results depend on."""
    program, work = Path(sys.executable).with_name("bothways"), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    shapes, ids, fingerprints = {}, {}, {}
    for family in families:
        data = work / corpus.KINDS[family]
        source, kind = options.data_dir / "text" / "en", corpus.KINDS[family]
        corpus.prepare(program, source, data, kind=kind, vocab_size=options.vocab_size)
        lay_out, write = (
            (corpus.lay_out_gpt, heldout.write_gpt) if family == "gpt" else (corpus.lay_out_bert, heldout.write_bert)
        )
        lay_out(data, work / "peers")
        write(data, work / "heldout", tokens=options.heldout_tokens)
        tokenizer = Tokenizer.load(data)
        ids |= tokenizer.special_ids
        shapes[family] = shape_of(options.size, len(tokenizer))
        fingerprints[family] = json.loads((data / "manifest.json").read_text())["fingerprint"]
    bench = Bench(
        work=work,
        program=program,
        checkout=options.nanogpt.resolve() if options.nanogpt else None,
        threads=options.threads,
        shapes=shapes,
        ids={"bos": 0, **ids},
        settings=tuple(options.set),
    )
    identity = {"heldout_tokens": options.heldout_tokens, "threads": options.threads, "torch": torch.__version__}
    return bench, {family: {**identity, "text": fingerprint} for family, fingerprint in fingerprints.items()}


def run_peers(options: argparse.Namespace, family: str, results: Results) -> Iterator[Result]:
    """Yield what came of each peer's arms that count: the defaults and the best, for each seed."""
    size, minutes = options.size, options.minutes
    for seed in range(options.seeds):
        peers = [peer for peer in made.PEERS[family] if missing(peer, options) is None]
        for arm in made.defaults(family, size, minutes, seed):
            if arm.peer in peers:
                yield from wanted(results, arm)
        for peer in peers:
            sweep_minutes = min(options.sweep_minutes, minutes)
            tried = [
                result
                for arm in made.sweep(family, size, peer, sweep_minutes, made.RATES[peer])
                for result in wanted(results, arm)
            ]
            if len(tried) < len(made.RATES[peer]):
                continue
            chosen = min(tried, key=lambda result: result["figures"][main_figure(family)])
            rate = chosen["settings"]["learning_rate"]
            if seed == 0 and rate in (made.RATES[peer][0], made.RATES[peer][-1]):
                print(f"note: the best learning rate of {peer}, {rate:g}, lies at the edge of those tried")
            for role in ("best", "best-allocator") if options.allocator else ("best",):
                yield from wanted(results, made.best(family, size, peer, minutes, seed, rate, role))


def missing(peer: str, options: argparse.Namespace) -> str | None:
    """Return what a peer lacks to be run, or None."""
    if peer == "nanogpt":
        return None if options.nanogpt else "--nanogpt CHECKOUT"
    lacking = [name for name in ("transformers", "accelerate") if find_spec(name) is None]
    return f"pip install {' '.join(lacking)}" if lacking else None


def wanted(results: Results, arm: made.Arm) -> Iterator[Result]:
    """Yield an arm's result, or nothing where it is left for another time."""
    try:
        yield results.get(arm)
    except NotYetError as left:
        print(f"left for another time: {left}")


def run_ours(options: argparse.Namespace, family: str, results: Results, peers: list[Result]) -> list[dict[str, Any]]:
    """Search our shortest run for each peer's end; return the rows of the table."""
    budgets = ladder(options.minutes)
    if options.ours_minutes:
        budgets = sorted(float(minutes) for minutes in options.ours_minutes.split(","))
    found: dict[int, dict[float, Result]] = {}
    main = main_figure(family)
    rows = []
    for peer in peers:
        runs = found.setdefault(peer["seed"], {})

        def loss(minutes: float, seed: int = peer["seed"], runs: dict[float, Result] = runs) -> float:
            if minutes not in runs:
                try:
                    runs[minutes] = results.get(made.ours(family, options.size, minutes, seed))
                except TooShortError:
                    return math.inf
            return float(runs[minutes]["figures"][main])

        try:
            soonest(peer["figures"][main], budgets, loss)
        except NotYetError as left:
            print(f"left for another time: {left}")
            continue
        rows += [
            compare(peer, shortest(peer["figures"][figure], figure, runs.values()), figure)
            for figure in heldout.FIGURES[family]
        ]
    return rows


def kept(results: Results, family: str, size: str) -> list[Result]:
    """Return all that has been run of a size."""
    found = [json.loads(file.read_text()) for file in sorted((results.bench.work / "results").glob("*.json"))]
    mine = [one for one in found if (one["family"], one["size"]) == (family, size)]
    return [one for one in mine if one["identity"] == results.identity_of(one["peer"])]


def warn_of_sizes(family: str, results: list[Result]) -> None:
    """Say if the models of the arms are not equally large."""
    sizes = {result["peer"]: result["parameters"] for result in results}
    if sizes and max(sizes.values()) > (1 + PARAMETERS_APART) * min(sizes.values()):
        print(f"WARNING: {family}s differ by more than {PARAMETERS_APART:.0%} in parameters: {sizes}")


def best_peak(file: Path) -> float:
    """Return the most FLOP/s that a bf16 matrix product ever reached here, in this call or in an earlier one."""
    peaks = [json.loads(file.read_text())] if file.exists() else []
    peak = max(*peaks, measured_peak("bf16"), 0.0)
    file.write_text(json.dumps(peak))
    return peak


def main() -> None:
    """Run what has not been run, and print the tables."""
    options = parse()
    if options.data_dir is None:
        print("skipped: needs --data-dir")
        return
    families = options.families.split(",")
    bench, identities = make_bench(options, families)
    if options.check:
        check.check(bench, families, options.size)
        return
    torch.set_num_threads(options.threads)
    peak = best_peak(bench.work / "peak.json")
    machine = {**describe_machine(), "threads": options.threads, "bf16_peak": peak, "others": round(others(), 2)}
    print(f"{machine['cpu']}, {options.threads} threads, bf16 peak {peak / 1e9:.0f} GFLOP/s", flush=True)
    for peer in (peer for family in families for peer in made.PEERS[family]):
        if lack := missing(peer, options):
            print(f"{peer} is left out: needs {lack}")
    report: dict[str, Any] = {"machine": machine, "minutes": options.minutes, "size": options.size}
    only = tuple(options.peers.split(",")) if options.peers else ()
    for family in families:
        experiment = our_experiment(family, options.size, bench.shapes[family]["vocab_size"], bench.settings)
        results = Results(
            bench, identity=identities[family], ours={**experiment.flat(), "operations": "counted"}, wanted=only
        )
        if options.again:
            results.forget(f"{family}_{options.size}_bothways_")
        peers = list(run_peers(options, family, results))
        rows = run_ours(options, family, results, peers)
        done = kept(results, family, options.size)
        warn_of_sizes(family, done)
        speeds = speed_table(done, partial(operations, vocab_size=experiment.model.vocab_size), peak)
        title = f"## {family}-{options.size}, {options.minutes:g} minutes"
        print("\n".join(["", title, "", *ratio_table(rows), "", *speeds, ""]), flush=True)
        report[family] = {"ratios": rows, "arms": done}
    out = options.out or bench.work / f"results-{options.size}-{options.minutes:g}.json"
    out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
