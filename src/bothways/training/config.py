"""Settings of the engine."""

import math
from dataclasses import dataclass
from typing import Literal

from bothways.config import Config
from bothways.errors import UserError

MOST_TOKENS = 2**26  # of one step


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How long, how fast and in what portions a model learns."""

    steps: int = 1000
    batch_tokens: int = 4096  # tokens of one optimizer step
    batch_ramp_share: float = 0.0  # of all steps; meanwhile batches grow in a line, from a quarter to batch_tokens
    micro_batch_tokens: int = 8192  # tokens of one forward pass; fewer than batch_tokens: gradients accumulate
    row_length: int = 256  # tokens of one packed row
    length_ramp_share: float = 0.0  # of all steps; meanwhile rows are shorter: a quarter, then half of row_length
    learning_rate: float = 4e-3
    schedule: Literal["warmup_stable_decay", "cosine", "linear", "constant"] = "warmup_stable_decay"
    warmup_share: float = 0.05  # of all steps
    decay_share: float = 0.4  # of all steps; warmup_stable_decay only
    final_share: float = 0.0  # of the learning rate, at the last step
    gradient_clip: float = 1.0  # largest norm of all gradients together
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # the layers; auto: where a run is long enough to earn it
    evaluate_every: int = 0  # steps; 0: at the end only
    save_every: int = 0  # steps; 0: at the end only
    keep: int = 2  # newest checkpoints that stay
    # skip: leave out up to ten such steps in a row; rewind: go back to the last checkpoint and take other text, thrice at most
    on_nonfinite: Literal["stop", "skip", "rewind"] = "stop"
    # Of several processes (torchrun): none: each holds the whole model (DDP); full: each holds a part of it (FSDP2).
    sharding: Literal["none", "full"] = "none"
    patience: float = 600.0  # seconds that processes wait for each other, before a silent one counts as lost

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "save_every"):
            if not 0 <= getattr(self, name) <= 10**9:
                raise UserError(f"training.{name} must be between 0 and a thousand million, not {getattr(self, name)}")
        for name in ("batch_tokens", "micro_batch_tokens", "row_length", "keep"):
            if not 1 <= getattr(self, name) <= MOST_TOKENS:
                raise UserError(f"training.{name} must be between 1 and {MOST_TOKENS:,}, not {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip", "patience"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"training.{name} must be above 0 and finite, not {getattr(self, name)}")
        for name in ("warmup_share", "decay_share", "final_share", "batch_ramp_share", "length_ramp_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"training.{name} must be in [0, 1], not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """Which optimizer. Muon takes the matrices of the trunk; AdamW takes all else, or everything."""

    name: Literal["muon", "adamw"] = "muon"
    weight_decay: float = 0.1  # of matrices
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    momentum: float = 0.95  # Muon's
    iterations: int = 3  # Muon's, of 1 to 5: how nearly orthogonal a step is
    row_beta: float = 0.0  # Muon's: rows are evened out by their mean squares over time, as NorMuon does; 0: not
    embedding_scale: float = 4.0  # the learning rate of embeddings, as a multiple

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= 5:
            raise UserError(f"optimizer.iterations must be between 1 and 5, not {self.iterations}")
        for name in ("beta1", "beta2", "momentum", "row_beta"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer.{name} must be in [0, 1), not {getattr(self, name)}")
        for name in ("weight_decay", "eps", "embedding_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"optimizer.{name} must be at least 0 and finite, not {getattr(self, name)}")
