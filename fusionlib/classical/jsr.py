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

from ..card import Configuration, MethodSpec, WeightFile
from ..pipelines import Levels
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


#: The authors' dictionaries, which JSRSD uses, too.
PUBLISHED = WeightFile(
    name="jsr_dictionaries",
    digest="8cb8c07fd9cd1128d6a32c056192b2f4c7e9f758c7c7cf4e86a79ae0b4244894",
    parameters=21 * 49 * 256,
    trained="by the authors, K-SVD, 50 iterations for each of 21 TNO pairs",
    licence="none stated",
    origin="github.com/thfylsty/Classic-and-state-of-the-art-image-fusion-methods @5d9457d "
    "JSR_Image_Fusion_Codes/JSR_Fusion/dictionary/D_unit7_im1.dat to D_unit7_im21.dat",
)
OURS = WeightFile(
    name="jsr_dictionary_sample",
    digest="3defa0301b350c40ca5eb3fe670429f51c4a5f0a6e02388cb0d9df5a7a337a19",
    parameters=49 * 256,
    trained="by this project, K-SVD, 50 iterations on the built-in sample",
    licence="MIT, this project",
)


def dictionary_configurations(
    build: Callable[[DictionarySource], JointSparseFusion], own_rule: str
) -> dict[str, Configuration]:
    """Make the configurations of a method that takes its dictionary from different places."""

    def configuration(
        summary: str, source: type[DictionarySource], *weights: WeightFile
    ) -> Configuration:
        return Configuration(
            summary=summary,
            build=lambda: build(source()),
            own_rule=own_rule,
            weights=weights,
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
            PUBLISHED,
        ),
        "fixed": configuration(
            "one dictionary for all pairs: quick, not as published",
            FixedDictionary,
            OURS,
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
