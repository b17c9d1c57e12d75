"""Lets the model of a finished run say "unknown". May import everything that a run is measured and made of.

Nothing is trained: the features of the run's images, kept in the cache, say where the known ends.
"""

import numpy as np

from imgclf import measuring, predict, runs
from imgclf.data.scan import strange_halves
from imgclf.errors import InputError
from imgclf.evaluation.evaluate import evaluate, trusted
from imgclf.evaluation.metrics import wilson
from imgclf.evaluation.unknown import fit_gate, gated, softmax
from imgclf.noise import import_tensorflow
from imgclf.progress import say
from imgclf.storage.places import place


def add_gate(run: runs.Run, coverage: float) -> predict.Predictor:
    """Put a gate into the model of a run, in place of one that it has; its accuracy stays what it is.

    Args:
        run: a finished run of imgclf.
        coverage: share of the validation images that must stay known, 0..1.

    Returns:
        The predictor of the new model; model.keras, predictions.csv and calibration.json are written.

    Raises:
        InputError: the run's images are gone, its model has no head of imgclf, or a class is called "unknown".
    """
    if runs.UNKNOWN in run.classes:
        raise InputError(f"{run.root} has a class that is called {runs.UNKNOWN!r}", "a gate would need that name")
    import_tensorflow()
    from imgclf.cut.run_features import features_of
    from imgclf.cut.stored_predictor import pooled_network
    from imgclf.models.files import load_keras_model, save_keras_model
    from imgclf.models.gate import with_gate
    from imgclf.models.network import head_layer
    from imgclf.training.trust import features_of_files

    model = load_keras_model(run / runs.MODEL)
    head = head_layer(model)
    if head is None:
        raise InputError(f"{run / runs.MODEL} does not end in a head of imgclf", "expected the folder of a run")
    shape = tuple(int(side) for side in model.input_shape[1:])
    network, places = pooled_network(model), {name: index for index, name in enumerate(run.classes)}
    parts = {}
    for part in measuring.TRAINED:
        images, features = features_of(network, measuring.images_of_part(run, part), (shape[0], shape[1], shape[2]))
        parts[part] = (features, np.array([places[image.label] for image in images]))
    kernel, bias = (weights.astype(np.float64) for weights in head.get_weights())
    (train, labels), (val, _) = (parts[part] for part in measuring.TRAINED)
    logits = val @ kernel + bias
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    odd = features_of_files(network, strange_halves(folder)[0])
    gate = fit_gate(train, labels, val, logits, coverage=coverage,
                    strange=(odd, odd @ kernel + bias) if len(odd) else None)  # fmt: skip
    save_keras_model(with_gate(model, gate.prototypes, gate.cosine, gate.energy, gate.offset), run / runs.MODEL)
    known = int((gated(softmax(logits), gate(val, logits)).argmax(axis=1) < len(run.classes)).sum())
    low, high = wilson(known, len(val))
    say(f"unknown: {known} of {len(val)} validation images stay known ({coverage:.0%} asked for)")
    facts = runs.read_json(run / runs.CALIBRATION) if (run / runs.CALIBRATION).is_file() else {}
    facts["unknown"] = {"coverage_asked": coverage, "prototypes": len(gate.prototypes), "tuned_on": len(odd),
                        "validation": {"n": len(val), "known": known, "low": low, "high": high}}  # fmt: skip
    runs.write_json(run / runs.CALIBRATION, facts)
    return _measured(run, facts)


def _measured(run: runs.Run, facts: dict[str, object]) -> predict.Predictor:
    """Measure the new model on the images of the run, and write what it says of each."""
    predictor = predict.load(run.root)
    folder = place(runs.read_json(run / runs.CONFIG)["data"]["folder"])
    found = evaluate(predictor, measuring.proof_images(run))
    if measuring.images_of_part(run, "test"):  # else predictions.csv is of a cross-validation
        found.write(run / runs.PREDICTIONS, predictor.classes, folder)
    strange = [row for row in predictor.each(strange_halves(folder)[1]) if isinstance(row, predict.Prediction)]
    runs.write_json(run / runs.CALIBRATION, {**facts, **trusted(facts, found, strange)})
    return predictor
