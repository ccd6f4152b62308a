"""The papers' house: their tables, claims and trainings, with the library `fusionlib`.

Used from a clone of the repository: ``python -m reproduction``, ``make reproduce``, the notebooks.
"""

from pathlib import Path

#: The clone of the repository.
ROOT = Path(__file__).resolve().parent.parent
