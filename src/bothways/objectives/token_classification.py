"""A class for each of some tokens: names of people and places, parts of speech."""

from collections.abc import Mapping
from dataclasses import dataclass

from bothways.batch import Batch, Loss
from bothways.model.heads import Model


@dataclass(frozen=True, kw_only=True)
class TokenClassification:
    """Cross-entropy over the classes of tokens.

    | input | shape | meaning |
    |---|---|---|
    | ``targets["token_classification"].index`` | [n] | the token that tells each word: its first; its last, for a GPT |
    | ``targets["token_classification"].value`` | [n] | its class |

    Source: Devlin et al. 2018, section 5.3, which reads the first token of a word; a causal model has not read the word there.
    """

    num_labels: int

    @property
    def heads(self) -> Mapping[str, int]:
        """The token classification head, with an output for each class."""
        return {"token_classification": self.num_labels}

    def loss(self, model: Model, batch: Batch) -> dict[str, Loss]:
        """Return the loss named ``token_classification``, summed over tokens."""
        total = model.cross_entropy("token_classification", model(batch), batch)
        return {"token_classification": Loss(sum=total, count=len(batch.targets["token_classification"].index))}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return the number of tokens that have a class."""
        return {"token_classification": len(batch.targets["token_classification"].index)}
