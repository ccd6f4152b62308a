"""Readings of MST, and how far each is from the rows that RefineFuse prints.

Usage: python -m benchmarks.mst [--every 1] [-o READINGS.csv]

No code of MST was released. Each reading is fused and scored on the data sets of RefineFuse's
Tables 1 (MSRS) and 3 (TNO), or on every n-th of their pairs; the table says how far each mean is
from the print, in percent.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

import fusionlib as fl
from fusionlib.classical.mst import MST
from fusionlib.files import write_text
from fusionlib.images import exact_levels, luminance
from reproduction.papers import paper_values

SETS = {"refinefuse_01": "msrs", "refinefuse_03": "tno42"}

#: Levels, regularisation and the image that decides: around the one that was chosen.
READINGS = [
    *((levels, 10.0, target) for target in ("ir", "vis") for levels in (1, 2, 3, 4)),
    *((1, value, target) for target in ("ir", "vis") for value in (5.0, 20.0)),
]


def score(reading: MST, pair: fl.Pair) -> dict[str, float]:
    """Fuse a pair and score it by the columns of RefineFuse."""
    raw = reading.fuse(*(exact_levels(x) * 255 for x in (pair.ir, luminance(pair.vis))))
    fused = np.floor(np.clip(raw, 0, 255) + 0.5).astype(np.float32) / np.float32(255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fl.MetricWarning)
        return fl.evaluate(fused, pair.ir, luminance(pair.vis), metrics="refinefuse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="of so many pairs one")
    parser.add_argument("-o", "--output", type=Path, help="a CSV")
    options = parser.parse_args()
    rows = []
    for table, name in SETS.items():
        printed = paper_values(table).query("row == 'MST'").set_index("metric")["paper"]
        pairs = fl.load_dataset(name)
        chosen = [pairs[i] for i in range(0, len(pairs), options.every)]
        for levels, regularisation, target in tqdm(READINGS, desc=name):
            reading = MST(target == "vis", levels, regularisation)
            means = pd.DataFrame([score(reading, pair) for pair in chosen]).mean()
            away = (means[printed.index] / printed - 1) * 100
            facts = {"data set": name, "pairs": len(chosen), "levels": levels}
            facts |= {"regularisation": regularisation, "decides": target}
            rows.append(facts | away.round(2).to_dict() | {"mean": away.abs().mean().round(2)})
    frame = pd.DataFrame(rows)
    print("difference from the print in percent; the last column is the mean of the magnitudes")
    print(frame.to_string(index=False))
    if options.output:
        write_text(options.output, frame.to_csv(index=False))


if __name__ == "__main__":
    main()
