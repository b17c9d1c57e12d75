"""Train with the plain Keras recipe, as the Keras transfer-learning guide teaches it: what imgclf is measured against.

    python scripts/plain_recipe.py FOLDER --out RESULT.json [--head-epochs 20] [--fine-tune-epochs 0] [--strong]

FOLDER has train/, validation/ (or val/) and test/ with class folders. `image_dataset_from_directory`, augmentation
layers in the model, a frozen base, dropout 0.2, Adam 1e-3; then everything above it at 1e-5, with BatchNorm frozen
layer by layer, so that it is no straw man. `--strong`: those fine-tuning epochs with AdamW at 2e-4, warm-up and
cosine. It imports nothing of imgclf. RESULT.json has seconds, validation and test accuracy after each epoch.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

START = time.perf_counter()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402 (timed from the first import)

AUGMENT = (keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--weights-size", type=int, default=224, help="size whose ImageNet file is loaded")
    parser.add_argument("--head-epochs", type=int, default=20)
    parser.add_argument("--fine-tune-epochs", type=int, default=0)
    parser.add_argument("--strong", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    parts = {part: load(options.folder, names, options) for part, names in PARTS.items()}
    classes = len(parts["train"].class_names)
    sets = {part: dataset.prefetch(2) for part, dataset in parts.items()}
    model, base = build(options, classes)
    rows = []

    def stage(name: str, epochs: int, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        for epoch in range(epochs):
            begun = time.perf_counter()
            # one call an epoch; the optimizer and its schedule go on
            logs = model.fit(sets["train"], validation_data=sets["val"], verbose=2).history
            seconds = time.perf_counter() - begun
            val, train = round(logs["val_accuracy"][-1], 4), round(logs["accuracy"][-1], 4)
            rows.append({"stage": name, "epoch": epoch + 1, "seconds": round(seconds, 1), "val": val, "train": train})
            write(options, rows, model, sets["test"], last=False)

    stage("head", options.head_epochs, keras.optimizers.Adam(1e-3))
    if options.fine_tune_epochs:
        base.trainable = True
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        optimizer = keras.optimizers.Adam(1e-5)
        if options.strong:
            steps = options.fine_tune_epochs * len(sets["train"])
            rising = max(1, steps // 10)
            rate = keras.optimizers.schedules.CosineDecay(0.0, steps - rising, warmup_target=2e-4, warmup_steps=rising)
            optimizer = keras.optimizers.AdamW(rate)
        stage("fine-tune", options.fine_tune_epochs, optimizer)
    write(options, rows, model, sets["test"], last=True)


PARTS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}


def load(folder: Path, names: tuple[str, ...], options):
    found = next(folder / name for name in names if (folder / name).is_dir())
    return keras.utils.image_dataset_from_directory(
        found, image_size=(options.image_size,) * 2, batch_size=32, shuffle=names == ("train",), seed=options.seed,
        verbose=False,
    )  # fmt: skip


def build(options, classes: int):
    base = keras.applications.MobileNetV2(
        input_shape=(options.image_size,) * 2 + (3,), include_top=False, weights=None
    )  # fmt: skip
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{options.weights_size}_no_top.h5"
    base.load_weights(Path(os.environ["KERAS_HOME"]) / "models" / name)
    base.trainable = False
    image = keras.Input(base.input_shape[1:])
    x = image
    for layer in AUGMENT:
        x = layer(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x)), base


def write(options, rows, model, test, *, last: bool) -> None:
    result = {"folder": options.folder.name, "seed": options.seed, "strong": options.strong, "epochs": rows,
              "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}  # fmt: skip
    if last:
        result["seconds"] = round(time.perf_counter() - START, 1)  # as a user counts them: without the test
        result["test"] = round(model.evaluate(test, verbose=0)[1], 4)
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
