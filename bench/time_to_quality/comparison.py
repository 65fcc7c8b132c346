"""How much sooner we are where a peer ends: the search for our shortest run, and the table."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from time_to_quality.heldout import FIGURES

Result = dict[str, Any]
STEP = 1.25  # from one of our budgets to the next


def ladder(minutes: float) -> list[float]:
    """Return our budgets for a peer's: from a fiftieth of it to twice as much, each a quarter longer."""
    budgets = [minutes / 50]
    while budgets[-1] < 2 * minutes:
        budgets.append(budgets[-1] * STEP)
    return [float(f"{budget:.3g}") for budget in budgets]


def soonest(target: float, budgets: Sequence[float], run: Callable[[float], float]) -> float | None:
    """Return the shortest budget that reaches a loss, by bisection; None: none does.

    Args:
        target: the loss to reach.
        budgets: in rising order; a longer one is taken to end no worse.
        run: a budget to the loss at its end.
    """
    low, high = 0, len(budgets)
    while low < high:
        middle = (low + high) // 2
        if run(budgets[middle]) <= target:
            high = middle
        else:
            low = middle + 1
    return budgets[low] if low < len(budgets) else None


def shortest(target: float, figure: str, runs: Iterable[Result]) -> Result | None:
    """Return our shortest run that reaches a loss and than which no longer one is worse than that: no stroke of luck."""
    found = None
    for run in sorted(runs, key=lambda run: -run["minutes"]):
        if run["figures"][figure] > target:
            break
        found = run
    return found


def compare(peer: Result, ours: Result | None, figure: str) -> dict[str, Any]:
    """Return what a row of the table says: a peer, and our shortest run that is as good."""
    row: dict[str, Any] = {
        "peer": peer["peer"],
        "role": peer["role"],
        "settings": peer["settings"],
        "seed": peer["seed"],
        "figure": figure,
        "loss": peer["figures"][figure],
        **{f"peer_{name}": peer[name] for name in ("seconds", "process_seconds", "tokens")},
        "ours": None,
    }
    if ours is not None:
        row |= {
            "ours": ours["figures"][figure],
            **{f"our_{name}": ours[name] for name in ("seconds", "process_seconds", "tokens")},
            "sooner": peer["seconds"] / ours["seconds"],
            "sooner_process": peer["process_seconds"] / ours["process_seconds"],
            "fewer_tokens": peer["tokens"] / ours["tokens"],
        }
    return row


def speed_table(results: Sequence[Result], flops: Callable[[Result], float], peak: float) -> list[str]:
    """Return the table of all arms: what each did in its time."""
    lines = [
        "| arm | minutes | seed | seconds (process) | tokens | tokens/s | GFLOP/s | of bf16 peak | parameters | figures |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        rate = result["tokens"] / result["seconds"]
        speed = flops(result) / result["seconds"]
        figures = " · ".join(f"{value:.4f}" for value in result["figures"].values())
        lines.append(
            f"| {result['peer']} {describe(result)} | {result['minutes']:g} | {result['seed']} | {result['seconds']:.1f} "
            f"({result['process_seconds']:.1f}) | {result['tokens']:,} | {rate:,.0f} | {speed / 1e9:.0f} | "
            f"{100 * speed / peak:.0f} % | {result['parameters'] / 1e6:.2f} M | {figures} |"
        )
    return lines


def describe(result: Result) -> str:
    """Return a role and what was told."""
    told = [f"{value:g}" for key, value in result["settings"].items() if key == "learning_rate"]
    told += [result["settings"]["precision"]] if "precision" in result["settings"] else []
    return " ".join([result["role"], *told])


def ratio_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of ratios, one line for each peer, role and figure: the median over the seeds and the range."""
    lines = [
        "| peer | figure | its loss | its seconds | ours | our seconds | sooner (training) | sooner (whole process) | "
        "fewer tokens | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["peer"], row["role"], row["figure"]), []).append(row)
    for (peer, role, figure), group in groups.items():
        reached = [row for row in group if row["ours"] is not None]
        told = {f"{row['settings']['learning_rate']:g}" for row in group}
        cells = [f"{peer} {role} ({', '.join(sorted(told))})", figure, middle(group, "loss", ".4f")]
        cells += [middle(group, "peer_seconds", ".1f")]
        if len(reached) < len(group):
            cells += ["not reached", "–", "–", "–", "–"]
        else:
            names = {
                "ours": ".4f",
                "our_seconds": ".1f",
                "sooner": ".2f",
                "sooner_process": ".2f",
                "fewer_tokens": ".2f",
            }
            cells += [middle(group, name, shape) for name, shape in names.items()]
        lines.append(f"| {' | '.join(cells)} | {len(group)} |")
    return lines


def middle(group: Sequence[dict[str, Any]], name: str, shape: str) -> str:
    """Return a median, with its range where there are several values."""
    values = [row[name] for row in group]
    said = format(statistics.median(values), shape)
    return said if len(values) == 1 else f"{said} ({min(values):{shape}} to {max(values):{shape}})"


def main_figure(family: str) -> str:
    """Return the figure that is searched for first."""
    return FIGURES[family][0]
