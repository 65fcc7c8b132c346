"""What is special about our command lines: help that knows all names, flags that several verbs share, kind refusals."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

import bothways
from bothways import discover, progress
from bothways.cli.answer import Answer, show
from bothways.errors import unknown

SEED = click.IntRange(0, 2**32 - 1)
FILE = click.Path(path_type=Path)


def recipe_names() -> list[str]:
    """Return the names of the recipes; they are asked for late, since their modules need torch."""
    names: list[str] = bothways.recipe_names()
    return names


def trainable_tasks() -> list[str]:
    """Return the names of the tasks that models can be trained for."""
    from bothways.tasks.task import get_task

    return [name for name in discover.names("tasks") if get_task(name).TRAINABLE]


def formats() -> list[str]:
    """Return the names of formats that a model can be exported to."""
    return [name.replace("_", "-") for name in discover.names("exports")]


def figures_of_runs() -> tuple[str, ...]:
    """Return what runs can be sorted by."""
    from bothways.evaluation.run_summary import SORTABLE

    return SORTABLE


# What help texts say about names, filled in when the help is shown.
NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "{recipes}": recipe_names,
    "{tasks}": lambda: discover.names("tasks"),
    "{trainable tasks}": trainable_tasks,
    "{figures of runs}": figures_of_runs,
}


class Verb(click.Command):
    """A verb: its function returns an ``Answer``, which is printed when the progress display has gone."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, with the names that exist now in what is said of the verb and of its flags."""
        options = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        parts: list[click.Command | click.Option] = [self, *options]
        for told in parts:
            for mark, names in NAMES.items():
                if told.help and mark in told.help:
                    told.help = told.help.replace(mark, ", ".join(names()))
        super().format_help(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example on one line, as it can be copied."""
        with formatter.section("Example"):
            formatter.write(f"  {self.epilog}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let a flag for several files take several words, as a shell makes them of ``*.csv``."""
        return super().parse_args(ctx, list(self._one_flag_a_file(args)))

    def _one_flag_a_file(self, words: Iterable[str]) -> Iterator[str]:
        several = {flag for option in self.params if str(option.metavar).endswith("...") for flag in option.opts}
        flag, waits = "", False  # the flag whose words come, and whether its first one is still to come
        for word in words:
            if word.startswith("-") and word != "-":
                name, equals, _ = word.partition("=")
                flag, waits = name if name in several else "", not equals
                yield word
            else:
                yield f"{flag}={word}" if flag and not waits else word
                waits = False

    def invoke(self, ctx: click.Context) -> None:
        """Run the verb and print its answer."""
        as_json = ctx.params.pop("as_json")
        with progress.display(progress.speaks()):
            answer: Answer = super().invoke(ctx)
        if progress.speaks():
            show(answer, as_json=as_json)


class Verbs(click.Group):
    """All verbs, in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return their names."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb, or say which there are."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("verb", args[0], self.commands)
        return super().resolve_command(ctx, args)


def explain(error: click.UsageError) -> str:
    """Return click's error as one sentence that names the legal flags and the way to the help."""
    context = error.ctx
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and context:
        flags = [flag for parameter in context.command.get_params(context) for flag in parameter.opts if "-" in flag]
        settings = " Settings go by --set, as in --set training.learning_rate=0.001." if "--set" in flags else ""
        message = f"{unknown('flag', error.option_name, flags)}{settings}"
    end = "" if message.endswith(("?", ".")) else "."
    return f"{message}{end} Help: {context.command_path if context else 'bothways'} --help"


def several(flag: str, name: str, *, required: bool = False, text: str) -> Callable[[Any], Any]:
    """Return a flag that takes one or more paths."""
    return click.option(flag, name, type=FILE, multiple=True, required=required, metavar="PATH...", help=text)


def data(text: str) -> Callable[[Any], Any]:
    """Return the flag that names prepared text."""
    metavar = "DATA[:WEIGHT]"
    return click.option("--data", type=FILE, multiple=True, required=True, metavar=metavar, help=text)


def settings(example: str) -> Callable[[Any], Any]:
    """Return the option that changes settings, of which one is shown."""
    text = f"Change a setting, such as {example}; may be repeated."
    return click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help=text)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
seed = click.option("--seed", type=SEED, default=0, metavar="N", help="The same seed gives the same result.")
resume = click.option(
    "--resume", is_flag=True, help="Go on with the interrupted run in --out, or start it if there is none."
)
wandb = click.option(
    "--wandb", metavar="PROJECT", help="Send the records to this project of Weights & Biases, too (bothways[wandb])."
)
chart = click.option(
    "--out", type=FILE, metavar="PAGE.html|.svg|.png", help="Draw the curves of all of them, on a page or as a picture."
)
along = click.option(
    "--x", type=click.Choice(["steps", "tokens", "seconds", "flops"]), default="steps", help="What the curves go along."
)
verify = click.option(
    "--no-verify",
    "verify",
    is_flag=True,
    callback=lambda _context, _parameter, given: not given,
    help="Load without comparing the files with their hashes.",
)
model = click.option(
    "--model",
    required=True,
    metavar="MODEL",
    help="A run, a model's folder, or owner/name[@revision] on the Hugging Face Hub.",
)
