"""Looks at the course of a training and says what goes wrong, why it probably does, and what to change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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

    def __call__(
        self, curve: Records, evaluations: Records, text_from: Mapping[str, int] | None = None
    ) -> Sequence[Finding]:
        """Return what is wrong now, at most one finding of a name.

        Args:
            curve: what was logged so far, oldest first: ``step``, ``tokens``, losses by name, ``learning_rate``,
                ``gradient_norm``, and ``skipped`` (steps left out so far); what is missing is not judged.
            evaluations: ``step``, ``loss`` and further figures of each, oldest first.
            text_from: ``step`` and ``tokens`` at which the run began to read its text; what was before is not looked at.
                None: it always did.
        """
        context = self.context
        if text_from:
            context = replace(context, begun_step=text_from["step"], begun_tokens=text_from["tokens"])
            curve = [record for record in curve if record["step"] > context.begun_step]
        course = Course(curve, begun_tokens=context.begun_tokens)
        found = [
            *beforehand(context),
            *learning(course, evaluations, context),
            *held_out(course, evaluations, context),
        ]
        return list({finding.name: finding for finding in reversed(found)}.values())[::-1]
