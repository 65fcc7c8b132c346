"""Recipes by name: each file of this folder has a table ``RECIPES`` of functions that return an ``Experiment``."""

from bothways import discover
from bothways.errors import unknown
from bothways.experiment import Experiment


def recipe_names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(name for module in discover.names("recipes") for name in discover.find("recipes", module).RECIPES)


def recipe(name: str) -> Experiment:
    """Return the experiment of that name, such as ``gpt-mini``.

    Raises:
        UserError: no recipe has that name; the message lists those that exist.
    """
    for module in discover.names("recipes"):
        recipes = discover.find("recipes", module).RECIPES
        if name in recipes:
            experiment: Experiment = recipes[name]()
            return experiment
    raise unknown("recipe", name, recipe_names())
