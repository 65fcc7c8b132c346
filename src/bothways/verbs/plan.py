"""``bothways plan``: what a pretraining would take and come to, before anything is paid for."""

from collections.abc import Sequence

from bothways.advise.forecast import Forecast, forecast
from bothways.advise.sizing import Choice, choose, families
from bothways.experiment import Experiment
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.length import names_steps
from bothways.verbs.mixture import Data, Mixture
from bothways.verbs.pretrain import get_experiment, get_objective


def plan(
    recipe: str | Experiment, *, data: Data, minutes: float | None = None, settings: Sequence[str] = ()
) -> Forecast:
    """Tell how large a model would be, what it would read, how long that would take, what it would need and come to.

    A short trial on this machine gives the speed; all else is computed. Nothing is written.

    Args:
        recipe: name of a recipe or of a family (``gpt``, ``bert``, ``hybrid``: the size is chosen from the time), an
            ``experiment.json`` (or a run that has one), or an ``Experiment``.
        data: what ``prepare`` wrote: as for ``pretrain``.
        minutes: a time budget; None: ``training.steps`` are taken.
        settings: ``"dotted.name=value"`` overrides of the experiment.
    Raises:
        UserError: an unknown recipe or setting, a corpus that does not fit, a budget too short for one step.
    """
    mixture = Mixture(data)
    tokenizer = Tokenizer.load(mixture.folder)
    choice: Choice | None = None
    name = recipe if isinstance(recipe, str) else "experiment"
    if isinstance(recipe, str) and recipe in families():
        choice = choose(recipe, tokenizer=tokenizer, corpora=mixture.train, minutes=minutes, settings=settings)
        recipe = name = choice.recipe
        settings = (*choice.settings, *settings)
    experiment = get_experiment(recipe).fitted_to(tokenizer).override(settings)
    names_steps(experiment, settings, minutes)
    family = name.rpartition("-")[0]
    return forecast(
        name,
        experiment,
        get_objective(experiment, tokenizer),
        mixture.train,
        family=family if family in families() else None,
        minutes=minutes,
        choice=choice,
    )
