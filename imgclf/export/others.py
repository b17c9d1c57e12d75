"""Formats for other places than phones, by Keras' own `model.export`. May import parallel, runs and models/.

They are as Keras writes them: only .tflite files are proven.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import runs
from imgclf.errors import SetupError
from imgclf.workers import parallel

SECONDS = 1800.0


@dataclass(frozen=True)
class Other:
    """A format that Keras writes.

    Attributes:
        name: how people ask for it.
        keras: how Keras calls it.
        path: in the exports folder; a folder, or a file.
        modules: that must be installed.
        extra: of imgclf that brings them.
    """

    name: str
    keras: str
    path: str
    modules: tuple[str, ...] = ()
    extra: str = ""


OTHERS: dict[str, Other] = {
    row.name: row
    for row in (
        Other("savedmodel", "tf_saved_model", "saved_model"),
        Other("onnx", "onnx", "model.onnx", ("tf2onnx", "onnx"), "onnx"),
        Other("openvino", "openvino", "openvino/model.xml", ("openvino",), "openvino"),
    )
}


def require_installed(names: Sequence[str]) -> None:
    """Check that what writes the formats is there, before any work.

    Raises:
        SetupError: it is not.
    """
    for name in names:
        row = OTHERS[name]
        missing = [module for module in row.modules if importlib.util.find_spec(module) is None]
        if missing:
            raise SetupError(f"{name} needs {' and '.join(missing)}", f"pip install 'imgclf[{row.extra}]'")


def write_others(run: runs.Run, names: Sequence[str]) -> list[Path]:
    """Write a run's model in other formats.

    Returns:
        The files or folders, in the order of the names.

    Raises:
        SetupError: what writes a format is missing, or it failed; nothing half-written is left.
    """
    require_installed(names)
    made = []
    for name in names:
        target = run / runs.EXPORTS / OTHERS[name].path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            parallel.run_isolated(write, run / runs.MODEL, target, OTHERS[name].keras, timeout=SECONDS)
        except parallel.ChildFailed as failure:
            raise SetupError(f"the export to {name} failed ({failure.what})", "see --debug") from None
        made.append(target)
    return made


def write(model: Path, target: Path, kind: str) -> None:
    """Write one, and put it in place when it is whole. Runs in a child process."""
    from imgclf.models.files import load_keras_model

    network = load_keras_model(model)
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras refuses to export what was never called
    partial = target.with_name(f".partial-{target.name}")
    for place in (partial, partial.with_suffix(".bin")):
        _remove(place)
    network.export(str(partial), format=kind, verbose=False)
    for made, place in ((partial, target), (partial.with_suffix(".bin"), target.with_suffix(".bin"))):
        if made.exists():
            _remove(place)
            made.replace(place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
