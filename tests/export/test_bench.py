"""What files cost: by themselves, beside one another, and on a phone that adb knows."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from imgclf import runs
from imgclf.errors import InputError, SetupError
from imgclf.export.android import on_phone
from imgclf.export.bench import Latency, bench, parameters, slower_though_smaller
from imgclf.models.convert import to_tflite
from tests.conftest import imgclf_here


def test_a_file_is_measured(run: Path) -> None:
    file = run / runs.EXPORTS / "model_int8.tflite"
    row = bench(file, threads=(1, 2))
    assert row.bytes == file.stat().st_size and set(row.latency) == {0, 1, 2}
    assert all(0 < found.median <= found.p95 for found in row.latency.values())
    assert row.load > 0 and 0 <= row.memory < 1 << 30 and row.accuracy is None


def test_numbers_are_those_of_the_network() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, bias_initializer="normal")(image)
    model = keras.Model(image, keras.layers.Dense(3, bias_initializer="normal")(keras.layers.Flatten()(x)))
    shape_of_reshape = 2  # the flattening keeps its shape as a constant
    assert parameters(to_tflite(model)) - model.count_params() in (0, shape_of_reshape)


def test_a_smaller_file_that_is_slower_is_named(run: Path) -> None:
    row = bench(run / runs.EXPORTS / "model_float16.tflite", threads=(1,))
    slow = replace(row, path=Path("small.tflite"), bytes=row.bytes - 1, latency={1: Latency(9.0, 9.5)})
    fast = replace(row, path=Path("large.tflite"), latency={1: Latency(3.0, 3.5)})
    assert slower_though_smaller([slow, fast]) == [
        "small.tflite is smaller than large.tflite, and 3.0 times as slow here"
    ]
    assert slower_though_smaller([fast]) == []


def test_the_command_shows_a_run_s_files(run: Path, photos: Path, tmp_path: Path) -> None:
    shown = imgclf_here("bench", run, "--data", photos)
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("file") and "without XNNPACK" in lines[0]
    assert [line.split()[0] for line in lines[1:5]] == [
        f"model_{name}.tflite" for name in ("float32", "float16", "dynamic", "int8")
    ]
    none = imgclf_here("bench", tmp_path / "nowhere.tflite")
    assert none.returncode == 2 and "nowhere.tflite" in none.stderr
    (tmp_path / "bad.tflite").write_bytes(b"not a model")
    bad = imgclf_here("bench", tmp_path / "bad.tflite")
    assert bad.returncode == 2 and "not a .tflite model" in bad.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for adb")
class TestPhone:
    """`adb` as a script: what it says is what the phone says."""

    @pytest.fixture
    def adb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        script = tmp_path / "bin" / "adb"
        script.parent.mkdir()
        script.write_text(
            '#!/bin/sh\necho "$@" >> "$(dirname "$0")/said"\n'
            'case "$1 $2" in\n'
            "  devices*) echo 'List of devices attached'; echo 'emulator-5554\tdevice' ;;\n"
            "  'shell ls') echo benchmark_model ;;\n"
            "  'shell /data/local/tmp/benchmark_model') echo 'Inference (avg): 4321.5' ;;\n"
            "esac\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
        return script

    def test_its_own_benchmark_is_run(self, adb: Path, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(b"x")
        assert on_phone(tmp_path / "model.tflite", None, 2) == pytest.approx(4.3215)
        said = (adb.parent / "said").read_text()
        assert "push" in said and "--num_threads=2" in said
        with pytest.raises(InputError, match="is not there"):
            on_phone(tmp_path / "model.tflite", tmp_path / "nowhere", 1)

    def test_no_phone_is_a_line(self, adb: Path, tmp_path: Path) -> None:
        adb.write_text("#!/bin/sh\necho 'List of devices attached'\n")
        with pytest.raises(SetupError, match="no phone answers adb"):
            on_phone(tmp_path / "model.tflite", None, 1)
        adb.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        with pytest.raises(SetupError, match=r"adb devices failed \(broken\)"):
            on_phone(tmp_path / "model.tflite", None, 1)

    def test_no_adb_is_a_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SetupError, match="adb is not installed"):
            on_phone(tmp_path / "model.tflite", None, 1)
