"""Kill a training at random moments, go on with it, and compare with one that was never disturbed.

    python scripts/kill_and_resume.py DATA [--kills 10] [--seed 0] [-- options of imgclf train]

Every killed training gets SIGKILL at a moment drawn evenly from the time that the undisturbed one took after its data
was read, then `imgclf train --resume`. Compared are all weights of model.keras, bit for bit, metrics.json and
predictions.csv. Every training has a cache of its own, so that kills also hit the computing of activations. Exit code 1
where anything differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMGCLF = [sys.executable, "-m", "imgclf", "train"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options, rest = parser.parse_known_args()
    rest = [word for word in rest if word != "--"]
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        begun = time.monotonic()
        run = start(options.data, whole, rest)
        ready = wait_for(whole / "config.json", run)
        run.wait()
        moments = (ready - begun, time.monotonic() - begun)
        print(f"undisturbed: {moments[1]:.0f} s, of which {moments[0]:.0f} s until the images were split", flush=True)
        wrong = number = 0
        while number < options.kills:
            moment = draw.uniform(*moments)
            out = Path(folder) / f"killed-{number}"
            state = killed(options.data, rest, moment, out)
            if state["state"] == "done":  # it was faster than the undisturbed one
                moments = (moments[0], moment)
                shutil.rmtree(out)
                shutil.rmtree(out.with_suffix(".cache"))
                continue
            number += 1
            print(f"killed after {moment:.0f} s ({state.get('stage', '')}): ", end="", flush=True)
            wrong += not same_after_resuming(out, whole)
    print(f"{options.kills - wrong} of {options.kills} resumed trainings ended as the undisturbed one")
    sys.exit(1 if wrong else 0)


def killed(data: str, rest: list[str], moment: float, out: Path) -> dict:
    """Start a training and kill it so many seconds later; the state that it was in."""
    begun = time.monotonic()
    run = start(data, out, rest)
    wait_for(out / "config.json", run)
    time.sleep(max(0.0, moment - (time.monotonic() - begun)))
    run.send_signal(signal.SIGKILL)
    run.wait()
    return json.loads((out / "state.json").read_text())


def same_after_resuming(out: Path, whole: Path) -> bool:
    subprocess.run([*IMGCLF, "--resume", str(out), "--quiet"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, env=with_own_cache(out))  # fmt: skip
    same = same_weights(whole / "model.keras", out / "model.keras")
    metrics = all(
        (whole / name).read_bytes() == (out / name).read_bytes() for name in ("metrics.json", "predictions.csv")
    )
    words = {True: "identical", False: "DIFFER"}
    print(f"weights {words[same]}, measures {words[metrics]}", flush=True)
    return same and metrics


def start(data: str, out: Path, rest: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*IMGCLF, data, "--out", str(out), "--quiet", *rest], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, env=with_own_cache(out))  # fmt: skip


def with_own_cache(out: Path) -> dict[str, str]:
    return {**os.environ, "IMGCLF_CACHE": str(out.with_suffix(".cache"))}


def wait_for(path: Path, run: "subprocess.Popen[bytes]") -> float:
    while not path.is_file() and run.poll() is None:
        time.sleep(0.05)
    return time.monotonic()


def same_weights(first: Path, second: Path) -> bool:
    import keras
    import numpy as np

    ours, theirs = (keras.models.load_model(path, compile=False).get_weights() for path in (first, second))
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
