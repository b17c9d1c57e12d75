"""Time an epoch of imgclf from scratch against plain Keras on in-memory arrays: the same network, in one process.

    python scripts/benchmark_epochs.py FOLDER [--backbone cnn_cifar] [--batch-size 32] [--rounds 5]

FOLDER has class folders (or train/ and so on with them). The two take turns, so that a busy minute hits both; printed
are the seconds of each round and the ratio of the medians. Validation is part of an epoch on both sides.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from imgclf.config import TrainConfig
from imgclf.data.inspect import inspect
from imgclf.data.scan import scan
from imgclf.data.split import assign_parts, default_share
from imgclf.data.stage import stage
from imgclf.noise import import_tensorflow
from imgclf.training.choose import choose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="cnn_cifar")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = inspect(scan(options.folder))
    share = default_share(len(images.usable))
    images = assign_parts(images, share, share)
    config, _ = choose(images, TrainConfig(backbone=options.backbone, batch_size=options.batch_size, augment="none"))
    side = config.image_size or 0
    with tempfile.TemporaryDirectory() as folder:
        compare(stage(images, Path(folder) / "stage", (side, side)), config, options.rounds)


def compare(staged, config, rounds: int) -> None:
    import_tensorflow()
    import keras

    from imgclf.models import backbones
    from imgclf.models.build import build_backbone
    from imgclf.models.network import assemble
    from imgclf.training.above import Fresh
    from imgclf.training.fit import Stage, run_stage
    from imgclf.training.scratch import CHUNK
    from imgclf.training.session import Data, Session
    from imgclf.training.train import settle

    row, side = backbones.get(config.backbone), config.image_size
    config = settle(config, row.recipe, side, len(staged.classes), from_scratch=True)
    data = Data.of(staged, (side, side), 1 if config.color == "grayscale" else 3, config)

    def network():
        backbone = build_backbone(row, None, (side, side), data.channels)
        return assemble(backbone, staged.classes, binary=False, dropout=0.0, seed=0)

    def arrays(part):
        pairs = [(x.numpy(), y.numpy()) for x, y in part.in_order()]
        return tuple(np.concatenate(column) for column in zip(*pairs, strict=True))

    ours = Session(data, config, network())
    above = Fresh(ours, None, "all")
    ours.compile(above.model, keras.optimizers.Adam(1e-3), min(CHUNK, data.train.steps))
    val = above.val()

    def our_epoch(number: int) -> None:
        run_stage(
            above.model, Stage("training", "training", 1, 1, data.train.steps), lambda _: above.epoch(number), val
        )

    plain = network().model
    plain.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    (x, y), held_out = arrays(data.train), arrays(data.val)

    def plain_epoch(_: int) -> None:
        plain.fit(x, y, batch_size=config.batch_size, validation_data=held_out, verbose=0)

    seconds = {"imgclf": [], "plain Keras": []}
    for number in range(rounds + 1):
        for name, epoch in (("imgclf", our_epoch), ("plain Keras", plain_epoch)):
            start = time.perf_counter()
            epoch(number)
            if number:  # the first epoch traces the graph
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:<12} " + " ".join(f"{value:6.2f}" for value in values) + "  s an epoch")
    medians = [statistics.median(values) for values in seconds.values()]
    ratio = medians[0] / medians[1]
    print(f"{data.train.count} images kept in {data.train.place}: imgclf takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
