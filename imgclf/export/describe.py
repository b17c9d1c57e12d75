"""Writes into a run's .tflite files what phones and people have to know of them. May import runs and models/."""

from collections.abc import Mapping
from typing import Any

from imgclf import __version__, runs
from imgclf.errors import CheckFailed
from imgclf.evaluation.metrics import Metrics
from imgclf.export.convert import Made
from imgclf.models import backbones, tflite_metadata
from imgclf.models.litert import LiteModel
from imgclf.models.tflite_metadata import Metadata, labelled
from imgclf.storage.places import place


def describe(run: runs.Run, made: Mapping[str, Made], metrics: Metrics | None) -> None:
    """Write metadata into files, read it back, and check it.

    Args:
        run: the run, with config.json.
        made: format to file.
        metrics: of the model on images that it was not trained on, where it was measured.

    Raises:
        InputError: a file has another number of scores than the run has classes.
        CheckFailed: a file does not read back.
    """
    facts = facts_of(run, metrics)
    for file in made.values():
        content = file.path.read_bytes()
        model = LiteModel(content, file.path.name)
        height, width, channels = model.input_shape
        labels = labelled(model.output_shape[0], run.outputs)
        # scaling is in the graph: apps hand over pixels as they are
        metadata = Metadata(labels=labels, mean=(0.0,), std=(1.0,), grey=channels == 1, size=(width, height), **facts)
        with runs.writing(file.path) as temporary:
            temporary.write_bytes(tflite_metadata.write(content, metadata))
            if tflite_metadata.read_file(temporary) != metadata:
                raise CheckFailed(f"{file.path.name} does not read back with its metadata",
                                  "this is a bug of imgclf: please report it with the class names")  # fmt: skip


def facts_of(run: runs.Run, metrics: Metrics | None) -> dict[str, Any]:
    """Name, description, version, author and licence for the files of a run."""
    config = runs.read_json(run / runs.CONFIG)
    settings = {**config["settings"], **config.get("chosen", {}), **config.get("decided", {})}
    row = backbones.get(settings["backbone"])
    licence = row.licence if settings.get("weights") != "none" else ""
    said = [f"Tells {len(run.classes)} classes apart. {row.title}, trained {config['created'][:10]} on the images with "
            f"the fingerprint {config['data']['fingerprint']}."]  # fmt: skip
    if metrics is not None:
        said.append(f"Accuracy {metrics.accuracy:.3f} on {metrics.n} test images (95 % interval "
                    f"{metrics.accuracy_low:.3f} to {metrics.accuracy_high:.3f}).")  # fmt: skip
    return {
        "name": place(config["data"]["folder"]).name or run.root.name, "description": " ".join(said),
        "version": config["created"], "author": f"made with imgclf {__version__}",
        "license": f"weights that the training began with: {licence}" if licence else "",
    }  # fmt: skip
