"""Metadata for other people's .tflite files. May import models/ and runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from imgclf import runs
from imgclf.errors import InputError
from imgclf.models import tflite_metadata
from imgclf.models.litert import LiteModel
from imgclf.models.tflite_metadata import Metadata, labelled


def add_metadata(
    file: Path, out: Path, labels: tuple[str, ...] | None, mean: tuple[float, ...], std: tuple[float, ...],
    more: dict[str, Any],
) -> Path:  # fmt: skip
    """Write a copy of a file with metadata.

    Args:
        file: an image classifier.
        out: the file to write.
        labels: class names in the order of the scores; None keeps those of the file.
        mean: what is taken from pixels of 0..255, one number or one a channel; empty keeps what the file says, or
            leaves pixels as they are.
        std: what they are divided by; likewise.
        more: other fields of `Metadata`.

    Raises:
        InputError: no classifier of images, no labels, another number of them than there are scores, or numbers that do
            not fit.
    """
    if out.exists() and out.resolve() == file.resolve():
        raise InputError(f"{out} is the file itself", "choose another --out: a file that works is not to be lost")
    model = LiteModel(file, threads=1)
    height, width, channels = model.input_shape
    found = model.metadata or Metadata()
    labels = found.labels if labels is None else labels
    if not labels:
        raise InputError(f"{file} has no labels", "name a file with one class name a line with --labels")
    if bool(mean) != bool(std):
        raise InputError("--mean and --std belong together", "give both, or neither")
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (0, 1, channels):
            raise InputError(f"{option} has {len(values)} numbers", f"expected one, or {channels}: one a channel")
    if any(value == 0 for value in std):
        raise InputError("--std is 0", "expected what pixels are divided by, such as 127.5")
    metadata = replace(
        found, labels=labelled(model.output_shape[0], labels), mean=mean or found.mean or (0.0,),
        std=std or found.std or (1.0,), grey=channels == 1, size=(width, height), **more,
    )  # fmt: skip
    with runs.writing(out) as temporary:
        temporary.write_bytes(tflite_metadata.write(file.read_bytes(), metadata))
    return out
