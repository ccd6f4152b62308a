"""OMP-Box's OMP-Cholesky for one signal, number by number: the oracle of the pursuit's tests."""

from __future__ import annotations

import math

import numpy as np


def dot(x, y):
    """Four partial sums; the last one to four elements one by one."""
    products = [float(a) * float(b) for a, b in zip(x, y, strict=True)]
    sums = [0.0] * 4
    whole = (len(products) - 1) // 4 * 4
    for i in range(whole):
        sums[i % 4] += products[i]
    total = 0.0 + ((sums[0] + sums[1]) + (sums[2] + sums[3]))
    for product in products[whole:]:
        total += product
    return total


def pursue(atoms, signal, sparsity):
    """Return the picked columns of `atoms` and their coefficients."""
    columns = list(atoms.T)
    correlations = [dot(column, signal) for column in columns]
    start = list(correlations)
    picked, factor, values = [], [], []
    for _ in range(sparsity):
        squares = [value * value for value in correlations]
        best = squares.index(max(squares))
        if best in picked or squares[best] < 1e-14:
            break
        right = [dot(columns[i], columns[best]) for i in picked]
        row = _forward(factor, right)
        squared = 0.0  # not by `sum`, which since Python 3.12 makes up for rounding
        for value in row:
            squared += value * value
        rest = 1 - squared
        if picked and rest <= 1e-14:
            break
        factor.append([*row, math.sqrt(rest) if picked else 1.0])
        picked.append(best)
        values = _backward(factor, _forward(factor, [start[i] for i in picked]))
        total = [0.0] * len(signal)
        for i, value in zip(picked, values, strict=True):
            total = [t + float(a) * value for t, a in zip(total, columns[i], strict=True)]
        residual = [float(s) - t for s, t in zip(signal, total, strict=True)]
        correlations = [dot(column, residual) for column in columns]
    return np.array(picked, int), np.array(values)


def _forward(factor, right):
    solution = []
    for i, value in enumerate(right):
        for j in range(i):
            value -= factor[i][j] * solution[j]
        solution.append(value / factor[i][i])
    return solution


def _backward(factor, right):
    solution = list(right)
    for i in reversed(range(len(right))):
        value = right[i]
        for j in range(i + 1, len(right)):
            value -= factor[j][i] * solution[j]
        solution[i] = value / factor[i][i]
    return solution
