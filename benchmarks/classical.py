"""Time of the classical methods, and of pursuing all patches together or one after the other.

Usage: python -m benchmarks.classical [--size 640x480] [--patches 3000]

Prints the seconds of each method on one pair, with its dictionary given; then the
microseconds per pair of patches of `JointPursuit` and of two loops over single ones: the textbook
(least squares over the picked atoms) and `JointPursuit` itself with one signal at a time; and
whether they give the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

import fusionlib as fl
from benchmarks.sample import enlarged
from fusionlib.classical.dictionary import columns, patches
from fusionlib.classical.pursuit import SPARSITY, Codes, JointPursuit
from fusionlib.images import luminance
from fusionlib.methods import registry
from fusionlib.weights import find_weights, read_weights

Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Run a call; return its result and its seconds."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def given_dictionary() -> np.ndarray:
    """Return the dictionary of this project."""
    (entry,) = registry()["jsr"].configurations["fixed"].weights
    return read_weights(find_weights(entry))["dictionary"].numpy()


def textbook(dictionary: np.ndarray, signal: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Pursue one pair of patches: the best atom, least squares, the residual, again."""
    none, common = np.zeros_like(dictionary), dictionary / np.sqrt(2)
    joint = np.block([[common, dictionary, none], [common, none, dictionary]])
    picked: list[int] = []
    residual, values = signal, np.zeros(0)
    for _ in range(SPARSITY):
        picked.append(int(np.abs(residual @ joint).argmax()))
        values = np.linalg.lstsq(joint[:, picked], signal)[0]
        residual = signal - joint[:, picked] @ values
    return picked, values


def compare_pursuits(signals: np.ndarray) -> None:
    """Print the three times and how the results agree."""
    dictionary, count = given_dictionary(), signals.shape[1]
    pursuit = JointPursuit(dictionary)

    def together() -> Codes:
        return pursuit.code(lambda part: signals[:, part], count)

    def one_by_one() -> list[Codes]:
        return [pursuit.code(lambda _, i=i: signals[:, i : i + 1], 1) for i in range(count)]

    together()  # warms up
    codes, ours = timed(together)
    loop, plain = timed(lambda: [textbook(dictionary, signal) for signal in signals.T])
    single, alone = timed(one_by_one)
    print(f"\n{count} pairs of patches, {dictionary.shape[1]} atoms, {SPARSITY} per pair")
    for label, seconds in (("together", ours), ("textbook", plain), ("one by one", alone)):
        print(f"{label:<12}{1e6 * seconds / count:9.1f} us each{seconds / ours:8.1f} times")
    same = [codes.atoms[:, i].tolist() == loop[i][0] for i in range(count)]
    apart = max(
        float(np.abs(codes.values[:, i] - loop[i][1]).max()) for i in range(count) if same[i]
    )
    print(
        f"textbook: the same atoms for {sum(same)} of {count} (else a tie fell otherwise), their "
        f"coefficients to {apart:.1e}"
    )
    equal = all(
        np.array_equal(codes.atoms[:, i : i + 1], one.atoms)
        and np.array_equal(codes.values[:, i : i + 1], one.values)
        for i, one in enumerate(single)
    )
    print(f"one by one: {'every bit equal' if equal else 'DIFFERENT'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--patches", type=int, default=3000)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    pair = enlarged("day_street", (width, height))
    print(f"{width}x{height}")
    for name in ("mst", "dchwt", "jsr", "jsrsd"):
        fixed = {"pipeline": "fixed"} if name.startswith("jsr") else {}
        method = fl.create(name, **fixed)
        if not fixed:
            method.fuse_pair(pair)  # warms up
        _, seconds = timed(lambda method=method: method.fuse_pair(pair))
        print(f"{name:<8}{seconds:9.3f} s", flush=True)
    grids = [patches(image.astype(np.float64)) for image in (pair.ir, luminance(pair.vis))]
    every = np.linspace(0, grids[0].shape[0] * grids[0].shape[1] - 1, options.patches).astype(int)
    singles = [[columns(grid, slice(i, i + 1)) for i in every] for grid in grids]
    compare_pursuits(np.vstack([np.hstack(each) for each in singles]))


if __name__ == "__main__":
    main()
