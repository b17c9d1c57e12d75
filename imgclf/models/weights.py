"""Finds, downloads and loads pretrained weights. May import Keras and h5py.

Files are read array by array into a network that imgclf built itself; nothing in them is ever deserialized or run.
"""

import contextlib
import hashlib
import io
import os
import socket
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from imgclf import runs
from imgclf.errors import CheckFailed, InputError, SetupError
from imgclf.models.build import snake_case
from imgclf.models.cached import keras_home, run_of
from imgclf.models.row import Backbone, Variant
from imgclf.progress import say

SOCKET_SECONDS = 20.0  # a server that says nothing for longer is not there
TOP_ARRAYS = 6  # the tops of keras.applications have 2 (one Dense) to 6 (VGG16's three Dense layers) arrays


@dataclass(frozen=True)
class WeightsFile:
    """A file of pretrained weights.

    Attributes:
        path: where it is.
        origin: what it is and where it came from, for people.
        note: what people should know about it; mostly "".
        run: the run folder whose model it is, where it is one.
    """

    path: Path
    origin: str
    note: str = ""
    run: Path | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits; computed when first asked for."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


def resolve_weights(
    spec: str | Path | None, row: Backbone, alpha: float | None, image_size: tuple[int, int], *, exact: bool = False
) -> WeightsFile | None:
    """Find the file that `--weights` means; download ImageNet weights that are not there yet.

    Args:
        spec: "imagenet", "none", a file, a run folder, a model folder of Keras or KerasHub, or None: nobody asked, so
            imagenet where it exists and none otherwise.
        row: the backbone.
        alpha: width multiplier; None for the default.
        image_size: (height, width) in pixels; MobileNet and MobileNetV2 have files for several sizes.
        exact: only the file for this size will do, not one for another that is already here.

    Returns:
        The file, or None for random weights.

    Raises:
        InputError: no such file, no such width, or "imagenet" for a network that was never trained on it.
        SetupError: the weights are neither here nor can they be downloaded.
    """
    variant = row.variant(alpha)
    if spec == "none" or (spec is None and not row.has_weights):
        return None
    if spec is not None and spec != "imagenet":
        return _given(Path(spec).expanduser())
    if not row.has_weights:
        raise InputError(
            f"there are no imagenet weights for {row.name}", "use --weights none, --weights FILE or another --backbone"
        )
    own = image_size[0] if image_size[0] == image_size[1] and image_size[0] in variant.sizes else row.default_size
    folder = keras_home() / "models"
    for size in dict.fromkeys((own,) if exact else (own, row.default_size)):
        path = folder / row.weights_name(variant, size)
        if path.is_file():
            return WeightsFile(
                path, f"ImageNet, {row.source}, from {path.name}", _size_note(variant.sizes, size, image_size)
            )
    path = folder / row.weights_name(variant, own)
    _download(row.weights_url(variant, own), path, row, variant)
    return WeightsFile(
        path, f"ImageNet, {row.source}, downloaded to {path}", _size_note(variant.sizes, own, image_size)
    )


def check_hash(path: Path, variant: Variant) -> bool:
    """Make sure that a file is the one that Keras knows (MD5 or SHA-256); False where it knows none.

    Raises:
        CheckFailed: it is another one.
    """
    if not variant.file_hash:
        return False
    algorithm = "md5" if len(variant.file_hash) == 32 else "sha256"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest() if hasattr(hashlib, "file_digest") else (
            hashlib.new(algorithm, file.read()).hexdigest()
        )  # fmt: skip
    if found != variant.file_hash:
        raise CheckFailed(f"{path} is not the file that Keras publishes ({algorithm} {found})",
                          f"expected {variant.file_hash}; delete it and fetch it again")  # fmt: skip
    return True


def load_backbone_weights(model: Any, file: WeightsFile | Path) -> None:
    """Load a weights file into a backbone; either all of it fits or nothing is changed.

    Reads Keras' legacy .h5 (weights or whole model, matched by order), and .weights.h5 and .keras of Keras 3 (matched
    by kind of layer and order), with or without a classification top.

    Args:
        model: as `build_backbone` gives it.
        file: the weights.

    Raises:
        InputError: not such a file, a damaged one, or one of another network; names the file, and on a mismatch the
            layer and both shapes.
    """
    path = file if isinstance(file, Path) else file.path
    try:
        with _opened(path) as store:
            found = _legacy_arrays(store) if _is_legacy(store) else _keras3_arrays(store, model, path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"weights file {path} cannot be read ({reason})",
            "expected a complete .h5, .weights.h5 or .keras file: download or copy it again",
        ) from None
    _check_shapes(path, model, found)
    arrays = iter(found)
    for layer in model.layers:
        layer.set_weights([next(arrays)[1] for _ in layer.weights])
        if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its weights
            layer.finalize_state()


def _check_shapes(path: Path, model: Any, found: list[tuple[str, Any]]) -> None:
    """Make sure that the arrays of a file, in order, are those of the network, perhaps followed by a top's."""
    slots = [(layer.name, tuple(weight.shape)) for layer in model.layers for weight in layer.weights]
    fix = f"expected the file of {model.name} and its --alpha; `imgclf backbones show` gives its name"
    for (layer, shape), (source, array) in zip(slots, found, strict=False):
        if shape != array.shape:
            raise InputError(
                f"weights file {path} does not fit {model.name}: layer {layer} needs shape {shape}, "
                f"the file has {array.shape} ({source})",
                fix,
            )
    if not len(slots) <= len(found) <= len(slots) + TOP_ARRAYS:
        raise InputError(
            f"weights file {path} does not fit {model.name}: the network has {len(slots)} arrays, "
            f"the file {len(found)}"
            + (f" (nothing for layer {slots[len(found)][0]})" if len(found) < len(slots) else ""),
            fix,
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the HDF5 file that a path is, or that a .keras archive holds."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        content = path
    with h5py.File(content, "r") as store:
        yield store


def _is_legacy(store: Any) -> bool:
    return "model_weights" in store or "layer_names" in store.attrs or "layer_names0" in store.attrs


def _legacy_arrays(store: Any) -> list[tuple[str, Any]]:
    """All arrays of a legacy .h5 file in the order of its layers, each with its layer's name."""
    root = store.get("model_weights", store)
    return [
        (layer, np.asarray(root[layer][name]))
        for layer in _names(root, "layer_names")
        for name in _names(root[layer], "weight_names")
    ]


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names from a group's attributes; Keras splits long ones into `names0`, `names1`, ..."""
    keys = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    names = [name for key in keys for name in group.attrs[key]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _keras3_arrays(store: Any, model: Any, path: Path) -> list[tuple[str, Any]]:
    """The arrays for a network's layers from the HDF5 file of Keras 3, each with its group's name.

    Keras names groups by kind and order: `layers/conv2d`, `layers/conv2d_1`, ... A top comes after the rest and so
    changes no name.
    """
    seen: Counter[str] = Counter()
    found = []
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        group = f"layers/{kind}" + (f"_{seen[kind]}" if seen[kind] else "")
        seen[kind] += 1
        for index in range(len(layer.weights)):
            if f"{group}/vars/{index}" not in store:
                raise InputError(
                    f"weights file {path} does not fit {model.name}: it has nothing for layer {layer.name}",
                    "expected a file of the same network, not nested in another model",
                )
            found.append((group, np.asarray(store[f"{group}/vars/{index}"])))
    return found


def _given(path: Path) -> WeightsFile:
    run = run_of(path)
    if run is not None:
        return WeightsFile(run / runs.MODEL, f"the run {run}", run=run)
    if path.is_file():
        return WeightsFile(path, str(path))
    inside = sorted(path.glob("*.weights.h5"))
    if len(inside) == 1:  # an unpacked .keras file, or a preset of KerasHub
        return WeightsFile(inside[0], str(inside[0]))
    if path.is_dir():
        raise InputError(f"no weights in the folder {path}",
                         f"expected a run with its {runs.MODEL}, or a model folder with one .weights.h5")  # fmt: skip
    raise InputError(f"no weights file {path}", "expected --weights imagenet, none, a file or a run folder")


def _size_note(sizes: tuple[int, ...], size: int, image_size: tuple[int, int]) -> str:
    if not sizes or image_size == (size, size):
        return ""
    height, width = image_size
    return f"{size} px weights used at {height if height == width else f'{height} x {width}'} px"


def _download(url: str, path: Path, row: Backbone, variant: Variant) -> None:
    """Fetch a weights file; `path` appears when it is complete and its hash is right, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent.parent, os.W_OK):  # get_file would quietly use the temporary folder
            raise PermissionError(f"{path.parent.parent} is not writable")
        say(f"downloading {row.title} weights, {variant.weights_mb:g} MB, from {url}")
        with _socket_timeout(SOCKET_SECONDS), contextlib.redirect_stdout(io.StringIO()):
            keras.utils.get_file(
                partial.name, origin=url, cache_dir=str(path.parent.parent), cache_subdir=path.parent.name,
                file_hash=variant.file_hash or None, force_download=True,
            )  # fmt: skip
        partial.replace(path)
    except Exception as error:  # get_file raises bare Exceptions for what the network does
        reason = " ".join(str(error).rsplit(" -- ", 1)[-1].split()) or type(error).__name__
        raise SetupError(
            f"no imagenet weights for {row.name}: {path} is not there and {url} cannot be downloaded ({reason})",
            "put the file there, or use --weights FILE with one you have, or --backbone tiny, which needs none",
        ) from None
    finally:
        with contextlib.suppress(OSError):  # not there, or no folder to be in
            partial.unlink()


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """`get_file` has no timeout of its own: set the process-wide default for sockets while it runs."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
