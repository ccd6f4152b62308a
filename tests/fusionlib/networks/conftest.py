"""One thread, and what the authors' code made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread: None) -> None:
    """Every network test runs on one thread."""


@pytest.fixture
def golden(golden_root: Path) -> Callable[[str], Mapping[str, np.ndarray]]:
    """Images by name of what the authors' code was given and what it made of them."""
    return lambda name: np.load(golden_root / "networks" / f"{name}.npz")
