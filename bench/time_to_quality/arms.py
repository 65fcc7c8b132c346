"""The arms: what is run, in which order, and what each peer's users would take."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

RATES = {
    "nanogpt": (6e-4, 1e-3, 3e-3),
    "trainer-gpt": (3e-4, 1e-3, 3e-3),
    "trainer-lines": (1e-4, 3e-4, 1e-3),
    "trainer-blocks": (3e-4, 1e-3, 3e-3),
}
PEERS = {"gpt": ("nanogpt", "trainer-gpt"), "bert": ("trainer-lines", "trainer-blocks")}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training.

    Attributes:
        peer: ``bothways`` or a name of ``PEERS``.
        role: ``default``, ``bf16``, ``sweep``, ``best``, ``best-allocator``, or ``ours``.
        minutes: of training.
        settings: what the peer is told: learning_rate, precision, dropout, warmup (a share of the steps), allocator.
    """

    family: str
    size: str
    peer: str
    role: str
    minutes: float
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its files are called; the same training in another role has the same name. nanoGPT bears no "=" in it."""
        said = [f"{key}-{value}" for key, value in self.settings.items() if key != "allocator"]
        said += ["allocator"] if self.settings.get("allocator") else []
        parts = [self.family, self.size, self.peer, *said, f"{self.minutes:.4g}min", f"seed-{self.seed}"]
        return "_".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def settings(peer: str, role: str, rate: float | None = None) -> dict[str, Any]:
    """Return what a peer is told in a role: its defaults, or the best that its users know with a learning rate."""
    if peer == "nanogpt":
        values: dict[str, Any] = {"learning_rate": 1e-3 if rate is None else rate}
    elif role in ("default", "bf16"):
        precision = "bf16" if role == "bf16" else "fp32"
        values = {"learning_rate": 5e-5, "precision": precision, "dropout": 0.1, "warmup": 0.0}
    else:
        values = {"learning_rate": rate, "precision": "bf16", "dropout": 0.0, "warmup": 0.05}
    return {**values, "allocator": role == "best-allocator"}


def defaults(family: str, size: str, minutes: float, seed: int) -> list[Arm]:
    """Return the arms of a family that need no sweep."""
    arms = []
    for peer in PEERS[family]:
        roles = ("default", "bf16") if peer == "trainer-gpt" else ("default",)
        for role in roles:
            told = settings(peer, role)
            arms.append(Arm(family=family, size=size, peer=peer, role=role, minutes=minutes, seed=seed, settings=told))
    return arms


def sweep(family: str, size: str, peer: str, minutes: float, rates: Sequence[float]) -> list[Arm]:
    """Return the arms among which a peer's best learning rate is chosen."""
    return [
        Arm(
            family=family,
            size=size,
            peer=peer,
            role="sweep",
            minutes=minutes,
            settings=settings(peer, "sweep", rate),
        )
        for rate in rates
    ]


def best(family: str, size: str, peer: str, minutes: float, seed: int, rate: float, role: str = "best") -> Arm:
    """Return the arm of a peer with the learning rate that was chosen."""
    told = settings(peer, role, rate)
    return Arm(family=family, size=size, peer=peer, role=role, minutes=minutes, seed=seed, settings=told)


def ours(family: str, size: str, minutes: float, seed: int) -> Arm:
    """Return our own arm."""
    return Arm(family=family, size=size, peer="bothways", role="ours", minutes=minutes, seed=seed)
