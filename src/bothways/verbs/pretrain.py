"""``bothways pretrain``: prepared text to a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bothways import progress
from bothways.advise.plan import Plan, plan_steps
from bothways.advise.sizing import Choice, choose, chosen_before, families, remember
from bothways.checkpoints.checkpoint import checkpoints_in, load, resolve
from bothways.errors import UserError
from bothways.evaluation.card import write_card
from bothways.evaluation.loss_curves import plot_run
from bothways.experiment import (
    Experiment,
    Pretraining,
    check_vocabulary,
    load_experiment,
    make_batches,
    make_evaluator,
    make_objective,
    step_flops,
)
from bothways.model.heads import Model
from bothways.model.pace import Pace
from bothways.recipes.recipe import recipe as find_recipe
from bothways.recipes.recipe import recipe_names
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.config import TrainingConfig
from bothways.training.cost import PowerMeter
from bothways.training.distributed import PATIENCE, Group, joined
from bothways.training.doctor.context import context_for, usual_rate
from bothways.training.doctor.doctor import LossDoctor
from bothways.training.machine import default_device
from bothways.training.trainer import Run, Trained, Trainer
from bothways.training.weights_and_biases import check_installed
from bothways.verbs.folders import check_free, locked_by_first
from bothways.verbs.length import begun_before, names_steps, plan_again, scheduled, with_tenths
from bothways.verbs.mixture import Data, Mixture
from bothways.verbs.resuming import accept_changes, check_names, made_from, validation_tokens

KINDS = {"causal_lm": "GPT", "masked_lm": "BERT", "hybrid": "hybrid"}


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A finished run.

    Attributes:
        folder: the RUN; give it wherever a model is asked for.
        experiment: all settings, the steps of the plan among them.
        plan: how a time budget became steps.
        trained: what came of it.
    """

    folder: Path
    experiment: Experiment
    plan: Plan
    trained: Trained

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, ``validation`` being those of the model in ``best/``."""
        speed = self.trained.tokens / max(self.trained.seconds, 1e-9)
        values = {"run": str(self.folder), "parameters": self.plan.parameters, "steps": self.trained.steps}
        seconds = {"seconds": round(self.trained.seconds, 2), "tokens_per_second": round(speed, 1)}
        return {**values, "tokens": self.trained.tokens, **seconds, "validation": self.trained.best}


def pretrain(
    recipe: str | Experiment,
    *,
    data: Data,
    out: str | Path,
    start_from: str | Path | None = None,
    minutes: float | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
    allow_change: Sequence[str] = (),
    wandb: str | None = None,
    verify: bool = True,
) -> Pretrained:
    """Train a model from a prepared corpus, or from several.

    Args:
        recipe: name of a recipe or of a family (``gpt``, ``bert``, ``hybrid``: the size is chosen from the text, the time
            and the speed of this machine), an ``experiment.json`` (or a run that has one), or an ``Experiment``.
        data: what ``prepare`` wrote: a folder, or several, each alone, as ``(folder, weight)`` or as ``"folder:weight"``.
            Weights are shares of the tokens; without them each corpus weighs as much as it has training tokens.
        out: the RUN folder to make.
        start_from: a model whose weights training starts from, instead of fresh ones.
        minutes: a time budget, which a measured trial turns into steps, once.
        settings: ``"dotted.name=value"`` overrides of the experiment.
        resume: go on with the interrupted run in ``out``, or start it if there is none.
        allow_change: what may differ from the run that is resumed: ``"data"``, or names of settings.
        wandb: a project of Weights & Biases to send the records to, too; needs the extra ``bothways[wandb]``.
        verify: compare the files of the data, and of a model to start from, with their hashes; checkpoints of the run
            always are.
    Raises:
        UserError: an unknown recipe or setting, a folder in use, a corpus that does not fit, a run that is resumed with
            something else than it was made from.
        Interrupted: a signal came; ``resume`` goes on.
    """
    request = Request(
        recipe=recipe,
        data=data,
        folder=Path(out),
        start_from=start_from,
        minutes=minutes,
        settings=tuple(settings),
        resume=resume,
        allow_change=tuple(allow_change),
        wandb=wandb,
        verify=verify,
    )
    with joined(patience_of(recipe, settings)) as group:
        return _pretrain(request, group)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``pretrain`` is asked for; its arguments, each under its name."""

    recipe: str | Experiment
    data: Data
    folder: Path
    start_from: str | Path | None
    minutes: float | None
    settings: tuple[str, ...]
    resume: bool
    allow_change: tuple[str, ...]
    wandb: str | None
    verify: bool


def _pretrain(request: Request, group: Group) -> Pretrained:
    """Do it, as one process of a group."""
    folder, start_from = request.folder, request.start_from
    with group.agreeing():
        if request.allow_change and not request.resume:
            raise UserError("--allow-change says what may differ from an earlier run; give --resume, too")
        if request.wandb:
            check_installed()
        mixture = Mixture(request.data, verify=request.verify)
        tokenizer = Tokenizer.load(mixture.folder)
    found = group.first_only(lambda: begun_before(folder) if request.resume else None)
    begun = None if found is None else Plan.from_dict(found)
    if begun is None:
        group.first_only(lambda: check_free(folder, kind=None if request.resume else "pretraining"))
    choice = None
    if isinstance(request.recipe, str) and request.recipe in families():
        choice = choose_size(request.recipe, request, mixture, tokenizer, begun)
        request = replace(request, recipe=choice.recipe, settings=(*choice.settings, *request.settings))
    with group.agreeing():
        experiment = get_experiment(request.recipe).fitted_to(tokenizer).override(request.settings)
        check_names(request.allow_change, experiment.names())
        named = names_steps(experiment, request.settings, request.minutes)
        objective = get_objective(experiment, tokenizer)
        next(make_batches(experiment, objective, mixture.train))  # too little text is said before anything is built
        model = make_model(experiment, objective.heads, start_from, verify=request.verify)
        model.shifted = experiment.objective.shifted and experiment.objective.name != "causal_lm"
        model.pace = pace_of(experiment)
        if start_from is not None:
            check_shape(experiment, model, request)
        experiment = replace(experiment, model=model.config)  # the size is that of the model that training starts from
    with locked_by_first(folder, group):
        if begun is None:
            seconds = choice.seconds_per_step if choice else None
            plan = plan_steps(experiment, objective, mixture.train, minutes=request.minutes, seconds_per_step=seconds)
        else:
            plan = plan_again(
                begun,
                experiment,
                objective,
                mixture,
                named=named,
                minutes=request.minutes,
                allowed=request.allow_change,
            )
        plan = remember(choice, plan) if choice else plan
        allowed = with_tenths(request.allow_change, experiment)
        experiment = scheduled(experiment, plan)
        save = partial(save_settings, folder, experiment, plan)
        if group.first and not checkpoints_in(folder):  # else the files stay as they are until what differs is accepted
            save()
        fingerprint = made_from(experiment, mixture, start_from)
        accept = partial(accept_changes, fingerprint=fingerprint, allowed=allowed, save=save)
        run = Run(
            folder=folder,
            tokenizer=tokenizer.framed_as_bert() if experiment.objective.name == "masked_lm" else tokenizer,
            fingerprint=fingerprint,
            accept=accept,
            saved=partial(plot_run, pictures=["loss.svg"]),
            wandb_project=request.wandb,
        )
        mixture.describe(plan.tokens)
        try:
            with PowerMeter() as meter:
                trained = run_experiment(
                    experiment, model, objective, mixture, run, start_from=start_from, resume=request.resume
                )
        finally:
            if group.first:
                plot_run(folder)
        done = Pretrained(folder=folder, experiment=experiment, plan=plan, trained=trained)
        if group.first:
            write_card(
                folder,
                title=request.recipe if isinstance(request.recipe, str) else "bothways model",
                figures=done.to_dict(),
                data=mixture.described(),
                trained=trained,
                meter=meter,
            )
    return done


def check_shape(experiment: Experiment, model: Model, request: Request) -> None:
    """Refuse settings of the model that the one which training starts from does not have.

    Raises:
        UserError: there is one.
    """
    wanted, has = experiment.model.to_dict(), model.config.to_dict()
    for setting in request.settings:
        name = setting.partition("=")[0].strip().removeprefix("model.")
        if name in wanted and setting.strip().startswith("model.") and wanted[name] != has[name]:
            raise UserError(
                f"--set model.{name}={wanted[name]} does not go with --from: {str(request.start_from)!r} has {has[name]}; "
                "leave it out"
            )


def patience_of(recipe: str | Experiment, settings: Sequence[str]) -> float:
    """Return how long processes wait for each other; what is wrong with the settings is said once they are together."""
    named = [setting.strip() for setting in settings if setting.strip().startswith("training.patience")]
    try:
        family = isinstance(recipe, str) and recipe in families()
        training = TrainingConfig() if family else get_experiment(recipe).training
        return training.override([setting.removeprefix("training.") for setting in named]).patience
    except UserError:
        return PATIENCE


def choose_size(family: str, request: Request, mixture: Mixture, tokenizer: Tokenizer, begun: Plan | None) -> Choice:
    """Return the size of a family that a run trains: chosen when it begins, and remembered from then on.

    Args:
        family: its name.
        request: the user's.
        mixture: to train on.
        tokenizer: of the mixture.
        begun: the plan of a run that goes on; None: it begins.
    Raises:
        UserError: no minutes, a model that has its size already, a run that began otherwise.
    """
    if request.start_from is not None:
        raise UserError(
            f"{str(request.start_from)!r} has a size already; name its recipe, such as {family}-mini, in place of {family}"
        )
    if begun is not None:
        return chosen_before(family, begun)
    settings, minutes = request.settings, request.minutes
    choice = choose(family, tokenizer=tokenizer, corpora=mixture.train, minutes=minutes, settings=settings)
    for reason in choice.reasons:
        progress.note(reason)
    return choice


def get_experiment(recipe: str | Experiment) -> Experiment:
    """Return the experiment that a recipe's name, a file or a run names."""
    if isinstance(recipe, Experiment):
        return recipe
    path = Path(recipe)
    if recipe in recipe_names() or not (path.suffix == ".json" or path.exists()):
        return find_recipe(recipe)
    return load_experiment(path)


def get_objective(experiment: Experiment, tokenizer: Tokenizer) -> Pretraining:
    """Return what an experiment minimises; a tokenizer that does not suit it is refused with the way out."""
    check_vocabulary(experiment, tokenizer)
    try:
        return make_objective(experiment, tokenizer)
    except UserError as error:
        raise UserError(f"{error}; prepare the text for this recipe with --tokenizer {experiment.tokenizer}") from None


def save_settings(folder: Path, experiment: Experiment, plan: Plan) -> None:
    """Write what a run is made by."""
    plan.save(folder / "plan.json")
    experiment.save(folder / "experiment.json")


def run_experiment(
    experiment: Experiment,
    model: Model,
    objective: Any,
    mixture: Mixture,
    run: Run,
    *,
    start_from: str | Path | None,
    resume: bool,
) -> Trained:
    """Train a model as an experiment says."""
    training = experiment.training
    batches = make_batches(experiment, objective, mixture.train)
    evaluate = None
    if held_out := mixture.validation:
        tokens = validation_tokens(steps=training.steps, batch_tokens=training.batch_tokens)
        evaluate = make_evaluator(experiment, objective, held_out, tokens=tokens)
    trainer = Trainer(
        training,
        experiment.optimizer,
        seed=experiment.seed,
        run=run,
        evaluate=evaluate,
        description=f"Pretraining {KINDS[experiment.objective.name]}",
        flops=step_flops(experiment),
        doctor=make_doctor(experiment, mixture, run.tokenizer, start_from),
    )
    return trainer.fit(model.to(default_device()), batches, objective, resume=resume)


def make_doctor(
    experiment: Experiment, mixture: Mixture, tokenizer: Tokenizer | None, start_from: str | Path | None
) -> LossDoctor:
    """Return who watches the losses, told what is known of settings and text."""
    context = context_for(
        experiment.training,
        mixture.train,
        vocab_size=experiment.model.vocab_size,
        unknown_id=tokenizer.unknown_id if tokenizer else None,
        near_copies_searched=mixture.near_copies_searched,
        language=mixture.language,
        started_from=None if start_from is None else str(start_from),
        masked=experiment.objective.name == "masked_lm",
        usual_rate=usual_rate(experiment.optimizer, experiment.model),
    )
    return LossDoctor(context)


def pace_of(experiment: Experiment) -> Pace:
    """Return how fast a model learns in an experiment."""
    optimizer = experiment.optimizer
    return Pace(
        optimizer=optimizer.name,
        learning_rate=experiment.training.learning_rate,
        embedding_scale=optimizer.embedding_scale,
    )


def make_model(experiment: Experiment, heads: Any, start_from: str | Path | None, *, verify: bool = True) -> Model:
    """Return a model with fresh weights drawn from the experiment's seed, or with those of another model."""
    if start_from is not None:
        loaded = load(resolve(start_from), heads=heads, verify=verify, attention=experiment.model.attention)
        if loaded.model.config.vocab_size != experiment.model.vocab_size:
            raise UserError(
                f"{str(start_from)!r} has a vocabulary of {loaded.model.config.vocab_size} tokens and the data one of "
                f"{experiment.model.vocab_size}; prepare the data with --tokenizer {start_from}"
            )
        if loaded.model.config.attention != experiment.model.attention:
            raise UserError(
                f"{str(start_from)!r} reads {loaded.model.config.attention} and objective.name={experiment.objective.name} "
                f"needs a model that reads {experiment.model.attention}; start from such a model, or from a hybrid"
            )
        loaded.model.config = replace(loaded.model.config, hybrid=experiment.model.hybrid)
        progress.note(f"Starting from {start_from}")
        return loaded.model
    with torch.random.fork_rng():
        torch.manual_seed(experiment.seed)
        return Model(experiment.model, heads)
