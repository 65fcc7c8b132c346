"""What one training step has to do, whatever the machine: tokens, arithmetic, bytes that the optimizer moves."""

from dataclasses import dataclass, replace

import torch

from bothways.batch import Batch
from bothways.experiment import Corpora, Experiment, make_batches
from bothways.model.flops import training_flops, trunk_matrix_weights
from bothways.model.heads import Model
from bothways.training.batches import PretrainingBatches, PretrainingObjective


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A training step.

    Attributes:
        tokens: that the trunk reads in a step, padding included.
        micro_tokens: of one forward pass.
        predicted_share: of the tokens, those that the language model head reads.
        parameters: all weights.
        matrix_weights: those of them that are matrices of the trunk.
        model_flops: floating point operations of the forward and backward passes.
        optimizer_flops: those of Muon's iterations; 0 with AdamW, whose time is spent on moving bytes.
        optimizer_bytes: that the optimizer reads and writes.
    """

    tokens: int
    micro_tokens: int
    predicted_share: float
    parameters: int
    matrix_weights: int
    model_flops: float
    optimizer_flops: float
    optimizer_bytes: int

    @property
    def flops(self) -> float:
        """All floating point operations of a step."""
        return self.model_flops + self.optimizer_flops


def workload_of(
    experiment: Experiment, objective: PretrainingObjective, predicted_share: float, *, parameters: int | None = None
) -> Workload:
    """Return what a step of an experiment has to do; nothing is built for it.

    Args:
        experiment: its settings.
        objective: whose heads the model has.
        predicted_share: see ``share_predicted``.
        parameters: all weights, where they have been counted already.
    """
    training = experiment.training
    tokens = rows_of(training.batch_tokens, training.row_length) * training.row_length
    micro = min(tokens, rows_of(training.micro_batch_tokens, training.row_length) * training.row_length)
    matrices = trunk_matrix_weights(experiment.model)
    parameters = count_parameters(experiment, objective) if parameters is None else parameters
    muon = experiment.optimizer.name == "muon"
    return Workload(
        tokens=tokens,
        micro_tokens=micro,
        predicted_share=predicted_share,
        parameters=parameters,
        matrix_weights=matrices,
        model_flops=training_flops(
            experiment.model,
            tokens=tokens,
            predicted=round(tokens * predicted_share),
            context=training.row_length,
        ),
        optimizer_flops=muon_flops(experiment) if muon else 0.0,
        # Weight, gradient and each state once read; all but the gradient written.
        optimizer_bytes=4 * (7 * parameters - (2 * matrices if muon else 0)),
    )


def rows_of(tokens: int, row_length: int) -> int:
    """Return how many whole rows so many tokens make: at least one."""
    return max(1, tokens // row_length)


def batches_halfway(experiment: Experiment, objective: PretrainingObjective, corpora: Corpora) -> PretrainingBatches:
    """Return the batches of a run from its middle on, where its share of masks is as it is on average.

    Steps are as large, and rows as long, as they become.
    """
    training = replace(experiment.training, batch_ramp_share=0.0, length_ramp_share=0.0)
    batches = make_batches(replace(experiment, training=training), objective, corpora)
    batches.seek({**batches.position, "step": training.steps // 2})
    return batches


def count_parameters(experiment: Experiment, objective: PretrainingObjective) -> int:
    """Return how many weights the model of an experiment has, without building it."""
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        return Model(experiment.model, objective.heads).num_parameters()


def share_predicted(experiment: Experiment, objective: PretrainingObjective, corpora: Corpora) -> float:
    """Return the share of a batch's tokens that the language model head reads, counted in a batch of the run's middle.

    Raises:
        UserError: there is too little text for a row.
    """
    batch: Batch = next(batches_halfway(experiment, objective, corpora))[0]
    return len(batch.targets["language_model"].index) / batch.input_ids.numel()


def muon_flops(experiment: Experiment) -> float:
    """Return the floating point operations of Muon's iterations on all matrices of the trunk.

    Each iteration on m × n weights, m ≤ n, multiplies m × n by n × m, m × m by m × m, and m × m by m × n.
    """
    config = experiment.model
    queries, keys = (heads * config.size_of_head for heads in (config.num_attention_heads, config.key_value_heads))
    feed_forward = [(config.hidden_size, config.intermediate_size)] * (3 if config.gated else 2)
    matrices = [(config.hidden_size, width) for width in (queries, queries, keys, keys)] + feed_forward
    once = sum(4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3 for shape in matrices)
    return float(config.num_hidden_layers * experiment.optimizer.iterations * once)
