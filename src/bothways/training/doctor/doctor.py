"""Looks at the course of a training and says what goes wrong, why it probably does, and what to change."""

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.training.doctor.beforehand import beforehand
from bothways.training.doctor.context import Context
from bothways.training.doctor.course import Course, Records
from bothways.training.doctor.finding import Finding
from bothways.training.doctor.held_out import held_out
from bothways.training.doctor.learning import learning


@dataclass(frozen=True)
class LossDoctor:
    """Same records, same findings: nothing is remembered between calls.

    What it says it should be sure of, since a warning that is wrong once is not read again. The thresholds were set on
    recorded runs with and without planted faults.
    """

    context: Context

    def __call__(self, curve: Records, evaluations: Records) -> Sequence[Finding]:
        """Return what is wrong now, at most one finding of a name.

        Args:
            curve: what was logged so far, oldest first: ``step``, ``tokens``, losses by name, ``learning_rate``,
                ``gradient_norm``, and ``skipped`` (steps left out so far); what is missing is not judged.
            evaluations: ``step``, ``loss`` and further figures of each, oldest first.
        """
        course = Course(curve)
        found = [
            *beforehand(self.context),
            *learning(course, evaluations, self.context),
            *held_out(course, evaluations, self.context),
        ]
        return list({finding.name: finding for finding in reversed(found)}.values())[::-1]
