"""``bothways pretrain``: a prepared corpus to a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bothways import progress
from bothways.advise.plan import Plan, plan_steps
from bothways.checkpoints.checkpoint import checkpoints_in, load, resolve
from bothways.errors import UserError
from bothways.evaluation.card import write_card
from bothways.evaluation.curves import plot_metrics
from bothways.experiment import Experiment, load_experiment, make_batches, make_evaluator, make_objective
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.recipes.recipe import recipe as find_recipe
from bothways.recipes.recipe import recipe_names
from bothways.text.shards import Shards
from bothways.text.tokenizer import Tokenizer
from bothways.training.machine import default_device
from bothways.training.trainer import Run, Trained, Trainer
from bothways.verbs.folders import check_free, locked

# Of one evaluation; fewer where the whole run is short, so that it costs a few per cent.
MOST_VALIDATION_TOKENS = 100_000


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
        """Return the figures as plain values."""
        validation = self.trained.evaluations[-1] if self.trained.evaluations else {}
        speed = self.trained.tokens / max(self.trained.seconds, 1e-9)
        values = {"run": str(self.folder), "parameters": self.plan.parameters, "steps": self.trained.steps}
        seconds = {"seconds": round(self.trained.seconds, 2), "tokens_per_second": round(speed, 1)}
        return {**values, "tokens": self.trained.tokens, **seconds, "validation": validation}


def pretrain(
    recipe: str | Experiment,
    *,
    data: str | Path,
    out: str | Path,
    start_from: str | Path | None = None,
    minutes: float | None = None,
    settings: Sequence[str] = (),
    resume: bool = False,
) -> Pretrained:
    """Train a model from a prepared corpus.

    Args:
        recipe: name of a recipe, an ``experiment.json`` (or a run that has one), or an ``Experiment``.
        data: what ``prepare`` wrote.
        out: the RUN folder to make.
        start_from: a model whose weights training starts from, instead of fresh ones.
        minutes: a time budget, which a measured trial turns into steps, once.
        settings: ``"dotted.name=value"`` overrides of the experiment.
        resume: go on with the interrupted run in ``out``, or start it if there is none.
    Raises:
        UserError: an unknown recipe or setting, a folder in use, a corpus that does not fit.
        Interrupted: a signal came; ``resume`` goes on.
    """
    shards, folder = Shards(data), Path(out)
    tokenizer = Tokenizer.load(shards.folder)
    experiment = get_experiment(recipe).fitted_to(tokenizer).override(settings)
    started = resume and (folder / "plan.json").exists()
    if not started:
        check_free(folder)
    given_steps = names_steps(experiment, settings, minutes)
    objective = get_objective(experiment, tokenizer)
    model = make_model(experiment, objective.heads, start_from)
    with locked(folder):
        if started:
            plan = Plan.load(folder / "plan.json")
            said = given_steps or (minutes is None and plan.minutes is None)
            check_same_length(plan, steps=experiment.training.steps if said else None, minutes=minutes)
        else:
            plan = plan_steps(experiment, objective, shards.corpus("train"), minutes=minutes)
            plan.save(folder / "plan.json")
        experiment = scheduled(experiment, plan)
        if not checkpoints_in(folder):  # else the trainer refuses what differs, and the file must stay as it is
            experiment.save(folder / "experiment.json")
        run = Run(folder=folder, tokenizer=tokenizer, fingerprint=fingerprint(experiment, shards, start_from))
        trained = run_experiment(experiment, model, objective, shards, run, resume=resume)
        plot_metrics(folder / "metrics.jsonl", folder / "loss.svg")
        done = Pretrained(folder=folder, experiment=experiment, plan=plan, trained=trained)
        write_card(folder, title=recipe if isinstance(recipe, str) else "bothways model", figures=done.to_dict())
    return done


def get_experiment(recipe: str | Experiment) -> Experiment:
    """Return the experiment that a recipe's name, a file or a run names."""
    if isinstance(recipe, Experiment):
        return recipe
    path = Path(recipe)
    if recipe in recipe_names() or not (path.suffix == ".json" or path.exists()):
        return find_recipe(recipe)
    return load_experiment(path)


def get_objective(experiment: Experiment, tokenizer: Tokenizer) -> CausalLM | MaskedLM:
    """Return what an experiment minimises; a tokenizer that does not suit it is refused with the way out."""
    if experiment.model.vocab_size < len(tokenizer):
        raise UserError(
            f"model.vocab_size is {experiment.model.vocab_size}, and the data's tokenizer has {len(tokenizer)} tokens"
        )
    try:
        return make_objective(experiment, tokenizer)
    except UserError as error:
        raise UserError(f"{error}; prepare the text for this recipe with --tokenizer {experiment.tokenizer}") from None


def names_steps(experiment: Experiment, settings: Sequence[str], minutes: float | None) -> bool:
    """Return whether the user says the number of steps; a time budget may not stand beside it.

    Raises:
        UserError: it does, or neither gives a single step.
    """
    named = any(setting.partition("=")[0].strip() == "training.steps" for setting in settings)
    if named and minutes is not None:
        raise UserError("--minutes and --set training.steps both say how long to train; give one of them")
    if minutes is None and not experiment.training.steps:
        raise UserError("training.steps is 0: give --minutes, or --set training.steps=N with at least one step")
    return named


def check_same_length(plan: Plan, *, steps: int | None, minutes: float | None) -> None:
    """Refuse to resume a run with another length than it was planned with; None: the user has not said it again.

    Raises:
        UserError: it differs.
    """
    for name, before, now in (("training.steps", plan.steps, steps), ("minutes", plan.minutes, minutes)):
        if now is not None and now != before:
            raise UserError(
                f"this run cannot be resumed, because {name} was {before!r} and is now {now!r}; start a new run with "
                "another --out"
            )


def scheduled(experiment: Experiment, plan: Plan) -> Experiment:
    """Return the experiment with the steps of its plan, and ten evaluations and saves where none are asked for."""
    tenth = max(1, plan.steps // 10)
    training = replace(
        experiment.training,
        steps=plan.steps,
        evaluate_every=experiment.training.evaluate_every or tenth,
        save_every=experiment.training.save_every or tenth,
    )
    return replace(experiment, training=training)


def run_experiment(
    experiment: Experiment, model: Model, objective: Any, shards: Shards, run: Run, *, resume: bool
) -> Trained:
    """Train a model as an experiment says."""
    training = experiment.training
    batches = make_batches(experiment, objective, shards.corpus("train"))
    evaluate = None
    if "validation" in shards.manifest["splits"]:
        tokens = min(MOST_VALIDATION_TOKENS, training.steps * training.batch_tokens // 100)
        evaluate = make_evaluator(experiment, objective, shards.corpus("validation"), tokens=tokens)
    trainer = Trainer(
        training,
        experiment.optimizer,
        seed=experiment.seed,
        run=run,
        evaluate=evaluate,
        description="Pretraining " + ("GPT" if experiment.model.attention == "causal" else "BERT"),
    )
    return trainer.fit(model.to(default_device()), batches, objective, resume=resume)


def make_model(experiment: Experiment, heads: Any, start_from: str | Path | None) -> Model:
    """Return a model with fresh weights drawn from the experiment's seed, or with those of another model."""
    if start_from is not None:
        loaded = load(resolve(start_from), heads=heads)
        if loaded.model.config.vocab_size != experiment.model.vocab_size:
            raise UserError(
                f"{str(start_from)!r} has a vocabulary of {loaded.model.config.vocab_size} tokens and the data one of "
                f"{experiment.model.vocab_size}; prepare the data with --tokenizer {start_from}"
            )
        progress.note(f"Starting from {start_from}")
        return loaded.model
    with torch.random.fork_rng():
        torch.manual_seed(experiment.seed)
        return Model(experiment.model, heads)


def fingerprint(experiment: Experiment, shards: Shards, start_from: str | Path | None) -> dict[str, Any]:
    """Return what must not change when a run goes on."""
    return {
        "data": shards.fingerprint,
        "from": None if start_from is None else str(start_from),
        **experiment.flat(),
    }
