"""The random numbers of dropout: of one process, or of several that must not draw the same ones."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bothways import progress
from bothways.training import states
from bothways.training.distributed import Group


def begin_random_numbers(seed: int, group: Group, *, step: int = 0) -> None:
    """Seed torch's generators: one process by the seed itself, one of several also by its number and the step."""
    if group.alone and step == 0:
        torch.manual_seed(seed)
    else:
        drawn = np.random.SeedSequence((seed, step, group.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))


def gather_random_states(group: Group) -> dict[str, Tensor]:
    """Return the random states of all processes, in all of them: those of process 3 are ``random/rank-3/cpu`` and so on."""
    if group.alone:
        return states.random_states()
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    found = {kind: group.all_gather(state) for kind, state in own.items()}
    return {f"random/rank-{rank}/{kind}": held[rank] for rank in range(group.size) for kind, held in found.items()}


def restore_random_states(tensors: Mapping[str, Tensor], seed: int, group: Group, step: int) -> None:
    """Go on with the random states of a checkpoint.

    Those of another number of processes are of no use: then each begins anew, by the seed, the step and its number.
    """
    if group.alone and "random/cpu" in tensors:
        states.restore_random_states(tensors)
        return
    ranks = {int(name.split("/")[1].removeprefix("rank-")) for name in tensors if name.startswith("random/rank-")}
    if not group.alone and ranks == set(range(group.size)):
        own = f"random/rank-{group.rank}/"
        torch.set_rng_state(tensors[own + "cpu"])
        if torch.cuda.is_available() and own + "cuda" in tensors:
            torch.cuda.set_rng_state(tensors[own + "cuda"])
        return
    begin_random_numbers(seed, group, step=step)
    progress.note(
        f"The checkpoint was made by {max(1, len(ranks))} processes and goes on with {group.size}: same rows, losses and "
        "weights, and new random numbers for dropout"
    )
