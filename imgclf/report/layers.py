"""What a network sees: its first kernels, and an image after each of its layers, as PNG files. May import Keras."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgclf import runs
from imgclf.errors import InputError
from imgclf.pixels import load_for_model

MAPS = 16  # of a layer; enough to see the idea
STAGES = 12  # layers drawn, evenly spread over the network
TILE, GAP = 80, 4  # pixels
INDEX = "layers.json"  # beside the pictures: file, title and caption of each
PAPER = 250

_WORK = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_POOL = ("MaxPooling2D", "AveragePooling2D")


@dataclass(frozen=True)
class Drawing:
    """One picture.

    Attributes:
        path: the PNG file.
        title: what it shows, in a few words.
        caption: a sentence for people who have not seen such a picture before.
    """

    path: Path
    title: str
    caption: str


def draw_layers(model: Any, image: Path, folder: Path) -> list[Drawing]:
    """Draw the kernels of the first convolution, and an image after the layers of a network.

    Args:
        model: an image network of Keras, functional; `(N, H, W, 3 or 1)`, values 0..255.
        image: any image file.
        folder: where the files go; made if it is missing.

    Returns:
        The drawings: the image as the network takes it, kernels (where there is a convolution), then one per layer; a
        network within the network is not looked into.

    Raises:
        UnreadableImage: the image cannot be read.
        InputError: the network takes no images of a fixed size.
    """
    import keras

    if len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise InputError(f"the network takes inputs of shape {model.input_shape}", "expected images of a fixed size")
    height, width, channels = (int(side) for side in model.input_shape[1:])
    pixels = load_for_model(image, height, width, channels)
    taken = f"As the network takes it: {width} x {height} pixels, {'colour' if channels == 3 else 'grey'}."
    drawings = [_save(folder / "00-image.png", _to_bytes(pixels, 0, 255), "The image", taken)]
    chosen = _chosen(model)
    first = next((layer for layer in model._flatten_layers() if type(layer).__name__ == "Conv2D"), None)
    if first is not None and max(first.kernel_size) > 1:
        drawings.append(_kernels(first, folder / "00-kernels.png"))
    outputs = []
    if chosen:
        seeing = keras.Model(model.inputs[0], [tensor for _, tensor in chosen])
        outputs = seeing(pixels[np.newaxis], training=False)
        outputs = [outputs] if len(chosen) == 1 else outputs  # Keras unpacks a list of one
    for number, ((layer, _), found) in enumerate(zip(chosen, outputs, strict=True), 1):
        drawings.append(_maps(layer, np.asarray(found)[0], folder, number))
    runs.write_json(folder / INDEX, [[drawing.path.name, drawing.title, drawing.caption] for drawing in drawings])
    return drawings


def _chosen(model: Any) -> list[tuple[Any, Any]]:
    """Convolutions, seen after their activation, and poolings: layers with the tensor to draw."""
    layers = [layer for layer in model.layers if hasattr(layer, "output") and len(layer.output.shape) == 4]
    found = []
    for position, layer in enumerate(layers):
        kind = type(layer).__name__
        if kind in _POOL:
            found.append((layer, layer.output))
        elif kind in _WORK:
            seen = layer
            for following in layers[position + 1 : position + 3]:  # BatchNorm and activation belong to it
                if following.input is seen.output and type(following).__name__ in ("BatchNormalization", "Activation",
                                                                                  "ReLU"):  # fmt: skip
                    seen = following
            found.append((layer, seen.output))
    if len(found) > STAGES:
        found = [found[round(index)] for index in np.linspace(0, len(found) - 1, STAGES)]
    return found


def _kernels(layer: Any, path: Path) -> Drawing:
    kernel = np.asarray(layer.get_weights()[0])  # (height, width, channels, filters)
    tiles = [kernel[..., number] for number in range(min(kernel.shape[3], 4 * MAPS))]
    strongest = float(np.abs(kernel).max()) or 1.0
    sheet = _sheet([_to_bytes(tile if tile.shape[2] in (1, 3) else tile.mean(2, keepdims=True), -strongest, strongest)
                    for tile in tiles])  # fmt: skip
    rows, columns = kernel.shape[:2]
    return _save(path, sheet, f"The first kernels ({layer.name})",
                 f"{kernel.shape[3]} kernels of {columns} x {rows} weights; middle grey is zero. Each looks for the "
                 "pattern that it shows.")  # fmt: skip


def _maps(layer: Any, maps: NDArray[np.float32], folder: Path, number: int) -> Drawing:
    height, width, count = maps.shape
    strongest = np.argsort(-maps.std(axis=(0, 1)))[:MAPS]
    tiles = [_to_bytes(maps[..., index : index + 1], float(maps[..., index].min()), float(maps[..., index].max()))
             for index in sorted(strongest)]  # fmt: skip
    pooling = type(layer).__name__ in _POOL
    name = re.sub(r"\W+", "-", layer.name)
    what = "pooling" if pooling else "convolution"
    shown = f"the {len(tiles)} liveliest of {count} maps" if len(tiles) < count else f"all {count} maps"
    return _save(folder / f"{number:02}-{name}.png", _sheet(tiles), f"After {layer.name}",
                 f"The image after this {what}: {shown}, {width} x {height} each. Bright is where the network found "
                 "what the map looks for.")  # fmt: skip


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    span = (high - low) or 1.0
    return np.clip((values - low) / span * 255 + 0.5, 0, 255).astype(np.uint8)


def _sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tiles `(h, w, 1 or 3)` side by side, each brought to TILE pixels; small ones keep their squares."""
    columns = min(8, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((GAP + rows * (TILE + GAP), GAP + columns * (TILE + GAP), 3), PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        picture = Image.fromarray(np.repeat(tile, 3, axis=2) if tile.shape[2] == 1 else tile)
        top, left = GAP + number // columns * (TILE + GAP), GAP + number % columns * (TILE + GAP)
        sampling = Image.Resampling.NEAREST if max(picture.size) <= TILE else Image.Resampling.BOX
        sheet[top : top + TILE, left : left + TILE] = np.asarray(picture.resize((TILE, TILE), sampling))
    return sheet


def _save(path: Path, pixels: NDArray[np.uint8], title: str, caption: str) -> Drawing:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    with runs.writing(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")
    return Drawing(path, title, caption)
