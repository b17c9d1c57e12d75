"""Mixed precision, and several devices: two logical CPUs stand in for two GPUs, in a process of their own."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imgclf.config import TrainConfig
from imgclf.data.imageset import StagedSet
from imgclf.training import devices
from imgclf.training.devices import FULL, MIXED, find_devices
from imgclf.training.train import train
from tests.training.material import drawn_set

SCRATCH = TrainConfig(backbone="tiny", weights="none", image_size=16, epochs=2, batch_size=5, augment="none")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    return drawn_set(tmp_path_factory.mktemp("staged"))


@pytest.mark.parametrize(
    ("precision", "capabilities", "policy"),
    [
        ("auto", [], FULL), ("auto", [(7, 5)], MIXED), ("auto", [(6, 1)], FULL), ("auto", [(8, 0), (6, 1)], FULL),
        ("mixed", [], MIXED), ("float32", [(9, 0)], FULL),
    ],
)  # fmt: skip
def test_mixed_precision_is_for_tensor_cores(
    precision: str, capabilities: list[tuple[int, int]], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu} if gpu else {}
    )
    monkeypatch.setattr(devices.tf.distribute, "MirroredStrategy", lambda: None)
    found = find_devices(precision)
    assert found.policy == policy and found.gpus == len(capabilities)


def test_what_was_trained_in_mixed_precision_leaves_in_float32(staged: StagedSet) -> None:
    found = train(staged, replace(SCRATCH, precision="mixed"))
    assert any("mixed precision" in note for note in found.notes)
    assert {layer.dtype_policy.name for layer in found.model.layers} == {FULL}
    assert found.model.output.dtype == "float32"
    images = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(found.model(images).numpy().sum(axis=1), 1, atol=1e-6)
    usual = train(staged, SCRATCH)
    assert usual.history[-1].val["loss"] == pytest.approx(found.history[-1].val["loss"], rel=0.2)
    assert usual.history[-1].val["loss"] != found.history[-1].val["loss"], "float16 rounds"


TWO_DEVICES = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from dataclasses import replace
import pytest
from imgclf.training import devices, train as trainer
from tests.training.material import drawn_set, pretend
from tests.training.test_devices import SCRATCH
from imgclf.training.train import train
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
patch = pytest.MonkeyPatch()
staged = drawn_set(Path(sys.argv[1]), train=8, val=4)
# no BatchNorm, whose statistics are a device's own
plain = replace(SCRATCH, backbone="cnn_cifar", image_size=32, dropout=0.0)
alone = train(staged, replace(plain, batch_size=6))
patch.setattr(trainer, "find_devices", lambda precision: devices.Devices(2, "float32", strategy))
both = train(staged, plain)
assert strategy.num_replicas_in_sync == 2 and both.config.batch_size == 6
for one, other in zip(alone.history, both.history, strict=True):
    assert abs(one.val["loss"] - other.val["loss"]) < 1e-3 * one.val["loss"], (one, other)
pretend(patch)
tuned = replace(SCRATCH, weights=None, fine_tune_epochs=2, unfreeze="1", weight_average=0.9, views=2, augment="light")
tuned = train(staged, tuned)
assert [row.stage for row in tuned.history][-2:] == ["fine-tune"] * 2
print("well")
"""


@pytest.mark.slow
def test_two_devices_share_every_batch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES, str(tmp_path)], capture_output=True, text=True,
                          check=False, timeout=600)  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("well\n"), done.stderr[-3000:]
