"""How each method is trained: one module per method, followed by `reproduction.training`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from fusionlib.errors import unknown

if TYPE_CHECKING:
    from .recipe import Recipe

__all__ = ["RECIPES", "find_recipe"]

#: The methods that have a recipe, besides Res2NetFuse: every module but what they share.
RECIPES = tuple(
    module.name
    for module in pkgutil.iter_modules(__path__)
    if module.name not in ("recipe", "samples")
)


def find_recipe(method: str) -> type[Recipe]:
    """Return the recipe of a method.

    Raises
    ------
    UnknownName
        If there is none.
    """
    if method not in RECIPES:
        raise unknown("recipe", method, RECIPES)
    return importlib.import_module(f"{__name__}.{method}").RECIPE
