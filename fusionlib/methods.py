"""The methods: a network or classical code with its rule, weights, pre- and post-processing.

`create` gives a `Method` by name. The registry is what the modules in `fusionlib.networks` and
`fusionlib.classical` declare as ``METHOD``, so a new method is one new file.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import classical, networks
from .card import Card, Configuration, Identity, MethodSpec, WeightFile, WeightUser, WeightUsers
from .classical import Algorithm
from .errors import (
    FusionError,
    PairMismatch,
    UnknownName,
    WeightsMismatch,
    WeightsNotFound,
    unknown,
)
from .files import check_folder
from .images import (
    check_image,
    check_one_size,
    exact_levels,
    merge_luminance,
    quantise,
    require_gray,
)
from .networks.autoencoder import AutoEncoder
from .networks.network import FusionNetwork
from .pipelines import find_post
from .rules import Rule, get_rule
from .tiles import SAFE, Execution, check_device, check_execution, rule_weights, run_network
from .weights import (
    SUFFIXES,
    check_fit,
    digest,
    find_weights,
    load_into,
    read_weights,
    verify_weights,
)

if TYPE_CHECKING:
    import pandas as pd

    from .pairs import Pair

__all__ = [
    "Method",
    "create",
    "create_available",
    "find_method",
    "list_methods",
    "list_weights",
    "registry",
    "weight_users",
]


@functools.cache
def registry() -> dict[str, MethodSpec]:
    """Return every method's specification by name, in alphabetical order."""
    modules = (
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (networks, classical)
        for module in pkgutil.iter_modules(package.__path__)
    )
    specs = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    return {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}


def find_method(name: str) -> MethodSpec:
    """Return the method of that name.

    Raises
    ------
    UnknownName
        If there is none.
    """
    if name not in registry():
        raise unknown("method", name, registry())
    return registry()[name]


def list_methods() -> pd.DataFrame:
    """Return one row per method and configuration, for people and notebooks."""
    import pandas as pd

    return pd.DataFrame(
        {
            "method": spec.name,
            "variant or pipeline": name,
            "year": spec.year,
            "kind": spec.kind,
            "rules": ", ".join(configuration.rules) or configuration.own_rule,
            "post-processing": configuration.post,
            "weights": ", ".join(file.name for file in configuration.weights),
            "weights found": _count_found(configuration.weights),
            "summary": configuration.summary,
        }
        for spec in registry().values()
        for name, configuration in spec.configurations.items()
    )


def _count_found(files: tuple[WeightFile, ...]) -> str:
    if not files:
        return "none needed"
    return f"{sum(_weight_state(file, None)[0] == 'found' for file in files)} of {len(files)}"


def list_weights(
    weights_dir: str | os.PathLike[str] | None = None,
    *,
    verify: bool = False,
    users: WeightUsers | None = None,
) -> pd.DataFrame:
    """Return one row per weight set: name, method, state, licence, parameters, origin, path.

    Parameters
    ----------
    weights_dir : path, optional
        Where to look first.
    verify : bool
        Whether to read every file that is found and check its hash: the state is then
        "verified" or "damaged" instead of "found". Where no hash is known, it is loaded into
        its network: "fits, no hash known" or "does not fit".
    users : mapping, optional
        Weight sets and what they are for; by default those of the registered methods.

    Raises
    ------
    FusionError
        If there is no such folder.
    """
    import pandas as pd

    check_folder(weights_dir, "weights")
    rows = []
    for file, configurations in (users or weight_users()).items():
        any_of_them = next(iter(configurations.values()))
        state, path = _weight_state(file, weights_dir, any_of_them if verify else None)
        rows.append(
            {
                "name": file.name,
                "method": ", ".join(configurations),
                "state": state,
                "licence": file.licence,
                "parameters": file.parameters,
                "trained": file.trained,
                "origin": file.origin or file.made_by or "this project",
                "path": path,
            }
        )
    return pd.DataFrame(rows)


def weight_users() -> WeightUsers:
    """Return the methods' weight sets, each with the configuration it is for, by method.

    Several configurations, and several methods, may share a set.
    """
    users: WeightUsers = {}
    for spec in registry().values():
        for configuration in spec.configurations.values():
            for file in configuration.weights:
                users.setdefault(file, {})[spec.name] = configuration
    return users


def _weight_state(
    file: WeightFile,
    weights_dir: str | os.PathLike[str] | None,
    configuration: WeightUser | None = None,
) -> tuple[str, str]:
    """Find a file and, given a configuration that it is for, check what is in it."""
    try:
        path = find_weights(file, weights_dir)
    except WeightsNotFound:
        return "not found", ""
    if configuration is None:
        return "found", str(path)
    try:
        tensors = verify_weights(file, path)
    except WeightsMismatch:
        return "damaged", str(path)
    if file.digest:
        return "verified", str(path)
    try:
        check_fit(configuration, tensors, path)
    except WeightsMismatch:
        return "does not fit", str(path)
    return "fits, no hash known", str(path)


def create(
    name: str,
    *,
    rule: str | Rule | None = None,
    variant: str | None = None,
    pipeline: str | None = None,
    post: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    retrained: bool = False,
    device: str = "cpu",
    execution: Execution = SAFE,
) -> Method:
    """Create a method with its weights loaded, ready to fuse.

    Parameters
    ----------
    name : str
        A name from `list_methods`.
    rule : str or Rule, optional
        Fusion rule; by default the published one. Methods that learnt to fuse have none.
    variant, pipeline : str, optional
        The reading of the paper, or the published way of use; a method has one of the
        two. The default is the one that produced the published tables.
    post : str, optional
        Post-processing, as `fusionlib.pipelines.find_post` knows it: "minmax" stretches each image
        to 0..255, "clip" clips to 0..255, "stretch:0.5" is half way between, ...
    weights : str or path, optional
        Name of one of the method's weight sets, or a safetensors (or .npz) file of your own.
    weights_dir : path, optional
        Where to look for weights first.
    retrained : bool
        Whether weights that this project trained are taken where the default ones are missing. The
        card and every row of results name them.
    device : str
        "cpu", "cuda", ...; classical methods run on the CPU in any case.
    execution : Execution
        How the network is run: tiles, precision, threads.

    Raises
    ------
    UnknownName
        If the name of the method, rule, variant, pipeline or post-processing is unknown, or
        the method takes no rule or no weights.
    WeightsNotFound, WeightsMismatch
        If the weights are missing, damaged or do not fit. A dictionary of jsr and jsrsd must be
        one tensor ``dictionary`` (49, 256), its columns of norm 1.
    FusionError
        If there is no folder `weights_dir`, or the device cannot be used, or not in that way.
    """
    spec = find_method(name)
    key, configuration = _configuration(spec, variant, pipeline)
    if post is not None:
        find_post(post)
    check_device(device)
    check_execution(execution, device)
    fuser = _build(spec, configuration, rule)
    _check_owner(spec, key, weights)
    loaded = None
    if configuration.weights or weights is not None:
        check_folder(weights_dir, "weights")
        path, entry = _find(configuration, weights, weights_dir, retrained)
        state = verify_weights(entry, path) if entry else read_weights(path)
        load_into(configuration, fuser, state, path)
        # As in the file: that is what the registered digest is of.
        loaded = Loaded(path, entry, state)
    if isinstance(fuser, FusionNetwork):
        fuser = fuser.to(device)
    return Method(spec, key, fuser, post or configuration.post, loaded, execution)


def create_available(
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    execution: Execution = SAFE,
) -> tuple[list[Method], dict[str, str]]:
    """Create every method in its default configuration, with weights that are here.

    Parameters
    ----------
    weights_dir, device, execution
        As in `create`, with ``retrained=True``.

    Returns
    -------
    methods : list of Method
    missing : dict of str to str
        Method -> why it could not be created, and what to do. Damaged weights count, too: no
        others take their place.

    Raises
    ------
    FusionError
        If there is no such folder, or the device cannot be used.
    """
    methods: list[Method] = []
    missing: dict[str, str] = {}
    for name in registry():
        try:
            method = create(
                name, weights_dir=weights_dir, retrained=True, device=device, execution=execution
            )
        except (WeightsNotFound, WeightsMismatch) as error:
            missing[name] = str(error)
        else:
            methods.append(method)
    return methods, missing


def _build(
    spec: MethodSpec, configuration: Configuration, rule: str | Rule | None
) -> FusionNetwork | Algorithm:
    """Build a configuration's network or algorithm, with a rule if it takes one."""
    if configuration.rules:
        return configuration.build(get_rule(configuration.rules[0] if rule is None else rule))
    if rule is not None:
        raise UnknownName(
            f"{spec.title} has its own way to fuse ({configuration.own_rule}); it takes no rule "
            f"(given: {rule!r})."
        )
    return configuration.build()


def _check_owner(spec: MethodSpec, key: str, weights: str | os.PathLike[str] | None) -> None:
    """Say it if a weight set's name is one of another configuration."""
    owners = [
        name
        for name, configuration in spec.configurations.items()
        if str(weights) in {file.name for file in configuration.weights}
    ]
    if owners and key not in owners:
        raise UnknownName(
            f"the weights {weights!r} belong to the {spec.axis} {owners[0]!r} of {spec.name}, not "
            f"to {key!r}: add {spec.axis}={owners[0]!r}."
        )


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


def _find(
    configuration: Configuration,
    weights: str | os.PathLike[str] | None,
    weights_dir: str | os.PathLike[str] | None,
    retrained: bool,
) -> tuple[Path, WeightFile | None]:
    """Find weights; a file of the user's is no registered set."""
    files = configuration.weights
    if weights is None:
        asked = files[:1]
        if retrained:
            asked += tuple(file for file in files[1:] if file.packaged)
    else:
        asked = tuple(file for file in files if file.name == str(weights))
    if not asked:
        if isinstance(weights, str | os.PathLike) and Path(weights).suffix in SUFFIXES:
            return Path(weights), None
        known = [*(file.name for file in files), "a .safetensors or .npz file of your own"]
        raise unknown("weights", weights, known)
    missing: list[WeightsNotFound] = []
    for file in asked:
        try:
            return find_weights(file, weights_dir, alternatives=files), file
        except WeightsNotFound as error:
            missing.append(error)
    raise missing[0]


class Loaded(NamedTuple):
    """The weights that a method was created with: the registered set, if it is one."""

    path: Path
    entry: WeightFile | None
    state: dict[str, Tensor]


def _make_card(
    spec: MethodSpec, key: str, fuser: FusionNetwork | Algorithm, post: str, loaded: Loaded | None
) -> Card:
    configuration = spec.configurations[key]
    saved = {"round": "rounded", "truncate": "truncated"}[configuration.quantise]
    before = [configuration.prepare.summary, f"gray levels {configuration.levels}"]
    after = [f"{find_post(post).summary}, {saved} to 8 bits"]
    after.insert(configuration.chroma == "after", "chroma of the visible image")
    padded = f"; sides below {fuser.min_side} are padded" if fuser.min_side > 1 else ""
    rule = f"{fuser.rule.name}: {fuser.rule.summary}" if isinstance(fuser, AutoEncoder) else ""
    return Card(
        method=spec.title,
        paper=spec.paper,
        doi=spec.doi,
        year=spec.year,
        kind=spec.kind,
        licence=spec.licence,
        variant=f"{key}: {configuration.summary}",
        rule=rule or configuration.own_rule,
        **_weight_facts(fuser, loaded),
        preprocessing=f"{', '.join(filter(None, before))}; colour by its luminance Y",
        postprocessing="; ".join(after),
        size=fuser.size + padded,
    )


def _weight_facts(fuser: FusionNetwork | Algorithm, loaded: Loaded | None) -> dict[str, Any]:
    learnt = fuser.learnt if isinstance(fuser, Algorithm) else "none"
    entry = loaded.entry if loaded else None
    facts: dict[str, Any] = {
        "weights": learnt,
        "weights_trained": "none",
        "weights_sha256": "",
        "weights_licence": "none",
        "parameters": 0,
    }
    if loaded:
        trained = entry.trained if entry else "unknown"
        facts["weights"] = entry.name if entry else loaded.path.name
        facts["weights_trained"] = trained if learnt == "none" else f"{trained}; {learnt}"
        facts["weights_sha256"] = digest(loaded.state)
        facts["weights_licence"] = entry.licence if entry else "unknown"
        # Some files hold a few that the network never uses; papers count them.
        count = sum(tensor.numel() for tensor in loaded.state.values())
        facts["parameters"] = entry.parameters if entry else count
    return facts


class Method:
    """A fusion method, ready to use. Made by `create`.

    Attributes
    ----------
    name : str
        Registered name.
    network : nn.Module or None
        ``network(ir, vis)`` on (B, 1, H, W) tensors in the range that the card states; None for
        classical methods.
    rule : Rule or None
        The fusion rule in use; None if the method has its own way to fuse.
    post : str
        The post-processing in use.
    levels : Levels
        The values of black and white in the method's input and raw output.
    execution : Execution
        How the network is run.
    card : Card
        The facts about this method as it was created.
    """

    def __init__(
        self,
        spec: MethodSpec,
        key: str,
        fuser: FusionNetwork | Algorithm,
        post: str,
        loaded: Loaded | None,
        execution: Execution = SAFE,
    ) -> None:
        configuration = spec.configurations[key]
        self.name = spec.name
        self.execution = execution
        self.network = fuser if isinstance(fuser, FusionNetwork) else None
        self.rule = fuser.rule if isinstance(fuser, AutoEncoder) else None
        self.post = post
        self.levels = configuration.levels
        self.card = _make_card(spec, key, fuser, post, loaded)
        self._fuser = fuser
        self._key = key
        # Not the configuration itself, whose functions could not be sent to other processes.
        self._prepare = configuration.prepare
        self._quantise = configuration.quantise
        self._chroma = configuration.chroma
        self._rule_name = self.rule.name if self.rule else configuration.own_rule

    @property
    def identity(self) -> Identity:
        """What a row of results states about the method that produced it."""
        weights = "@".join(filter(None, (self.card.weights, self.card.weights_sha256[:8])))
        departure = self.execution.departure(self.network)
        variant = f"{self._key}, {departure}" if departure else self._key
        return Identity(self.name, variant, self._rule_name, self.post, weights)

    def __repr__(self) -> str:
        return (
            f"<Method {self.name} {self._key}, rule {self._rule_name}, post {self.post}, "
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
            Further gray images, for auto-encoders with a fusion rule.

        Returns
        -------
        ndarray of float32, shape of `vis`, values in [0, 1]
            The image that would be saved with 8 bits: exact multiples of 1/255.

        Raises
        ------
        ImageError
            If an image has a wrong type, range or number of channels.
        PairMismatch
            If the sizes differ, or the method fuses two images and more are given.
        """
        return self.finish(self.raw(ir, vis, *others), vis=vis)

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Fuse the images of a `fusionlib.Pair`; see `fuse`."""
        return self.fuse(pair.ir, pair.vis)

    def fuse_all(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """Fuse pairs one after the other, those of one size `Execution.batch` at a time.

        Parameters
        ----------
        pairs : iterable of (ir, vis)
            As `fuse` takes them; read as they are needed.

        Yields
        ------
        ndarray
            What `fuse` gives for each pair, in order; several at a time differ by rounding, which
            may move a level of 255.

        Raises
        ------
        ImageError, PairMismatch
            As `fuse` does, when it comes to the pair.
        MemoryError
            If a batch does not fit.
        """
        checked = ((vis, self._sources(ir, vis)) for ir, vis in pairs)
        size = self.execution.batch if self.network is not None else 1
        for _, group in itertools.groupby(checked, lambda pair: pair[1][0].shape):
            while some := list(itertools.islice(group, size)):
                raws = self._run_all([sources for _, sources in some])
                for (vis, _), raw in zip(some, raws, strict=True):
                    yield self.finish(raw, vis=vis)

    def raw(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Return the method's output before any post-processing.

        Parameters as in `fuse`; an RGB image enters by its luminance.

        Returns
        -------
        ndarray of float32, for classical methods of float64, shape (H, W)
            Between the levels of black and white that the card states, or outside: not clipped.
        """
        return self._run_all([self._sources(ir, vis, *others)])[0]

    def reconstruct(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image, without fusion, with the method's post-processing.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, 3)
            An RGB image enters by its luminance.

        Returns
        -------
        ndarray of float32, shape (H, W), exact multiples of 1/255.

        Raises
        ------
        FusionError
            If the network is no auto-encoder.
        """
        return self.finish(self.raw_reconstruction(image))

    def raw_reconstruction(self, image: np.ndarray) -> np.ndarray:
        """Return the decoder's output (H, W) for one image before any post-processing."""
        if not isinstance(self.network, AutoEncoder):
            raise FusionError(f"{self.name} is no auto-encoder: it cannot reconstruct one image.")
        return self._run_all([[self._prepare(check_image(image, "image"))]])[0]

    def finish(
        self, raw: np.ndarray, post: str | None = None, vis: np.ndarray | None = None
    ) -> np.ndarray:
        """Turn raw output into the 8-bit image that is saved, as the authors do.

        Parameters
        ----------
        raw : ndarray, shape (H, W)
            From `raw` or `raw_reconstruction`.
        post : str, optional
            As `fusionlib.pipelines.find_post` knows it, by default the method's own.
        vis : ndarray, shape (H, W) or (H, W, 3), optional
            The visible image, whose chroma the result gets.

        Returns
        -------
        ndarray of float32, shape (H, W) or of `vis`, exact multiples of 1/255.

        Raises
        ------
        UnknownName
            If there is no such post-processing.
        ImageError
            If `vis` cannot be used.
        FusionError
            If a value is not finite.
        """
        apply = find_post(post or self.post).apply
        if not np.isfinite(raw).all():
            raise FusionError("the raw output has values that are not finite.")
        colour = None if vis is None else check_image(vis, "visible image")
        if colour is not None and colour.ndim == 2:
            colour = None
        if colour is not None and self._chroma == "before":
            gray = np.clip(self.levels.unscale(raw), 0, 1)
            raw = self.levels.scale(merge_luminance(gray, colour))
        levels = apply(raw.astype(np.float64), self.levels)
        # In place: of a large image each copy takes half a GiB.
        np.clip(levels, 0, 255, out=levels)
        if self._quantise == "round":
            levels += 0.5
        image = np.floor(levels, out=levels).astype(np.float32)
        image /= np.float32(255)
        if colour is not None and self._chroma == "after":
            image = quantise(merge_luminance(image, colour)).astype(np.float32) / np.float32(255)
        return image

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
            If there is no rule, or it has no weights (addition, average, maximum).
        """
        if not isinstance(self.network, AutoEncoder):
            raise FusionError(f"{self.name} has its own way to fuse: it has no weight maps.")
        if self.network.rule.activity is None:
            raise FusionError(
                f"the rule {self._rule_name!r} has no weight maps; use l1_norm or mean."
            )
        tensors, crop = self.inputs(ir, vis, *others)
        weights = rule_weights(self.network, tensors, self.execution)
        return weights[:, :, 0, 0].cpu().numpy()[..., *crop]

    def inputs(
        self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray
    ) -> tuple[list[Tensor], tuple[slice, slice]]:
        """Return what the network is given, to run it or a part of it by oneself.

        Parameters as in `fuse`.

        Returns
        -------
        tensors : list of Tensor, shape (1, 1, H, W)
            In the network's levels, on its device; small images are padded.
        crop : (slice, slice)
            Where the images are in them.
        """
        padded, crop = self._padded(self._sources(ir, vis, *others))
        return self._tensors(padded), crop

    def _sources(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        """Check the images and prepare each, which makes it gray."""
        if others and not isinstance(self.network, AutoEncoder):
            raise PairMismatch(
                f"{self.name} fuses two images, {2 + len(others)} were given; "
                "auto-encoders with a rule, such as res2netfuse, take more."
            )
        sources = [
            require_gray(check_image(ir, "infrared image")),
            check_image(vis, "visible image"),
            *(require_gray(check_image(image, "image"), what="image") for image in others),
        ]
        check_one_size(sources, "the images to fuse")
        return [self._prepare(source) for source in sources]

    def _padded(self, sources: list[np.ndarray]) -> tuple[list[np.ndarray], tuple[slice, slice]]:
        """Repeat the borders of images that are too small; say where they are then."""
        height, width = sources[0].shape
        side = self._fuser.min_side
        crop = slice(0, height), slice(0, width)
        if min(height, width) >= side:
            return sources, crop
        grow = ((0, max(0, side - height)), (0, max(0, side - width)))
        return [np.pad(source, grow, mode="edge") for source in sources], crop

    def _tensors(self, sources: list[np.ndarray]) -> list[Tensor]:
        """Make tensors of the sources, one after the other, and empty the list.

        Of large images both would not fit into memory beside what the network needs.
        """
        assert self.network is not None
        device = next(self.network.parameters()).device
        tensors = []
        while sources:
            scaled = self.levels.scale(sources.pop(0))[None, None]
            tensors.append(torch.from_numpy(scaled).to(device))
        return tensors

    def _run_all(self, batch: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Fuse the sources of several pairs of one size; a network's are used up."""
        padded, (crop, *_) = zip(*map(self._padded, batch), strict=True)
        if isinstance(self._fuser, Algorithm):
            exact = [[self.levels.scale(exact_levels(image)) for image in some] for some in padded]
            return [self._fuser.fuse(*some)[crop] for some in exact]
        each = zip(*map(self._tensors, padded), strict=True)
        images = [torch.cat(some) if len(some) > 1 else some[0] for some in each]
        output = run_network(self._fuser, images, self.execution)[:, 0].cpu().numpy()
        if not np.isfinite(output).all():
            raise FusionError(
                f"{self.name} gave values that are not finite; its weights "
                f"({self.card.weights}) are unusable."
            )
        return [raw[crop] for raw in output]
