"""LiteRT's benchmark binary on an Android phone, through adb. Imports the standard library and errors only."""

import re
import shutil
import subprocess
from pathlib import Path

from imgclf.errors import InputError, SetupError

PLACE = "/data/local/tmp"  # where a phone lets adb run programs
BINARY = "benchmark_model"
SECONDS = 300.0


def on_phone(model: Path, binary: Path | None, threads: int) -> float:
    """Milliseconds for one image on the attached phone, as LiteRT's own benchmark says.

    Args:
        model: a .tflite file.
        binary: LiteRT's `benchmark_model` for Android, to be put onto the phone; None where it is there already.
        threads: to use.

    Raises:
        SetupError: no adb, no phone, no binary on it, or it failed.
        InputError: `binary` is not there.
    """
    if shutil.which("adb") is None:
        raise SetupError("adb is not installed", "it comes with Android's platform tools; then attach a phone with USB "
                         "debugging on")  # fmt: skip
    attached = [line for line in _adb("devices").splitlines()[1:] if line.strip().endswith("device")]
    if not attached:
        raise SetupError("no phone answers adb", "attach one, turn USB debugging on and accept this computer on it")
    if binary is not None:
        if not binary.is_file():
            raise InputError(f"{binary} is not there", "expected LiteRT's benchmark_model for the phone's processor")
        _adb("push", str(binary), f"{PLACE}/{BINARY}")
        _adb("shell", "chmod", "+x", f"{PLACE}/{BINARY}")
    elif BINARY not in _adb("shell", "ls", PLACE):
        raise SetupError(f"the phone has no {PLACE}/{BINARY}",
                         "download LiteRT's benchmark_model for Android and name it with --adb-binary")  # fmt: skip
    _adb("push", str(model), f"{PLACE}/imgclf.tflite")
    said = _adb("shell", f"{PLACE}/{BINARY}", f"--graph={PLACE}/imgclf.tflite", f"--num_threads={threads}")
    _adb("shell", "rm", f"{PLACE}/imgclf.tflite")
    found = re.search(r"Inference \(avg\): ([0-9.e+]+)", said)
    if found is None:
        raise SetupError("the benchmark on the phone said nothing of a time", " ".join(said.split())[-200:])
    return float(found[1]) / 1000  # it counts microseconds


def _adb(*arguments: str) -> str:
    try:
        done = subprocess.run(["adb", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SetupError(f"adb {arguments[0]} took longer than {SECONDS:.0f} s", "look at the phone's screen") from None
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-200:]
        raise SetupError(f"adb {arguments[0]} failed ({reason})", "look at the phone's screen")
    return done.stdout + done.stderr
