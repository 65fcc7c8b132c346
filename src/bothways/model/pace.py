"""How fast a model was pretrained, which tells how fast it learns on."""

import math
from dataclasses import dataclass
from typing import Literal

from bothways.config import Config
from bothways.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Pace(Config):
    """What moved the weights in pretraining. They are as large as that made them, and another pace moves them too little.

    Attributes:
        optimizer: its name.
        learning_rate: the highest.
        embedding_scale: the learning rate of embeddings, as a multiple.
    """

    optimizer: Literal["muon", "adamw"]
    learning_rate: float
    embedding_scale: float

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"pace.learning_rate must be above 0 and finite, not {self.learning_rate}")
        if not 0 <= self.embedding_scale < math.inf:
            raise UserError(f"pace.embedding_scale must be at least 0 and finite, not {self.embedding_scale}")
