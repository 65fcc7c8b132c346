"""What the loss doctor says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that goes wrong, or will."""

    name: str  # of the kind of trouble, such as "divergence"
    text: str  # what is seen, with its numbers; the likely cause; the remedy


def setting(name: str, value: float | str) -> str:
    """Return how a setting is given on the command line."""
    return f"--set {name}={value if isinstance(value, str) else format(value, '.2g')}"
