"""JSR: joint sparse representation, private parts weighted by their l1 norms.

Q. Zhang, Y. Fu, H. Li, J. Zou, "Dictionary learning method for joint sparse representation-based
image fusion", Optical Engineering 52(5), 2013, doi 10.1117/1.OE.52.5.057006; as distributed with
JSRSD (C. Liu, Y. Qi, W. Ding, 2017) and compared with in Res2NetFuse's Table IV.

`fusionlib.classical.sparse` says how patches are coded and put back. Of the codes, those common
to both images are kept; those private to one are multiplied by their l1 norm over the larger
of the two norms. The common atoms of the joint dictionary are D / sqrt 2, but the fused patch is
made with D: what is common comes out brighter by sqrt 2. The result saturates at black and white.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .dictionary import DictionarySource, FixedDictionary, LearntDictionaries, PublishedDictionaries
from .pursuit import Codes
from .sparse import JointSparseFusion, l1_norms, relative

__all__ = ["JSR", "METHOD", "dictionary_configurations"]


class JSR(JointSparseFusion):
    """The JSR method, on gray levels 0..1."""

    common = 1.0

    def weigh(self, codes: Codes, shape: tuple[int, int], rows: slice) -> np.ndarray:
        """Weigh the private parts by their l1 norms; see `JointSparseFusion.weigh`."""
        part = slice(rows.start * shape[1], rows.stop * shape[1])
        return relative(l1_norms(codes.part(part)))


def dictionary_configurations(
    build: Callable[[DictionarySource], JointSparseFusion], own_rule: str
) -> dict[str, Configuration]:
    """Make the configurations of a method that takes its dictionary from different places."""

    def configuration(summary: str, source: type[DictionarySource], *weights: str) -> Configuration:
        return Configuration(
            summary=summary,
            build=lambda: build(source()),
            own_rule=own_rule,
            weights=weight_files(*weights),
            levels=Levels(0, 1),
            post="clip",
            quantise="round",
        )

    return {
        "learnt": configuration(
            "the dictionary learnt from each pair, as published; kept in the cache",
            LearntDictionaries,
        ),
        "published": configuration(
            "the dictionaries that the authors published, for 11 pairs of TNO; learnt for others",
            PublishedDictionaries,
            "jsr_dictionaries",
        ),
        "fixed": configuration(
            "one dictionary for all pairs: quick, not as published",
            FixedDictionary,
            "jsr_dictionary_sample",
        ),
    }


METHOD = MethodSpec(
    name="jsr",
    title="JSR",
    paper="Zhang, Fu, Li and Zou, Dictionary learning method for joint sparse representation-based "
    "image fusion, Optical Engineering 52(5), 2013",
    doi="10.1117/1.OE.52.5.057006",
    year=2013,
    kind="sparse representation",
    licence="none stated",
    axis="pipeline",
    configurations=dictionary_configurations(JSR, "l1 norms of private codes"),
)
