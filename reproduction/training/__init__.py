"""Training methods as their authors did: one loop, and one recipe per method.

`train` is all that most uses need. A method's losses, stages and published settings are its
recipe, a module here of the method's name.
"""

from .loop import Config, Training, check_seed, train, training_facts
from .recipe import RECIPES, find_recipe
from .res2netfuse import stable_after, training_psnr

__all__ = [
    "RECIPES",
    "Config",
    "Training",
    "check_seed",
    "find_recipe",
    "stable_after",
    "train",
    "training_facts",
    "training_psnr",
]
