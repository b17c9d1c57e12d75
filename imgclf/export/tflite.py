""".tflite files of a run: converted in a child process, then proven against Keras. May import predict and models/."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf import parallel, predict, runs
from imgclf.errors import CheckFailed
from imgclf.noise import import_tensorflow
from imgclf.progress import step

CONVERT_SECONDS = 1800.0  # the largest backbones take a minute; this only ends a converter that hangs
RESULTS = "verify.json"


@dataclass(frozen=True)
class Bound:
    """How near to Keras a format must be, on real images.

    Attributes:
        agreement: smallest share of images with the same top class; one image may always differ, for a tie.
        difference: largest difference of one probability.
    """

    agreement: float
    difference: float

    def holds(self, row: "Exported") -> bool:
        """Whether a file is within the bound (a NaN is not)."""
        differing = round((1 - row.agreement) * row.n)
        return differing <= max(1, (1 - self.agreement) * row.n) and row.max_difference <= self.difference


# float32 is the same arithmetic in another order; float16 rounds the weights to 11 bits.
BOUNDS = {"float32": Bound(0.999, 1e-3), "float16": Bound(0.98, 0.1)}


@dataclass(frozen=True)
class Exported:
    """One .tflite file and how it compares with the Keras model.

    Attributes:
        path: the file.
        format: "float32" or "float16".
        bytes: its size.
        agreement: share of the images for which its top class is that of Keras.
        max_difference: largest difference of one probability.
        accuracy: share of the images that it gets right.
        n: number of images compared.
    """

    path: Path
    format: str
    bytes: int
    agreement: float
    max_difference: float
    accuracy: float
    n: int

    def __str__(self) -> str:
        return (f"{self.path}: {self.bytes / 1e6:.1f} MB, same answer as Keras on {self.agreement:.1%} of {self.n} "
                f"images, probabilities within {self.max_difference:.1g}")  # fmt: skip


def converter() -> parallel.Standby[None]:
    """A process that is ready to convert: TensorFlow takes longer to start than a network to convert."""
    return parallel.Standby(convert_files, CONVERT_SECONDS, import_tensorflow)


def convert(run: runs.Run, formats: Sequence[str], child: parallel.Standby[None] | None = None) -> dict[str, Path]:
    """Write a run's mobile files, in a child process.

    Args:
        run: a run with a trained model.
        formats: of BOUNDS.
        child: a `converter` that was started before; None starts one.

    Returns:
        Format to file, in their order.

    Raises:
        SetupError: the converter failed, or the disk is full.
    """
    if not formats:
        return {}
    folder = run / runs.EXPORTS
    runs.write_classes(folder / runs.CLASSES, run.classes)
    files = {name: folder / f"model_{name}.tflite" for name in formats}
    if child is not None:
        child.call(run / runs.MODEL, files)
        return files
    with converter() as own:
        own.call(run / runs.MODEL, files)
    return files


def prove(
    run: runs.Run,
    files: dict[str, Path],
    images: Sequence[Path],
    labels: NDArray[np.int64],
    reference: NDArray[np.float32],
) -> tuple[Exported, ...]:
    """Compare a run's mobile files with the Keras model on real images.

    Args:
        run: the run.
        files: what `convert` gave.
        images: files to compare on, usually the test part.
        labels: their class indices `(n,)`.
        reference: what the Keras model says of them, `(n, C)`.

    Returns:
        One row per format, in their order; also written to exports/verify.json.

    Raises:
        CheckFailed: a file differs from Keras by more than its bound; it is removed.
    """
    if not files:
        return ()
    rows = compare(files, images, labels, reference)
    good = tuple(row for row in rows if BOUNDS[row.format].holds(row))
    results = run / runs.EXPORTS / RESULTS
    earlier = runs.read_json(results)["files"] if results.exists() else {}
    kept = {name: row for name, row in earlier.items() if name not in files}
    runs.write_json(
        results, {"files": {**kept, **{row.format: {**asdict(row), "path": row.path.name} for row in good}}}
    )
    bad = [row for row in rows if row not in good]
    for row in bad:
        row.path.unlink()
    if bad:
        worst, bound = bad[0], BOUNDS[bad[0].format]
        raise CheckFailed(
            f"{worst.path.name} does not behave like the Keras model: same answer on {worst.agreement:.1%} of "
            f"{worst.n} images, probabilities off by up to {worst.max_difference:.2g}",
            f"at least {bound.agreement:.1%} and at most {bound.difference:g} are asked for; "
            f"{' and '.join(row.path.name for row in bad)} removed",
        )
    return rows


def convert_files(model: Path, targets: dict[str, Path]) -> None:
    """Convert a .keras file to several .tflite files, each written atomically. Runs in a child process."""
    from imgclf.models.files import load_keras_model

    network = load_keras_model(model)
    from imgclf.models.convert import freeze

    graph = freeze(network)
    for name, path in targets.items():
        with runs.writing(path) as temporary:
            temporary.write_bytes(graph.convert(float16=name == "float16"))


def compare(
    files: dict[str, Path], images: Sequence[Path], labels: NDArray[np.int64], reference: NDArray[np.float32]
) -> tuple[Exported, ...]:
    """Run .tflite files over images and compare with what Keras said of them; arguments as for `prove`."""
    predictors = {name: predict.load(path) for name, path in files.items()}
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in files}
    first = next(iter(predictors.values()))
    with step("checking the mobile files", len(images)) as bar:
        for _, pixels in first.batches(images):
            batch = np.stack([image for image in pixels if not isinstance(image, predict.Skipped)])
            for name, predictor in predictors.items():
                scores[name].append(predictor.scores(batch))
            bar.update(len(pixels))
    rows = []
    for name, parts in scores.items():
        found = np.concatenate(parts)
        top = found.argmax(axis=1)
        rows.append(
            Exported(
                path=files[name],
                format=name,
                bytes=files[name].stat().st_size,
                agreement=float((top == reference.argmax(axis=1)).mean()),
                max_difference=float(np.abs(found - reference).max()),
                accuracy=float((top == labels).mean()),
                n=len(found),
            )
        )
    return tuple(rows)
