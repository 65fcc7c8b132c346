"""How much memory a training takes: computed from the shapes before it runs, and read off the process afterwards."""

import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from bothways.advise.workload import Workload, rows_of
from bothways.experiment import Experiment
from bothways.model.attention import LONGEST_WHOLE
from bothways.model.kernels import fits_in_blocks, logits_at_once
from bothways.training.room import run_bytes

_NUMBER = 4  # bytes of a weight, a gradient, a number that the optimizer remembers
PROGRAM = 450 * 2**20  # of Python and torch with what they import, where no process can be asked

IMPORTED_LATER = 100 * 2**20  # by a run in its course: what writes records and draws curves


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one training process.

    Attributes:
        program: Python, torch and the pages of the corpus.
        weights: in float32, and their copies in bfloat16 where products are computed in that.
        gradients: one number a weight.
        optimizer: Muon remembers one number a weight of the trunk's matrices, AdamW two for all others.
        activations: what the forward pass keeps for the backward pass, of one micro-batch.
        logits: scores of the vocabulary for the predicted tokens of one micro-batch, with their gradients.
        update: what the optimizer needs while it takes a step; the activations have gone by then.
        evaluation: scores of the vocabulary for held-out text, as many as there are at once.
        keeps_pieces: whether freed memory stays with the process in pieces that what is larger does not fit into, as a CPU's
            does (``keep_freed_memory``): about as much again as a step needs.
    """

    program: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    update: int
    evaluation: int
    keeps_pieces: bool

    @property
    def total(self) -> int:
        """The most that the process holds."""
        lasting = self.program + self.weights + self.gradients + self.optimizer
        passing = max(self.activations + self.logits, self.update)
        return lasting + max((2 if self.keeps_pieces else 1) * passing, self.evaluation)


def compute_memory(
    experiment: Experiment,
    workload: Workload,
    *,
    precision: Literal["bf16", "fp32"],
    device: Literal["cpu", "cuda"],
    program: int = PROGRAM,
) -> Memory:
    """Return the memory that an experiment's training takes."""
    size = 2 if precision == "bf16" else 4
    matrices, parameters = workload.matrix_weights, workload.parameters
    muon = experiment.optimizer.name == "muon"
    tokens, vocabulary = workload.micro_tokens, experiment.model.vocab_size
    training = experiment.training
    evaluated = rows_of(training.micro_batch_tokens, training.row_length) * training.row_length
    read = 1.0 if experiment.objective.name == "hybrid" else workload.predicted_share  # one way, then the other
    copy = size if size == 2 else 0  # beside what is in float32
    return Memory(
        program=program,
        weights=parameters * (_NUMBER + (2 if precision == "bf16" else 0)),
        gradients=parameters * _NUMBER,
        optimizer=_NUMBER * (2 * parameters - (matrices if muon else 0)),
        activations=round(tokens * _kept_per_token(experiment, size, device)),
        logits=_of_logits(round(tokens * workload.predicted_share), experiment, size, device),
        # The momentum ahead, stacked by shape, and three products of an iteration.
        update=matrices * (2 * _NUMBER + 3 * size) if muon else 0,
        # The scores in float32 and their log-probabilities.
        evaluation=min(round(evaluated * read) * vocabulary, logits_at_once(device)) * (2 * 4 + copy),
        keeps_pieces=device == "cpu",
    )


def _kept_per_token(experiment: Experiment, size: int, device: Literal["cpu", "cuda"]) -> float:
    """Return the bytes that the trunk keeps of each token for the backward pass.

    Args:
        experiment: its model.
        size: bytes of the numbers that are multiplied.
        device: decides how attention is computed.
    """
    config, context = experiment.model, experiment.training.row_length
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.size_of_head, config.key_value_heads * config.size_of_head
    norms = 2 * 4 * width  # the normal form of what each norm reads
    inputs = 2 * size * width + size * queries  # of products: q, k and v read the same, up and gate too
    feed_forward = (4 if config.gated else 2) * size * inner
    heads = size * (queries + 2 * keys)
    if size == 2 and device == "cpu" and context <= LONGEST_WHOLE:
        attention = size * config.num_attention_heads * context + 4 * config.size_of_head  # all weights, and rotations
    else:
        in_blocks = fits_in_blocks(context, config.size_of_head) and not config.attention_dropout
        mask = 0 if device == "cuda" and size == 2 and in_blocks else 4 * context  # in float32
        attention = size * queries + mask
    dropout = 2 * width if config.hidden_dropout else 0
    layer = norms + inputs + feed_forward + heads + attention + dropout
    return float(config.num_hidden_layers * layer + (4 + size) * width)


def _of_logits(targets: int, experiment: Experiment, size: int, device: Literal["cpu", "cuda"]) -> int:
    """Return the bytes of the logits of so many targets, with what becomes the gradient of the head.

    Args:
        targets: of a micro-batch.
        experiment: its model.
        size: bytes of the numbers that are multiplied.
        device: decides how many logits there are at once, and how many log-probabilities: on a CPU next to none.
    """
    vocabulary, copy = experiment.model.vocab_size, size if size == 2 else 0  # beside what is in float32
    at_once = min(targets * vocabulary, logits_at_once(device)) * (size + (_NUMBER if device == "cuda" else 0))
    return at_once + (_NUMBER + copy) * vocabulary * experiment.model.hidden_size


def disk_bytes(experiment: Experiment, workload: Workload) -> int:
    """Return the most that a run's folder holds."""
    weights = workload.parameters * _NUMBER
    state = _NUMBER * (
        2 * workload.parameters - (workload.matrix_weights if experiment.optimizer.name == "muon" else 0)
    )
    return run_bytes(weights=weights, state=state, keep=experiment.training.keep)


def forget_peak(device: torch.device) -> None:
    """Let ``measured_peak_memory`` look at what comes from now on, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM


def measured_peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has held: of the GPU, or resident in the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int:
    """Return the bytes of this process that are resident now; a usual figure where the system does not say."""
    with suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return PROGRAM


def memory_here(device: torch.device) -> int:
    """Return the bytes that a training may use: the GPU's, or the machine's, or less where a container sets a limit."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max": no limit
            return min(installed, int(Path(name).read_text(encoding="ascii")))
    return installed
