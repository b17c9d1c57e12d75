"""imgclf against the plain Keras recipe: whole trainings, the cost of extraction, the cost of an epoch.

    python scripts/benchmark_training.py whole FOLDER --out RESULTS.jsonl [--seeds 0,1,2] [--runs head,default,long,...]
    python scripts/benchmark_training.py extraction FOLDER [--images 1024] [--rounds 5]
    python scripts/benchmark_training.py epoch FOLDER [--images 512] [--rounds 3]
    python scripts/benchmark_training.py curve RESULTS.jsonl --images 372 --out PICTURE.svg
    python scripts/benchmark_training.py grow FOLDER --more CLASS_FOLDER [--runs head,default] [--seeds 0]

FOLDER has train/, validation/ and test/ with class folders; KERAS_HOME has the weights. `whole` runs every kind of
training once for each seed, in turns, each as a process of its own from an empty cache (but for "warm"), and appends a
line with its wall time, processor time (which other programs disturb less), test accuracy and peak memory; what a file
has already is not run again. `extraction` compares decoding with computing, `epoch` a fine-tuning epoch above the
default cut with plain `fit`; both alternate in one process and print the median of the rounds. `grow` trains on FOLDER
without 24 of its training photos, then times `--from` with them, and with 30 photos of CLASS_FOLDER as a new class.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent

# Kind of training -> what imgclf is told, or what the plain recipe is told.
IMGCLF = {
    "head": ["--fine-tune-epochs", "0"],
    "warm": ["--fine-tune-epochs", "0"],  # once more, with the cache of "head"
    "warm without exports": ["--fine-tune-epochs", "0", "--formats", ""],
    "default": [],
    "long": ["--fine-tune-epochs", "8", "--views", "4"],
}
PLAIN = {
    "plain head": ["--head-epochs", "20"],
    "plain strong": ["--head-epochs", "3", "--fine-tune-epochs", "5", "--strong"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("whole", "curve", "extraction", "epoch", "grow"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmark_training.jsonl"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", default=",".join((*IMGCLF, *PLAIN)))
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", type=Path, help="a folder with photos of a class that FOLDER has not")
    options = parser.parse_args()
    {"whole": whole, "curve": curve, "extraction": extraction, "epoch": epoch, "grow": grow}[options.what](options)


def whole(options) -> None:
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, options.seeds.split(",")):
            for kind in options.runs.split(","):
                if any((row["run"], row["seed"], row["folder"]) == (kind, seed, options.folder.name) for row in done):
                    continue
                row = once(options, kind, seed, Path(folder))
                done.append(row)
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    summary(done)


def once(options, kind: str, seed: int, folder: Path) -> dict:
    out, cache = folder / "run", folder / f"cache-{seed}"
    if kind in PLAIN:
        result = folder / "plain.json"
        command = [sys.executable, HERE / "plain_recipe.py", options.folder, "--out", result, "--seed", str(seed),
                   "--image-size", str(options.image_size), *PLAIN[kind]]  # fmt: skip
    else:
        command = [sys.executable, "-m", "imgclf", "train", options.folder, "--out", out, "--overwrite", "--quiet",
                   "--seed", str(seed), *IMGCLF[kind]]  # fmt: skip
        if options.image_size != 224:
            weights = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
            path = Path(os.environ["KERAS_HOME"]) / "models" / weights
            command += ["--backbone", "mobilenet_v2", "--image-size", str(options.image_size), "--weights", path]
        if not kind.startswith("warm"):
            shutil.rmtree(cache, ignore_errors=True)
    begun = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command], env={**os.environ, "IMGCLF_CACHE": str(cache)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{kind} ended with exit code {process.returncode}")
    if kind in PLAIN:
        accuracy = json.loads(result.read_text())["test"]
    else:
        accuracy = json.loads((out / "metrics.json").read_text())["accuracy"]
    return {"folder": options.folder.name, "run": kind, "seed": seed, "seconds": round(seconds, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1), "accuracy": round(accuracy, 4),
            "peak_gb": round(usage.ru_maxrss / 2**20, 2)}  # fmt: skip


def summary(rows: list[dict]) -> None:
    for kind in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == kind]
        mean = statistics.mean(row["accuracy"] for row in mine)
        seconds = statistics.mean(row["seconds"] for row in mine)
        print(f"{kind:<18} accuracy {mean:.4f} (mean of {len(mine)})  {seconds:7.1f} s  "
              f"{max(row['peak_gb'] for row in mine):.2f} GB")  # fmt: skip


def curve(options) -> None:
    """Draw accuracy against time: the mean of the seeds with its 95 % interval, at the time of the quickest run."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    from imgclf.evaluation.metrics import wilson

    found = [json.loads(line) for line in options.folder.read_text().splitlines()]
    best = {}  # imgclf gives the same accuracy for the same seed: such runs differ in time only
    for row in sorted(found, key=lambda row: -row["seconds"]):
        best[row["run"], row["seed"], row["accuracy"]] = row
    rows = sorted(best.values(), key=lambda row: row["seconds"])
    figure, axes = plt.subplots(figsize=(7, 4))
    for kind in dict.fromkeys(row["run"] for row in rows if not row["run"].startswith("warm")):
        mine = [row for row in rows if row["run"] == kind]
        mean, seconds = statistics.mean(row["accuracy"] for row in mine), min(row["seconds"] for row in mine)
        low, high = wilson(round(mean * options.images), options.images)
        colour = "tab:grey" if kind in PLAIN else "tab:blue"
        axes.errorbar(seconds, mean, [[mean - low], [high - mean]], fmt="o", capsize=3, color=colour)
        axes.plot([seconds] * len(mine), [row["accuracy"] for row in mine], "_", color=colour, markersize=12)
        axes.annotate(f"{kind}\n{len(mine)} runs", (seconds, high), (0, 4), textcoords="offset points", color=colour,
                      ha="center", va="bottom", fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([30, 60, 120, 240, 480, 960, 1920], labels=["30", "60", "120", "240", "480", "960", "1,920"])
    axes.minorticks_off()
    axes.margins(y=0.22)
    axes.set(xlim=(30, 3000), xlabel="seconds, whole process", ylabel=f"test accuracy ({options.images} photos)")
    figure.savefig(options.out, bbox_inches="tight")


def grow(options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(options.folder, folder / "photos", copy_function=os.link)
        photos = sorted((folder / "photos" / "train").glob("*/*"))
        later = photos[:: len(photos) // 24][:24]
        for photo in later:
            photo.rename(folder / f"later-{photo.parent.name}-{photo.name}")
        for kind in options.runs.split(","):
            for seed in options.seeds.split(","):
                base = folder / f"{kind}-{seed}"
                said(options, folder, base, "--seed", seed, *IMGCLF[kind])
                for photo in later:
                    (folder / f"later-{photo.parent.name}-{photo.name}").rename(photo)
                said(options, folder, folder / "photos-added", "--from", base)
                new = sorted(path for path in options.more.iterdir() if path.is_file())[:30]
                for number, path in enumerate(new):
                    part = ("train", "train", "train", "train", "validation", "test")[number % 6]
                    (folder / "photos" / part / options.more.name).mkdir(exist_ok=True)
                    os.link(path, folder / "photos" / part / options.more.name / path.name)
                said(options, folder, folder / "class-added", "--from", base)
                for part in ("train", "validation", "test"):
                    shutil.rmtree(folder / "photos" / part / options.more.name)
                for photo in later:
                    photo.rename(folder / f"later-{photo.parent.name}-{photo.name}")


def said(options, folder: Path, out: Path, *words) -> None:
    """Train on the folder's photos, and print the time and what imgclf said of what changed."""
    command = [sys.executable, "-m", "imgclf", "train", folder / "photos", "--out", out, "--overwrite", *words]
    begun = time.perf_counter()
    done = subprocess.run([str(part) for part in command], env={**os.environ, "IMGCLF_CACHE": str(folder / "cache")},
                          capture_output=True, text=True, check=True)  # fmt: skip
    seconds = time.perf_counter() - begun
    accuracy = json.loads((out / "metrics.json").read_text())["accuracy"]
    print(f"{out.name}: {seconds:.1f} s, test accuracy {accuracy:.4f}", flush=True)
    if "--from" in words:
        for line in (done.stdout + done.stderr).splitlines():
            if re.search(r"goes on from|of before|in the cache|comput", line):
                print("   ", line.strip().replace(str(folder), ""))


def network_of(options):
    """The staged training images, and MobileNetV2 with a head as imgclf builds it."""
    from imgclf.data.inspect import inspect
    from imgclf.data.scan import scan
    from imgclf.data.stage import stage
    from imgclf.models import backbones
    from imgclf.models.build import build_backbone, freeze_batchnorm
    from imgclf.models.network import assemble
    from imgclf.models.weights import load_backbone_weights, resolve_weights

    folder = Path(tempfile.mkdtemp())
    staged = stage(inspect(scan(options.folder)), folder / "stage", (224, 224))
    row = backbones.get("mobilenet_v2")
    backbone = build_backbone(row, None, (224, 224))
    load_backbone_weights(backbone, resolve_weights("imagenet", row, None, (224, 224)))
    freeze_batchnorm(backbone)
    return staged, row, assemble(backbone, staged.classes, binary=False, dropout=0.2, seed=0)


def medians(work: dict, rounds: int, images: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, function in work.items():
            begun = time.perf_counter()
            function()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in found.items():
        print(f"{name:<44} {value:7.2f} s  {1000 * value / images:7.2f} ms an image")
    return found


def extraction(options) -> None:
    import numpy as np

    from imgclf.cut.engine import LITERT, build_engine
    from imgclf.cut.features import Pixels

    staged, row, network = network_of(options)
    source = Pixels(staged.parts["train"][: options.images], (224, 224), 3, "light", True, 0)
    positions = np.arange(source.count)
    cut = row.cuts[row.default_unfreeze - 1]
    for name, model in (("pooled features", network.pooled), (f"up to {cut}", network.below(cut))):
        batch = next(source.batches(0, positions))
        engine = build_engine(model, batch[:8], LITERT)
        again = [batch] * (source.count // len(batch))
        found = medians({
            "decoding alone": lambda: [None for _ in source.batches(0, positions)],
            "LiteRT alone": lambda engine=engine, again=again: [None for _ in engine.map(again)],
            "both": lambda engine=engine: [None for _ in engine.map(source.batches(0, positions))],
        }, options.rounds, source.count)  # fmt: skip
        most = max(found["decoding alone"], found["LiteRT alone"])
        print(f"{name}: extraction takes {found['both'] / most:.2f} times the longer of the two\n")


def epoch(options) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    from imgclf.cut.features import Pixels, Wanted, compute
    from imgclf.training.above import ViewBatches

    staged, row, network = network_of(options)
    images = staged.parts["train"][:: max(1, len(staged.parts["train"]) // options.images)][: options.images]
    source = Pixels(images, (224, 224), 3, "light", True, 0)
    labels = np.eye(len(staged.classes), dtype=np.float32)[[image.label for image in images]]
    cut = row.cuts[row.default_unfreeze - 1]
    (base,) = compute(network.below(cut), "benchmark", [Wanted(source, [0, 1])])
    ours = network.above(cut)
    batches = ViewBatches(base, [labels], 32, lambda number: np.arange(source.count))

    def compiled(model):
        model.compile(keras.optimizers.AdamW(1e-6), "categorical_crossentropy", metrics=["accuracy"])
        return model

    def plain(everything: bool):
        """The recipe's own model: augmentation layers, the same trainable layers (or all), BatchNorm frozen."""
        base_model = keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=None)
        below = True
        for layer in base_model.layers:
            frozen = (below and not everything) or isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not frozen
            below = below and layer.name != cut
        image = keras.Input((224, 224, 3))
        x = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip("horizontal")(image))
        x = base_model(keras.layers.Rescaling(1 / 127.5, offset=-1)(x), training=False)
        x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
        return compiled(keras.Model(image, keras.layers.Dense(labels.shape[1], activation="softmax")(x)))

    files = tf.data.Dataset.from_tensor_slices(([str(image.path) for image in images], labels))

    def read(path, label):
        image = tf.image.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (224, 224)), label

    photos = files.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(32).prefetch(2)
    compiled(ours)
    same, entire = plain(everything=False), plain(everything=True)
    found = medians({
        "imgclf, above the cut": lambda: ours.fit(batches.epoch(0), verbose=0),
        "plain fit, the same layers": lambda: same.fit(photos, verbose=0),
        "plain fit, the whole network": lambda: entire.fit(photos, verbose=0),
    }, options.rounds, source.count)  # fmt: skip
    mine, first, second = found.values()
    print(f"plain fit takes {first / mine:.1f} times as long with the same layers, {second / mine:.1f} times with all")


if __name__ == "__main__":
    main()
