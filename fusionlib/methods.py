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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from .networks.network import AutoEncoder, FusionNetwork
from .pipelines import find_post
from .rules import Rule, get_rule
from .tiles import SAFE, Execution, check_device, check_execution, rule_weights, run_network
from .weights import SUFFIXES, check_fit, digest, find_weights, load_into, verify_weights

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
    """Return the specification of the method of that name."""
    if name not in registry():
        raise unknown("method", name, registry())
    return registry()[name]


# ---------------------------------------------------------------- lists


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
    """
    import pandas as pd

    check_folder(weights_dir, "weights")
    rows = []
    for file, of in (users or weight_users()).items():
        path = _path(file, weights_dir)
        state = "found" if path else "not found"
        if path and verify:
            state = _verified(file, path, next(iter(of.values())))
        rows.append(
            {
                "name": file.name,
                "method": ", ".join(of),
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
    """Return the methods' weight sets, each with a configuration that it is for, by method."""
    users: WeightUsers = {}
    for spec in registry().values():
        for configuration in spec.configurations.values():
            for file in configuration.weights:
                users.setdefault(file, {})[spec.name] = configuration
    return users


def _count_found(files: Sequence[WeightFile]) -> str:
    here = [file for file in files if _path(file)]
    return f"{len(here)} of {len(files)}" if files else "none needed"


def _path(file: WeightFile, weights_dir: str | os.PathLike[str] | None = None) -> str:
    try:
        return str(find_weights(file, weights_dir))
    except WeightsNotFound:
        return ""


def _verified(file: WeightFile, path: str, user: WeightUser) -> str:
    """Say what reading a file shows."""
    try:
        tensors = verify_weights(file, path)
    except WeightsMismatch:
        return "damaged"
    if file.digest:
        return "verified"
    try:
        check_fit(user, tensors, path)
    except WeightsMismatch:
        return "does not fit"
    return "fits, no hash known"


# ---------------------------------------------------------------- creation


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
        As `list_methods` has it.
    rule : str or Rule, optional
        By default the published one. Methods that learnt to fuse have none.
    variant, pipeline : str, optional
        The reading of the paper, or the published way of use; a method has one of the
        two. The default is the one that produced the published tables.
    post : str, optional
        Post-processing, see `fusionlib.pipelines.find_post`: "minmax" stretches each image
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
    key = _key_of(spec, {"variant": variant, "pipeline": pipeline})
    configuration = spec.configurations[key]
    post = configuration.post if post is None else post
    find_post(post)
    check_device(device)
    check_execution(execution, device)
    fuser = _build(spec, configuration, rule)
    loaded = None
    if configuration.weights or weights is not None:
        check_folder(weights_dir, "weights")
        path, entry = _find(spec, key, weights, weights_dir, retrained)
        state = verify_weights(entry, path)
        load_into(configuration, fuser, state, path)
        loaded = entry, state
    card = _card(spec, key, fuser, post, loaded)
    if isinstance(fuser, FusionNetwork):
        fuser = fuser.to(device)
    return Method(name, key, fuser, post, card, execution)


def create_available(
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    execution: Execution = SAFE,
) -> tuple[list[Method], dict[str, str]]:
    """Create every method in its default configuration, with ``retrained=True``.

    Returns
    -------
    methods : list of Method
        Those whose weights are here.
    missing : dict of str to str
        Of the others: why, and what to do. Damaged weights count, too: no others take their place.
    """
    options: dict[str, Any] = {"weights_dir": weights_dir, "device": device, "retrained": True}
    methods: list[Method] = []
    missing: dict[str, str] = {}
    for name in registry():
        try:
            methods.append(create(name, execution=execution, **options))
        except (WeightsNotFound, WeightsMismatch) as error:
            missing[name] = str(error)
    return methods, missing


def _key_of(spec: MethodSpec, asked: dict[str, str | None]) -> str:
    """Return the name of the configuration that is asked for."""
    key = asked.pop(spec.axis)
    ((other, value),) = asked.items()
    if value is not None:
        raise UnknownName(
            f"{spec.name} has no {other}s (given: {value!r}); it has {spec.axis}s: "
            f"{', '.join(spec.configurations)}."
        )
    if key is None:
        return next(iter(spec.configurations))
    if key not in spec.configurations:
        raise unknown(f"{spec.axis} of {spec.name}", key, spec.configurations)
    return key


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


def _find(
    spec: MethodSpec,
    key: str,
    weights: str | os.PathLike[str] | None,
    weights_dir: str | os.PathLike[str] | None,
    retrained: bool,
) -> tuple[Path, WeightFile]:
    """Find weights and what is known of them, which is nothing of a file of the user's."""
    files = spec.configurations[key].weights
    if weights is None:
        asked = [*files[:1], *(file for file in files[1:] if retrained and file.packaged)]
    else:
        asked = [file for file in files if file.name == str(weights)]
    missing: list[WeightsNotFound] = []
    for file in asked:
        try:
            return find_weights(file, weights_dir, alternatives=files), file
        except WeightsNotFound as error:
            missing.append(error)
    if missing:
        raise missing[0]
    for owner, configuration in spec.configurations.items():
        if str(weights) in {file.name for file in configuration.weights}:
            raise UnknownName(
                f"the weights {weights!r} belong to the {spec.axis} {owner!r} of {spec.name}, not "
                f"to {key!r}: add {spec.axis}={owner!r}."
            )
    if isinstance(weights, str | os.PathLike) and Path(weights).suffix in SUFFIXES:
        path = Path(weights)
        return path, WeightFile(path.name, "", 0, "unknown", "unknown")
    known = [*(file.name for file in files), "a .safetensors or .npz file of your own"]
    raise unknown("weights", weights, known)


def _card(
    spec: MethodSpec,
    key: str,
    fuser: FusionNetwork | Algorithm,
    post: str,
    loaded: tuple[WeightFile, dict[str, Tensor]] | None,
) -> Card:
    configuration = spec.configurations[key]
    saved = {"round": "rounded", "truncate": "truncated"}[configuration.quantise]
    before = [configuration.prepare.summary, f"gray levels {configuration.levels}"]
    after = [f"{find_post(post).summary}, {saved} to 8 bits"]
    after.insert(configuration.chroma == "after", "chroma of the visible image")
    padded = f"; sides below {fuser.min_side} are padded" if fuser.min_side > 1 else ""
    rule = f"{fuser.rule.name}: {fuser.rule.summary}" if isinstance(fuser, AutoEncoder) else ""
    learnt = fuser.learnt if isinstance(fuser, Algorithm) else "none"
    facts: dict[str, Any] = {"weights": learnt}
    if loaded:
        entry, state = loaded
        facts = {
            "weights": entry.name,
            "weights_trained": entry.trained if learnt == "none" else f"{entry.trained}; {learnt}",
            "weights_sha256": digest(state),  # of the file's tensors, as the registered one
            "weights_licence": entry.licence,
            # Some files hold a few that the network never uses; papers count them.
            "parameters": entry.parameters or sum(tensor.numel() for tensor in state.values()),
        }
    for name in ("paper", "doi", "year", "kind", "licence"):
        facts[name] = getattr(spec, name)
    return Card(
        method=spec.title,
        variant=f"{key}: {configuration.summary}",
        rule=rule or configuration.own_rule,
        **facts,
        preprocessing=f"{', '.join(filter(None, before))}; colour by its luminance Y",
        postprocessing="; ".join(after),
        size=fuser.size + padded,
    )


# ---------------------------------------------------------------- methods


class Method:
    """A fusion method, ready to use. Made by `create`.

    Everywhere, images are uint8, uint16 or float in [0, 1]: `ir`, the infrared one, (H, W); `vis`,
    the visible one, (H, W) or (H, W, 3), of which an RGB image enters by its luminance; `others`
    are further gray images of the same scene, for auto-encoders with a fusion rule. One of a wrong
    type, range or number of channels raises `ImageError`; other sizes, or more images than the
    method fuses, raise `PairMismatch`.

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
        name: str,
        key: str,
        fuser: FusionNetwork | Algorithm,
        post: str,
        card: Card,
        execution: Execution = SAFE,
    ) -> None:
        self.name = name
        self.network = fuser if isinstance(fuser, FusionNetwork) else None
        self.rule = fuser.rule if isinstance(fuser, AutoEncoder) else None
        self.post = post
        self.levels = registry()[name].configurations[key].levels
        self.execution = execution
        self.card = card
        self._key = key
        self._fuser = fuser

    @property
    def _configuration(self) -> Configuration:
        # Looked up, since its functions could not be sent to other processes.
        return registry()[self.name].configurations[self._key]

    @property
    def identity(self) -> Identity:
        """What a row of results states about the method that produced it."""
        weights = "@".join(filter(None, (self.card.weights, self.card.weights_sha256[:8])))
        departure = self.execution.departure(self.network)
        variant = f"{self._key}, {departure}" if departure else self._key
        rule = self.rule.name if self.rule else self._configuration.own_rule
        return Identity(self.name, variant, rule, self.post, weights)

    def __repr__(self) -> str:
        return (
            f"<Method {self.name} {self._key}, rule {self.identity.rule}, post {self.post}, "
            f"weights {self.card.weights}>"
        )

    def fuse(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Fuse a pair, or more images of the same scene.

        Returns
        -------
        ndarray of float32, shape of `vis`, values in [0, 1]
            The image that would be saved with 8 bits: exact multiples of 1/255. Chroma is that
            of `vis`.
        """
        return self.finish(self.raw(ir, vis, *others), vis=vis)

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Fuse the images of a `fusionlib.Pair`; see `fuse`."""
        return self.fuse(pair.ir, pair.vis)

    def fuse_all(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """Fuse pairs (ir, vis), read as they are needed; those of one size in batches.

        Yields
        ------
        ndarray
            What `fuse` gives for each pair, in order; several at a time, `Execution.batch`, differ
            by rounding, which may move a level of 255.
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

        Returns
        -------
        ndarray of float32, for classical methods of float64, shape (H, W)
            Between the levels of black and white that the card states, or outside: not clipped.
        """
        return self._run_all([self._sources(ir, vis, *others)])[0]

    def reconstruct(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image, gray or RGB, with the method's post-processing.

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
        return self._run_all([[self._configuration.prepare(check_image(image, "image"))]])[0]

    def finish(
        self, raw: np.ndarray, post: str | None = None, vis: np.ndarray | None = None
    ) -> np.ndarray:
        """Turn raw output into the 8-bit image that is saved, as the authors do.

        Parameters
        ----------
        raw : ndarray, shape (H, W)
            From `raw` or `raw_reconstruction`.
        post : str, optional
            By default the method's own.
        vis : ndarray, optional
            The visible image, whose chroma the result gets.

        Returns
        -------
        ndarray of float32, shape (H, W) or of `vis`, exact multiples of 1/255.

        Raises
        ------
        FusionError
            If a value is not finite, or there is no such post-processing.
        """
        finish, how = find_post(post or self.post), self._configuration
        if not np.isfinite(raw).all():
            raise FusionError("the raw output has values that are not finite.")
        colour = None if vis is None else check_image(vis, "visible image")
        if colour is not None and colour.ndim == 2:
            colour = None
        if colour is not None and how.chroma == "before":
            gray = np.clip(self.levels.unscale(raw), 0, 1)
            raw = self.levels.scale(merge_luminance(gray, colour))
        levels = finish(raw.astype(np.float64), self.levels)
        # In place: of a large image each copy takes half a GiB.
        np.clip(levels, 0, 255, out=levels)
        if how.quantise == "round":
            levels += 0.5
        image = np.floor(levels, out=levels).astype(np.float32)
        image /= np.float32(255)
        if colour is not None and how.chroma == "after":
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
                f"the rule {self.network.rule.name!r} has no weight maps; use l1_norm or mean."
            )
        weights = rule_weights(self.network, self.inputs(ir, vis, *others), self.execution)
        height, width = np.shape(ir)[:2]
        return weights[:, :, 0, 0, :height, :width].cpu().numpy()

    def inputs(self, ir: np.ndarray, vis: np.ndarray, *others: np.ndarray) -> list[Tensor]:
        """Return what the network is given, to run it or a part of it by oneself.

        Returns
        -------
        list of Tensor, shape (1, 1, H, W)
            In the network's levels, on its device; small images are padded at their ends.
        """
        return self._tensors(self._sources(ir, vis, *others))

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
        return [self._configuration.prepare(source) for source in sources]

    def _padded(self, source: np.ndarray) -> np.ndarray:
        """Repeat the last row and column of an image that is too small."""
        grow = [(0, max(0, self._fuser.min_side - side)) for side in source.shape]
        return np.pad(source, grow, mode="edge") if any(more for _, more in grow) else source

    def _tensors(self, sources: list[np.ndarray]) -> list[Tensor]:
        """Make tensors of the sources, one after the other, and empty the list.

        Of large images both would not fit into memory beside what the network needs.
        """
        assert self.network is not None
        device = next(self.network.parameters()).device
        tensors = []
        while sources:
            scaled = self.levels.scale(self._padded(sources.pop(0)))[None, None]
            tensors.append(torch.from_numpy(scaled).to(device))
        return tensors

    def _run_all(self, batch: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Fuse the sources of several pairs of one size; a network's are used up."""
        height, width = batch[0][0].shape
        if isinstance(self._fuser, Algorithm):
            padded = [[self._padded(image) for image in sources] for sources in batch]
            exact = [[self.levels.scale(exact_levels(image)) for image in some] for some in padded]
            return [self._fuser.fuse(*some)[:height, :width] for some in exact]
        each = zip(*map(self._tensors, batch), strict=True)
        images = [torch.cat(some) if len(some) > 1 else some[0] for some in each]
        output = run_network(self._fuser, images, self.execution)[:, 0].cpu().numpy()
        if not np.isfinite(output).all():
            raise FusionError(
                f"{self.name} gave values that are not finite; its weights "
                f"({self.card.weights}) are unusable."
            )
        return [*output[:, :height, :width]]
