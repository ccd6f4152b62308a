"""Pairs of the built-in sample in any size."""

from __future__ import annotations

import cv2

import fusionlib as fl


def enlarged(name: str, size: tuple[int, int]) -> fl.Pair:
    """Return a scene of the sample, resized to (width, height)."""
    pair = fl.load_dataset("sample")[name]
    return fl.Pair(name, cv2.resize(pair.ir, size), cv2.resize(pair.vis, size))
