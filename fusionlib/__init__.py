"""fusionlib: reproducible infrared-visible and medical image fusion. ::

    import fusionlib as fl

    pair = fl.read_pair("ir.png", "vis.png")
    fused = fl.create("res2netfuse", rule="mean").fuse(pair.ir, pair.vis)
    scores = fl.evaluate(fused, pair.ir, pair.vis, metrics="res2netfuse")

The names are in ``__init__.pyi``. They are loaded when they are first used, so that ``import
fusionlib`` stays fast and PyTorch is imported only where a network is.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
