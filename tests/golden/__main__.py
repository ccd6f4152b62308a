"""Compare the metrics with a file of reference values.

    python -m tests.golden CSV IMAGE_FOLDER

CSV has the columns triple, metric, variant and value; the folder holds, for a triple NAME_KIND,
NAME_ir.png, NAME_vi.png and NAME_f_KIND.png. Prints the worst relative error per metric and
variant. ``skimage`` as CSV takes the project's own values, and makes their images in the folder.

Exit status: 0 if every value is within its tolerance, 1 if not, 2 if nothing can be compared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fusionlib.errors import FusionError
from tests.golden import DEFINITIONS, SKIMAGE, compare, read_references, worst, write_images


def main(arguments: Sequence[str]) -> int:
    """Run the comparison; the exit status is in the module's text."""
    if len(arguments) != 2:
        print("usage: python -m tests.golden CSV IMAGE_FOLDER", file=sys.stderr)
        return 2
    csv, folder = arguments
    try:
        if csv == "skimage":
            csv = str(SKIMAGE)
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_images(folder)
        references = read_references(csv)
        comparisons = compare(references, folder)
    except (FusionError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    others = {*zip(references["metric"], references["variant"], strict=True)} - DEFINITIONS.keys()
    for metric, variant in sorted(others):
        print(f"not defined here, not compared: {metric} {variant}")
    if comparisons.empty:
        print(f"{csv} has no value that is defined here.", file=sys.stderr)
        return 2
    table = worst(comparisons)
    print(
        table.to_string(
            index=False,
            formatters=dict.fromkeys(("worst", "allowed"), "{:.1e}".format),
            justify="left",
        )
    )
    failed = table[table["worst"] > table["allowed"]]
    print(
        f"{len(comparisons)} values, {len(table)} variants, worst relative error "
        f"{table['worst'].max():.1e}; {len(failed)} variants beyond their tolerance"
    )
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
