"""The methods: a network or classical code with its rule, weights, pre- and post-processing.

`create` gives a `Method` by name. The registry is what the modules in
`fusionlib.networks` declare as ``METHOD``, so a new method is one new file.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from . import networks
from .card import Card, Configuration, Identity, MethodSpec, WeightFile
from .errors import (
    FusionError,
    UnknownName,
    WeightsMismatch,
    WeightsNotFound,
    unknown,
)
from .execution import check_device, rule_weights, run_network
from .images import (
    check_image,
    check_one_size,
    luminance,
    merge_luminance,
    quantise,
    require_gray,
)
from .networks.autoencoder import AutoEncoder
from .rules import Rule, get_rule
from .weights import digest, find_weights, load_state, read_weights, verify_weights

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["POSTS", "Method", "create", "list_methods", "list_weights", "registry"]

POSTS = ("minmax", "clip")


@functools.cache
def registry() -> dict[str, MethodSpec]:
    """Return every method's specification by name, in alphabetical order."""
    modules = (
        importlib.import_module(f"{networks.__name__}.{module.name}")
        for module in pkgutil.iter_modules(networks.__path__)
    )
    specs = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    return {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}


def list_methods() -> pd.DataFrame:
    """Return one row per method and configuration, for people and notebooks."""
    import pandas as pd

    rows = [
        {
            "method": spec.name,
            spec.axis: name,
            "year": spec.year,
            "kind": spec.kind,
            "rules": ", ".join(configuration.rules),
            "post-processing": configuration.post,
            "weights": ", ".join(file.name for file in configuration.weights),
            "weights found": _count_found(configuration.weights),
            "summary": configuration.summary,
        }
        for spec in registry().values()
        for name, configuration in spec.configurations.items()
    ]
    frame = pd.DataFrame(rows)
    axes = [axis for axis in ("variant", "pipeline") if axis in frame]
    frame.insert(1, "variant or pipeline", frame[axes].bfill(axis=1).iloc[:, 0])
    return frame.drop(columns=axes)


def _count_found(files: tuple[WeightFile, ...]) -> str:
    states = [_weight_state(file, None, verify=False)[0] for file in files]
    return f"{states.count('found')} of {len(files)}"


def list_weights(
    weights_dir: str | os.PathLike[str] | None = None, *, verify: bool = False
) -> pd.DataFrame:
    """Return one row per weight set: name, method, state, licence, parameters, origin, path.

    Parameters
    ----------
    weights_dir : path, optional
        Where to look first.
    verify : bool
        Whether to read every file that is found and check its hash: the state is then
        "verified" or "damaged" instead of "found".
    """
    import pandas as pd

    rows = []
    for spec in registry().values():
        for configuration in spec.configurations.values():
            for file in configuration.weights:
                state, path = _weight_state(file, weights_dir, verify=verify)
                rows.append(
                    {
                        "name": file.name,
                        "method": spec.name,
                        "state": state,
                        "licence": file.licence,
                        "parameters": file.parameters,
                        "trained": file.trained,
                        "origin": file.origin or "this project",
                        "path": path,
                    }
                )
    return pd.DataFrame(rows)


def _weight_state(
    file: WeightFile, weights_dir: str | os.PathLike[str] | None, *, verify: bool
) -> tuple[str, str]:
    try:
        path = find_weights(file, weights_dir)
    except WeightsNotFound:
        return "not found", ""
    if not verify:
        return "found", str(path)
    try:
        verify_weights(file, path)
    except WeightsMismatch:
        return "damaged", str(path)
    return "verified", str(path)


def create(
    name: str,
    *,
    rule: str | Rule | None = None,
    variant: str | None = None,
    pipeline: str | None = None,
    post: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> Method:
    """Create a method with its weights loaded, ready to fuse.

    Parameters
    ----------
    name : str
        A name from `list_methods`.
    rule : str or Rule, optional
        Fusion rule; by default the published one.
    variant, pipeline : str, optional
        The reading of the paper, or the published way of use; a method has one of the
        two. The default is the one that produced the published tables.
    post : {"minmax", "clip"}, optional
        Post-processing: stretch each image to 0..255, or clip to 0..255.
    weights : str or path, optional
        Name of one of the method's weight sets, or a safetensors file of your own.
    weights_dir : path, optional
        Where to look for weights first.
    device : str
        "cpu", "cuda", ...

    Raises
    ------
    UnknownName
        If the name of the method, rule, variant, pipeline or post-processing is unknown.
    WeightsNotFound, WeightsMismatch
        If the weights are missing, damaged or do not fit.
    FusionError
        If the device cannot be used.
    """
    specs = registry()
    if name not in specs:
        raise unknown("method", name, specs)
    spec = specs[name]
    key, configuration = _configuration(spec, variant, pipeline)
    _check_post(post)
    check_device(device)
    chosen_rule = get_rule(rule or configuration.rules[0])
    network = configuration.build(chosen_rule)
    for other, theirs in spec.configurations.items():
        if other != key and str(weights) in {file.name for file in theirs.weights}:
            raise UnknownName(
                f"the weights {weights!r} belong to the {spec.axis} {other!r} of {name}, not to "
                f"{key!r}: add {spec.axis}={other!r}."
            )
    path, entry, state = _state(configuration, weights, weights_dir)
    adapted = configuration.adapt(state) if configuration.adapt else state
    load_state(network, adapted, path)
    return Method(
        spec,
        key,
        network.to(device),
        post or configuration.post,
        weights=(path, entry, digest(state)),
    )


def _check_post(post: str | None) -> None:
    if post is not None and post not in POSTS:
        raise unknown("post-processing", post, POSTS)


def _configuration(
    spec: MethodSpec, variant: str | None, pipeline: str | None
) -> tuple[str, Configuration]:
    given = {"variant": variant, "pipeline": pipeline}
    key = given.pop(spec.axis)
    (other, value), *_ = given.items()
    if value is not None:
        raise UnknownName(
            f"{spec.name} has no {other}s (given: {value!r}); it has {spec.axis}s: "
            f"{', '.join(spec.configurations)}."
        )
    if key is None:
        key = next(iter(spec.configurations))
    if key not in spec.configurations:
        raise unknown(f"{spec.axis} of {spec.name}", key, spec.configurations)
    return key, spec.configurations[key]


def _state(
    configuration: Configuration,
    weights: str | os.PathLike[str] | None,
    weights_dir: str | os.PathLike[str] | None,
) -> tuple[Path, WeightFile | None, dict[str, Tensor]]:
    """Find and read weights; a registered set is verified, a file of the user's is not.

    The tensors are as in the file: that is what the registered digest is of.
    """
    registered = {file.name: file for file in configuration.weights}
    if weights is None:
        weights = configuration.weights[0].name
    if str(weights) in registered:
        entry = registered[str(weights)]
        path = find_weights(entry, weights_dir)
        state = verify_weights(entry, path)
    elif Path(weights).suffix == ".safetensors":
        entry, path = None, Path(weights)
        state = read_weights(path)
    else:
        raise unknown("weights", weights, [*registered, "a .safetensors file of your own"])
    return path, entry, state


class Method:
    """A fusion method, ready to use. Made by `create`.

    Attributes
    ----------
    name : str
        Registered name.
    network : nn.Module
        ``network(ir, vis)`` on (B, 1, H, W) tensors in the range that the card states.
    rule : Rule
        The fusion rule in use.
    post : str
        The post-processing in use.
    card : Card
        The facts about this method as it was created.
    """

    def __init__(
        self,
        spec: MethodSpec,
        key: str,
        network: AutoEncoder,
        post: str,
        *,
        weights: tuple[Path, WeightFile | None, str],
    ) -> None:
        self.name = spec.name
        self.network = network
        self.rule = network.rule
        self.post = post
        self._key = key
        self._configuration = spec.configurations[key]
        self._device = next(network.parameters()).device
        self.card = self._make_card(spec, key, *weights)

    @property
    def identity(self) -> Identity:
        """What a row of results states about the method that produced it."""
        weights = f"{self.card.weights}@{self.card.weights_sha256[:8]}"
        return Identity(self.name, self._key, self.rule.name, self.post, weights)

    def __repr__(self) -> str:
        return (
            f"<Method {self.name} {self._key}, rule {self.rule.name}, post {self.post}, "
            f"weights {self.card.weights}>"
        )

    def fuse(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Fuse a pair, or more images of the same scene.

        Parameters
        ----------
        ir : ndarray, shape (H, W)
            Infrared image: uint8, uint16 or float in [0, 1].
        vis : ndarray, shape (H, W) or (H, W, 3)
            Visible image. The luminance of an RGB image is fused and its chroma kept.
        *others : ndarray, shape (H, W)
            Further gray images.

        Returns
        -------
        ndarray of float32, shape of `vis`, values in [0, 1]
            The image that would be saved with 8 bits: exact multiples of 1/255.

        Raises
        ------
        ImageError
            If an image has a wrong type, range or number of channels.
        PairMismatch
            If the sizes differ.
        """
        sources = self._sources(ir, vis, *others)
        gray = self.finish(self._run(sources))
        colour = check_image(vis, "visible image")
        if colour.ndim == 2:
            return gray
        return quantise(merge_luminance(gray, colour)).astype(np.float32) / np.float32(255)

    def raw(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Return the network's output before any post-processing.

        Parameters as in `fuse`; an RGB image enters by its luminance.

        Returns
        -------
        ndarray of float32, shape (H, W)
            In the range that the card states, not clipped.
        """
        return self._run(self._sources(ir, vis, *others))

    def reconstruct(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image, without fusion, with the method's post-processing.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, 3)
            An RGB image enters by its luminance.

        Returns
        -------
        ndarray of float32, shape (H, W), exact multiples of 1/255.
        """
        return self.finish(self.raw_reconstruction(image))

    def raw_reconstruction(self, image: np.ndarray) -> np.ndarray:
        """Return the decoder's output (H, W) for one image before any post-processing."""
        return self._run([luminance(check_image(image, "image"))])

    def finish(self, raw: np.ndarray, post: str | None = None) -> np.ndarray:
        """Turn raw output (H, W) into the 8-bit image that is saved, as the authors do.

        Parameters
        ----------
        raw : ndarray of float32, shape (H, W)
            From `raw` or `raw_reconstruction`.
        post : {"minmax", "clip"}, optional
            By default the method's own.

        Returns
        -------
        ndarray of float32, shape (H, W), exact multiples of 1/255.

        Raises
        ------
        UnknownName
            If there is no such post-processing.
        """
        _check_post(post)
        levels = raw.astype(np.float64) * (255 / self._configuration.scale)
        low, high = levels.min(), levels.max()
        # A constant image cannot be stretched; it keeps its gray level.
        if (post or self.post) == "minmax" and high > low:
            levels = (levels - low) / (high - low) * 255
        levels = np.clip(levels, 0, 255)
        if self._configuration.quantise == "round":
            levels = levels + 0.5
        return np.floor(levels).astype(np.float32) / np.float32(255)

    def weight_maps(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Return the weights that the rule gives the images.

        Returns
        -------
        ndarray of float32, shape (K, groups, H, W)
            For K images; groups is 1, or the number of scales of a multi-scale network.
            The weights of the K images sum to 1.

        Raises
        ------
        FusionError
            If the rule has no weights (addition, average, maximum).
        """
        if self.rule.activity is None:
            raise FusionError(
                f"the rule {self.rule.name!r} has no weight maps; use l1_norm or mean."
            )
        tensors, crop = self._tensors(self._sources(ir, vis, *others))
        return rule_weights(self.network, tensors)[:, :, 0, 0].cpu().numpy()[..., *crop]

    def _sources(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        """Check the images and bring each to gray."""
        sources = [
            require_gray(check_image(ir, "infrared image")),
            luminance(check_image(vis, "visible image")),
            *(require_gray(check_image(image, "image"), what="image") for image in others),
        ]
        check_one_size(sources, "the images to fuse")
        return sources

    def _tensors(self, sources: list[np.ndarray]) -> tuple[list[Tensor], tuple[slice, slice]]:
        """Scale to the network's range; pad images that are too small for its padding."""
        height, width = sources[0].shape
        side = self.network.min_side
        grow = ((0, max(0, side - height)), (0, max(0, side - width)))
        tensors = [
            torch.from_numpy(np.pad(source, grow, mode="edge"))[None, None].to(self._device)
            * self._configuration.scale
            for source in sources
        ]
        return tensors, (slice(0, height), slice(0, width))

    def _run(self, sources: list[np.ndarray]) -> np.ndarray:
        tensors, crop = self._tensors(sources)
        output = run_network(self.network, tensors)[0, 0].cpu().numpy()[crop]
        if not np.isfinite(output).all():
            raise FusionError(
                f"{self.name} gave values that are not finite; its weights "
                f"({self.card.weights}) are unusable."
            )
        return output

    def _make_card(
        self, spec: MethodSpec, key: str, path: Path, entry: WeightFile | None, found: str
    ) -> Card:
        configuration = self._configuration
        saved = {"round": "rounded", "truncate": "truncated"}[configuration.quantise]
        ends = {"minmax": "stretched per image to 0..255", "clip": "clipped to 0..255"}
        return Card(
            method=spec.title,
            paper=spec.paper,
            doi=spec.doi,
            year=spec.year,
            kind=spec.kind,
            licence=spec.licence,
            variant=f"{key}: {configuration.summary}",
            rule=f"{self.rule.name}: {self.rule.summary}",
            weights=entry.name if entry else path.name,
            weights_trained=entry.trained if entry else "unknown",
            weights_sha256=found,
            weights_licence=entry.licence if entry else "unknown",
            parameters=sum(p.numel() for p in self.network.parameters()),
            preprocessing=f"gray levels 0..{configuration.scale:g}; colour by its luminance Y",
            postprocessing=f"{ends[self.post]}, {saved} to 8 bits; chroma of the visible image",
            size=f"any; sides below {self.network.min_side} are padded"
            if self.network.min_side > 1
            else "any",
        )
