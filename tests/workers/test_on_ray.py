"""A Ray cluster of two nodes on loopback does what local processes do, also when one of them is lost."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.cut import features
from imgclf.cut.elsewhere import extract
from imgclf.cut.engine import LITERT
from imgclf.cut.pixel_source import Pixels
from imgclf.data import similar
from imgclf.data.imageset import StagedImage
from imgclf.data.inspect import inspect
from imgclf.data.known import Known
from imgclf.data.similar import find_pairs
from imgclf.errors import InputError, SetupError
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.workers.on_ray import connected
from imgclf.workers.parallel import Result, done_by, each_item, map_items, prepare_elsewhere
from tests.clusters import blind, calls, get_ready, parent, slowly, strange, two_nodes
from tests.conftest import imgclf, imgclf_here
from tests.data.drawing import images_of, save, texture

pytestmark = pytest.mark.slow

BYSTANDER = """
import sys
from imgclf.workers.on_ray import connected

with connected(sys.argv[1]):
    print("connected", flush=True)
    input()
    print("results")
"""


@pytest.fixture(scope="module")
def client_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def cluster(client_port: int) -> Iterator[Any]:
    with two_nodes(client_port) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere(cluster: Any) -> Iterator[Any]:
    with connected(cluster.address) as found:
        yield found


def test_a_cluster_answers_as_local_processes_do_whatever_an_item_does(elsewhere: Any) -> None:
    local = map_items(strange, range(40), title="locally", item_timeout=2)
    with done_by(elsewhere):
        found = map_items(strange, range(40), title="elsewhere", item_timeout=2, anywhere=True)
    assert found == local
    assert found[6] == Result(36)
    assert found[7].error is not None and "signal 11" in found[7].error
    assert found[11].error == "took longer than 2 s" and found[13].error == "ValueError: thirteen"


def test_what_may_not_travel_stays_here(elsewhere: Any) -> None:
    with done_by(elsewhere):
        (found,) = map_items(parent, [0], title="here", workers=1)
        (there,) = map_items(parent, [0], title="there", anywhere=True)
    assert found.value == os.getpid()
    assert there.value not in (None, os.getpid())


def test_work_meets_workers_that_were_made_ready_before(elsewhere: Any) -> None:
    with done_by(elsewhere):
        prepare_elsewhere(get_ready, 100)
        for prepare, expected in ((get_ready, 2), (None, 0)):
            found = [result.value for _, result in
                     each_item(calls, range(60), title="calls", anywhere=True, prepare=prepare)]  # fmt: skip
            # Ray may give a block to another of a machine's processes, whose worker is made ready for the work only
            assert max(found) == expected, "ahead, and for the work; others are not touched"


def test_a_lost_machine_costs_time_and_nothing_else(cluster: Any, elsewhere: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    bystander = subprocess.Popen([sys.executable, "-c", BYSTANDER, cluster.address],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert bystander.stdout is not None and bystander.stdout.readline() == "connected\n"
    seen = []
    with done_by(elsewhere):
        for index, result in each_item(
            partial(slowly, str(tmp_path)), range(150), title="work", item_timeout=30, anywhere=True
        ):
            assert result.value == index
            seen.append(index)
            if len(seen) == 30:
                cluster.remove_node(node, allow_graceful=False)
    assert sorted(seen) == list(range(150)), "nothing is missing, nothing is there twice"
    assert {path.name for path in tmp_path.iterdir()} == set(map(str, range(150)))
    cluster.wait_for_nodes(timeout=120)  # until the cluster knows it too: the tests after this one count its machines
    assert bystander.communicate("\n")[0] == "results\n", "Ray prints nothing amid them"


def test_a_file_that_another_machine_does_not_see_is_one_error(
    elsewhere: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "a").touch()
    with done_by(elsewhere):
        assert map_items(os.path.exists, [str(tmp_path / "a")], title="seen", anywhere=True)[0].value is True
        monkeypatch.setattr(os.path, "exists", blind)  # what the machines are asked
        with pytest.raises(InputError, match="is not there on"):
            map_items(os.path.exists, [str(tmp_path / "a")], title="not seen", anywhere=True)


def test_features_are_those_of_this_machine(
    elsewhere: Any, two_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.utils.set_random_seed(0)
    network = build_backbone(backbones.get("tiny"), None, (32, 32))
    paths = sorted(two_photos.rglob("*.png"))
    images = tuple(StagedImage(path, path, 0, f"{number:032x}") for number, path in enumerate(paths))
    source = Pixels(images, (32, 32), 3, "light", True, 0)
    sent = []

    def counted(content: bytes, jobs: Any) -> Iterator[Any]:
        for keys, rows in extract(content, jobs):
            sent.extend(keys)
            yield keys, rows

    half_read = []
    read = Pixels.batches

    def watched(self: Pixels, view: int, positions: Any) -> Iterator[Any]:
        half_read.append(view)
        yield from read(self, view, positions)
        half_read.remove(view)

    monkeypatch.setattr(Pixels, "batches", watched)
    monkeypatch.setattr(features, "extract", counted)
    found = {}
    for machines in (None, elsewhere):
        monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / ("elsewhere" if machines else "here")))
        with done_by(machines):
            (rows,) = features.compute(network, "tiny", [features.Wanted(source, [0, 1])])
        assert rows.engine == LITERT and rows.computed == 2 * len(images)
        found[machines] = [rows.array(view) for view in (0, 1)]
    assert not half_read, "TensorFlow ends a half-read dataset after 20 s, for which the training would wait"
    assert len(sent) == len(set(sent)) == 2 * len(images), "each once, and none of them here"
    for here, there in zip(found[None], found[elsewhere], strict=True):
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-5 * float(np.abs(here).max()))


def test_predictions_are_those_of_this_machine(elsewhere: Any, cluster: Any, run: Path, photos: Path) -> None:
    model = run / "exports" / "model_float32.tflite"
    here = imgclf_here("predict", model, photos, "--format", "csv")
    there = imgclf_here("predict", model, photos, "--format", "csv", "--engine", "ray", "--address", cluster.address)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    assert here.stdout.count("\n") == 62 and "Ray: 2 machines, 2 processors" in there.stderr


@pytest.mark.usefixtures("cluster")
def test_a_machine_that_is_no_part_of_the_cluster_may_ask(client_port: int, two_photos: Path) -> None:
    here = imgclf("check", two_photos, "--format", "json")
    there = imgclf("check", two_photos, "--format", "json", "--engine", "ray",
                   "--address", f"ray://127.0.0.1:{client_port}")  # fmt: skip
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout), there.stderr
    assert "Ray: 2 machines, 2 processors" in there.stderr


def test_look_alikes_are_those_of_this_machine(elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(24):
        save(texture(seed % 12, 96, fastest=5)[seed // 12 * 3 :], tmp_path / "a" / f"{seed}.png")  # 12, and cropped
    images = images_of(tmp_path)
    monkeypatch.setattr(similar, "HASHES_AT_ONCE", 200)  # several pieces of work
    monkeypatch.setattr(similar, "PAIRS_AT_ONCE", 5)
    found = {}
    for name, machines in (("here", None), ("elsewhere", elsewhere)):
        monkeypatch.setattr(similar, "MANY_PICTURES", 0)
        monkeypatch.setattr(similar, "MANY_PAIRS", 0)
        with Known.open(tmp_path / name) as known, done_by(machines):
            found[name] = find_pairs(inspect(images, 0, known).usable, known)
    assert found["here"] == found["elsewhere"] and len(found["here"]) >= 12


def test_no_cluster_at_the_address_is_one_error(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-m", "imgclf", "check", str(tmp_path), "--engine", "ray", "--address", "127.0.0.1:9"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "no Ray cluster answers at 127.0.0.1:9" in done.stderr


def test_what_a_cluster_says_of_itself_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refused(*_: object, **__: object) -> None:
        raise ConnectionAbortedError("Initialization failure from server:\nTraceback:\n  ...\nRuntimeError: no room\n")

    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(SetupError, match=r"answers at auto \(RuntimeError: no room\)"), connected("auto"):
        pytest.fail("there is none")


def test_a_cluster_that_fails_to_make_room_for_a_client_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    asked = []

    def refused_once(*_: object, **__: object) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionAbortedError("Initialization failure from server:\nTraceback:\n  ...\nOSError: not now\n")

    for name, answer in (("init", refused_once), ("is_initialized", lambda: False), ("shutdown", lambda: None),
                         ("cluster_resources", lambda: {"CPU": 2.0}), ("nodes", lambda: [{"Alive": 1}])):  # fmt: skip
        monkeypatch.setattr(ray, name, answer)
    with connected("auto") as found:
        assert (found.nodes, found.cpus, len(asked)) == (1, 2, 2)


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from imgclf.cli.main import run; run(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "check", str(tmp_path), "--engine", "ray"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "pip install 'imgclf[ray]'" in done.stderr
    done = subprocess.run([sys.executable, "-m", "imgclf", "check", str(tmp_path), "--address", "auto"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "--engine ray" in done.stderr
