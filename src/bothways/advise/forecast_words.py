"""A forecast as a person reads it: rows for tables, and sentences."""

from collections.abc import Sequence
from typing import Any

from bothways.advise.forecast import Forecast
from bothways.advise.hardware import PRICES_NOTED, UTILISATION
from bothways.advise.inspect.findings import counted
from bothways.advise.plan import of_compiling
from bothways.advise.sizing import MANY_EPOCHS

GPU_COLUMNS = ("GPU", "memory", "fits", "time", "US dollars", "kWh")
CANDIDATE_COLUMNS = ("recipe", "weights", "tokens", "epochs", "tokens/s", "expected loss")

Rows = list[Sequence[Any]]


def main_rows(found: Forecast) -> Rows:
    """Return what is known of the run, each row a name and a value."""
    plan, model, training = found.plan, found.experiment.model, found.experiment.training
    shape = f"{counted(model.num_hidden_layers, 'layer')} of {model.hidden_size}, {model.vocab_size:,} tokens in the vocabulary"
    speed = f"{found.speed.tokens_per_second:,.0f} tokens/s, {found.speed.share_of_peak:.0%} of the peak of "
    rows: Rows = [
        ("weights", f"{_short(plan.parameters)} ({shape})"),
        ("steps", f"{plan.steps:,} of {training.batch_tokens:,} tokens"),
        ("tokens", f"{_short(plan.tokens)}, {plan.tokens_per_parameter:.3g} for each weight"),
        ("epochs", f"{plan.epochs:.3g}"),
        ("computation", f"{found.flops:.3g} FLOPs"),
        ("speed here", f"{speed}{found.speed.peak / 1e9:,.0f} GFLOP/s"),
        ("time here", in_time(found.hours * 3600)),
        ("memory here", f"{_bytes(found.memory.computed.total)} of {_bytes(found.memory.available)}: {_parts(found)}"),
    ]
    if found.memory.measured:
        rows.append(("memory in the trial", _bytes(found.memory.measured)))
    low, high = found.electricity
    rows += [
        ("disk", f"{_bytes(found.disk)} at most"),
        ("energy here", f"about {found.cost.kwh:.2g} kWh, {_range(_price(low), _price(high))} US dollars"),
        ("emissions here", f"about {found.cost.kg_co2:.2g} kg CO2 equivalent"),
    ]
    if found.expected:
        bits = found.expected.bits_per_byte
        extra = f", {bits:.3f} bits per byte" if bits else ""
        rows.append(("expected loss", f"about {found.expected.loss:.2f} nats per predicted token{extra}"))
    return rows


def gpu_rows(found: Forecast) -> Rows:
    """Return the run on each named GPU."""
    return [
        (
            each.gpu,
            _bytes(each.memory),
            "yes" if each.fits else "no",
            _range(*map(in_time, each.seconds)),
            _range(*map(_price, each.price)),
            f"{each.kwh:.2g}",
        )
        for each in found.gpus
    ]


def candidate_rows(found: Forecast) -> Rows:
    """Return the sizes that were weighed."""
    return [
        (
            each.recipe,
            _short(each.parameters),
            _short(each.tokens),
            f"{each.epochs:.3g}",
            f"{each.tokens_per_second:,.0f}" + ("" if each.measured else " (reckoned)"),
            f"{each.loss:.3f}" if each.fits else "does not fit into the memory",
        )
        for each in found.candidates
    ]


def sentences(found: Forecast) -> list[str]:
    """Return what the figures rest on, and what should be thought of before starting."""
    said = [*found.reasons]
    if not found.memory.fits:
        said.append(
            "The run does not fit into the memory of this machine: lower training.micro_batch_tokens, or take a smaller "
            "recipe"
        )
    if found.speed.tried_tokens and not found.reasons:
        said += of_compiling(found.experiment, found.plan.parameters, steps=found.plan.steps)
    if not found.speed.tried_tokens:
        said.append("Nothing was tried, since there is not the memory for it: the speed here is a share of the peak")
    if found.plan.epochs > MANY_EPOCHS and not found.reasons:
        said.append(
            f"The text is read {found.plan.epochs:.1f} times: each time teaches less, and more text would help more than "
            "more time"
        )
    if found.expected and not found.reasons:
        said.append(f"The expected loss comes from {found.expected.source}")
    if not found.expected:
        said.append("No loss is foretold: scaling laws are known for the families of our own recipes alone")
    eager, compiled = UTILISATION["eager"], UTILISATION["compiled"]
    said.append(
        f"GPUs are computed, not run: {compiled:.0%} of the peak compiled to {eager:.0%} eager, and longer where the model is "
        f"too small to keep the GPU busy; prices are those of {PRICES_NOTED} for one GPU on demand, and prices vary"
    )
    if idle := [each.gpu for each in found.gpus if not each.busy]:
        said.append(
            f"Too small to keep busy: {', '.join(idle)}; a larger training.micro_batch_tokens and training.batch_tokens use "
            "them better"
        )
    said.append(f"Energy: {'; '.join(found.cost.basis)}")
    return said


def in_time(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _price(dollars: float) -> str:
    return "under 0.01" if dollars < 0.01 else f"{dollars:,.2f}"


def _short(number: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:,}"


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _parts(found: Forecast) -> str:
    memory = found.memory.computed
    passing = {"activations": memory.activations, "logits": memory.logits, "evaluation": memory.evaluation}
    lasting = {"weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer}
    return ", ".join(f"{name} {_bytes(size)}" for name, size in {**lasting, **passing}.items())
