import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from imgclf.errors import InputError, SetupError
from imgclf.models import backbones, weights
from imgclf.models.build import build_backbone
from imgclf.models.weights import load_backbone_weights, resolve_weights

V2 = backbones.get("mobilenet_v2")
TINY = backbones.get("tiny")
SHARED = Path(os.environ.get("IMGCLF_SHARED", "../shared")).resolve()
APPLICATIONS = [
    pytest.param(row, id=row.name, marks=() if row.name in {"mobilenet", "vgg16"} else pytest.mark.sweep)
    for row in backbones.ALL
    if row.application
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "keras_home"
    (folder / "models").mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    return folder


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing should be downloaded")

    monkeypatch.setattr(keras.utils, "get_file", refuse)


def small(alpha: float = 0.35) -> Any:
    return build_backbone(V2, alpha, (32, 32))


def refilled(model: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1, weight.shape) for weight in model.get_weights()])
    return model


def assert_same(model: Any, expected: list[Any]) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), expected, strict=True))


class Asked(Exception):
    """Keras asked for a file."""


@pytest.mark.parametrize("row", APPLICATIONS)
def test_names_urls_and_hashes_are_those_keras_asks_for(
    row: backbones.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def record(fname: str, origin: str, cache_subdir: str, file_hash: str = "") -> None:
        asked.update(name=fname, url=origin, folder=cache_subdir, hash=file_hash)
        raise Asked

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", record)
    for variant in row.variants:
        options = {"alpha": variant.alpha} if len(row.variants) > 1 else {}
        for size in {row.default_size, *variant.sizes[:1]}:
            with pytest.raises(Asked):
                getattr(keras.applications, row.application)(
                    include_top=False, weights="imagenet", input_shape=(size, size, 3), **options
                )
            assert asked == {
                "name": row.weights_name(variant, size), "url": row.weights_url(variant, size), "folder": "models",
                "hash": variant.file_hash,
            }  # fmt: skip


@pytest.mark.usefixtures("no_download")
class TestResolve:
    def test_file_for_this_size_is_preferred(self, home: Path) -> None:
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{}_no_top.h5"
        for size in (160, 224):
            (home / "models" / name.format(size)).write_bytes(b"x")
        found = resolve_weights("imagenet", V2, None, (160, 160))
        assert found and found.path == home / "models" / name.format(160) and found.note == ""

    @pytest.mark.parametrize(("size", "shown"), [((160, 160), "160"), ((100, 100), "100"), ((160, 128), "160 x 128")])
    def test_file_for_224_serves_other_sizes_with_a_note(self, home: Path, size: tuple[int, int], shown: str) -> None:
        path = home / "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
        path.write_bytes(b"x")
        found = resolve_weights(None, V2, 0.35, size)
        assert found and found.path == path and found.note == f"224 px weights used at {shown} px"

    def test_one_file_for_all_sizes_needs_no_note(self, home: Path) -> None:
        path = home / "models/nasnet_mobile_no_top.h5"
        path.write_bytes(b"x")
        found = resolve_weights("imagenet", backbones.get("nasnet_mobile"), None, (96, 96))
        assert found and found.path == path and found.note == ""

    def test_none_and_tiny(self) -> None:
        assert resolve_weights("none", V2, None, (224, 224)) is None
        assert resolve_weights(None, TINY, None, (96, 96)) is None
        with pytest.raises(InputError, match="there are no imagenet weights for tiny; use --weights none"):
            resolve_weights("imagenet", TINY, None, (96, 96))

    def test_given_file(self, tmp_path: Path) -> None:
        path = tmp_path / "own.h5"
        path.write_bytes(b"weights")
        found = resolve_weights(str(path), V2, None, (224, 224))
        assert found and found.path == path
        assert found.fingerprint == hashlib.sha256(b"weights").hexdigest()
        with pytest.raises(
            InputError, match=r"no weights file .*other\.h5; expected --weights imagenet, none, a file or a run folder"
        ):
            resolve_weights(tmp_path / "other.h5", V2, None, (224, 224))

    def test_unknown_alpha(self) -> None:
        with pytest.raises(InputError, match=r"mobilenet_v2 has no alpha 0\.4"):
            resolve_weights(None, V2, 0.4, (224, 224))


class TestDownload:
    CONTENT = b"weights " * 1000

    def row(self, folder: Path, file_hash: str = "") -> backbones.Backbone:
        """A backbone whose file is fetched by Keras' own code from a file: URL."""
        (folder / "tiny.h5").write_bytes(self.CONTENT)
        variants = (replace(TINY.variants[0], file_hash=file_hash),)
        return replace(TINY, variants=variants, url=(folder / "tiny.h5").as_uri(), source="a test")

    def test_file_is_fetched_once_under_keras_name(
        self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        row = self.row(tmp_path, hashlib.md5(self.CONTENT).hexdigest())
        found = resolve_weights("imagenet", row, None, (96, 96))
        assert found and found.path == home / "models/tiny.h5" and found.path.read_bytes() == self.CONTENT
        assert [path.name for path in (home / "models").iterdir()] == ["tiny.h5"]
        output = capsys.readouterr()
        assert output.out == "" and "downloading Tiny CNN weights" in output.err
        (tmp_path / "tiny.h5").unlink()
        again = resolve_weights("imagenet", row, None, (96, 96))
        assert again and again.path == found.path

    def test_wrong_hash_leaves_nothing(self, home: Path, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="Incomplete or corrupted file"):
            resolve_weights("imagenet", self.row(tmp_path, "0" * 32), None, (96, 96))
        assert list((home / "models").iterdir()) == []

    def test_broken_connection_leaves_nothing_and_names_the_ways_out(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(fname: str, cache_dir: str, cache_subdir: str, **_: Any) -> None:
            assert 0 < weights.socket.getdefaulttimeout() <= 20
            (Path(cache_dir) / cache_subdir / fname).write_bytes(b"half")
            raise Exception("URL fetch failure on https://x: None -- [Errno 104] Connection reset by peer")

        monkeypatch.setattr(keras.utils, "get_file", half)
        with pytest.raises(SetupError) as caught:
            resolve_weights(None, V2, None, (160, 160))
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
        message = str(caught.value)
        assert caught.value.exit_code == 3
        assert str(home / "models" / name) in message
        assert f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{name}" in message
        assert "([Errno 104] Connection reset by peer)" in message
        assert "--weights FILE" in message and "--backbone tiny" in message
        assert list((home / "models").iterdir()) == [] and weights.socket.getdefaulttimeout() is None

    def test_home_that_cannot_be_made_is_a_setup_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
        with pytest.raises(SetupError, match="no imagenet weights for mobilenet_v2"):
            resolve_weights(None, V2, None, (224, 224))


class TestLoad:
    @pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
    @pytest.mark.parametrize("top", [False, True], ids=["no top", "top"])
    def test_files_that_keras_writes(self, tmp_path: Path, name: str, top: bool) -> None:
        application = keras.applications.MobileNetV2(
            include_top=top, weights=None, alpha=0.35, input_shape=(32, 32, 3), classes=7
        )
        refilled(application)
        save = application.save_weights if name.endswith("weights.h5") else application.save
        save(tmp_path / name)
        model = small()
        load_backbone_weights(model, tmp_path / name)
        assert_same(model, application.get_weights()[: len(model.get_weights())])

    def test_own_whole_model_with_a_head(self, tmp_path: Path) -> None:
        backbone = refilled(small())
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        keras.Model(backbone.input, keras.layers.Dense(3)(pooled)).save(tmp_path / "model.keras")
        model = small()
        load_backbone_weights(model, weights.WeightsFile(tmp_path / "model.keras", "own"))
        assert_same(model, backbone.get_weights())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
    def test_networks_whose_graph_differs_from_keras_own(self, tmp_path: Path, name: str) -> None:
        row = backbones.get(name)
        application = getattr(keras.applications, row.application)(
            include_top=False, weights=None, input_shape=(32, 32, 3)
        )
        rng = np.random.default_rng(0)
        application.set_weights([rng.normal(0.1, 0.05, weight.shape) ** 2 for weight in application.get_weights()])
        application.save(tmp_path / "a.h5")
        model = build_backbone(row, None, (32, 32))
        load_backbone_weights(model, tmp_path / "a.h5")
        sizes = [weight.shape for weight in application.weights]
        assert [weight.shape for weight in model.weights] == sizes
        assert_same(model, application.get_weights())
        if name == "efficientnet_b0":  # the layer computes with copies of its weights
            layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
            np.testing.assert_array_equal(np.asarray(layer.mean).ravel(), application.get_weights()[0])

    @pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
    def test_another_width_names_layer_and_shapes_and_changes_nothing(self, tmp_path: Path, name: str) -> None:
        wide = small(0.5)
        (wide.save_weights if name.endswith("weights.h5") else wide.save)(tmp_path / name)
        model = small()
        before = model.get_weights()
        with pytest.raises(InputError, match=rf"{name} does not fit mobilenet_v2: layer \w+ needs shape \(.*\), the "
                           r"file has \(.*expected the file of mobilenet_v2 and its --alpha"):  # fmt: skip
            load_backbone_weights(model, tmp_path / name)
        assert_same(model, before)

    @pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
    def test_another_network_is_refused(self, tmp_path: Path, name: str) -> None:
        other = build_backbone(TINY, None, (32, 32))
        (other.save_weights if name.endswith("weights.h5") else other.save)(tmp_path / name)
        with pytest.raises(InputError, match=f"{name} does not fit mobilenet_v2"):
            load_backbone_weights(small(), tmp_path / name)

    def test_bigger_network_with_the_same_bottom_is_refused(self, tmp_path: Path) -> None:
        backbone = small()
        x = backbone.output
        for _ in range(4):
            x = keras.layers.Conv2D(4, 1)(x)
        keras.Model(backbone.input, x).save(tmp_path / "a.h5")
        with pytest.raises(InputError, match=r"the network has \d+ arrays, the file \d+"):
            load_backbone_weights(small(), tmp_path / "a.h5")

    @pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_truncated_file_is_named(self, tmp_path: Path, name: str, share: float) -> None:
        whole = small()
        (whole.save_weights if name.endswith("weights.h5") else whole.save)(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(
            InputError, match=rf"weights file .*{name} cannot be read \(.*\); .*download or copy it again"
        ):
            load_backbone_weights(small(), tmp_path / name)

    def test_archive_without_weights(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.writestr("readme.txt", "no weights")
        with pytest.raises(InputError, match=r"a.keras cannot be read"):
            load_backbone_weights(small(), tmp_path / "a.keras")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "alpha"), [("mobilenet_v2", 1.0), ("mobilenet_v2", 0.35), ("mobilenet", 0.25)])
def test_real_weights_give_what_keras_gives(home: Path, name: str, alpha: float) -> None:
    for path in (SHARED / "weights").glob("mobilenet*.h5"):
        (home / "models" / path.name).symlink_to(path)
    row = backbones.get(name)
    file = resolve_weights("imagenet", row, alpha, (224, 224))
    assert file and file.note == "" and len(file.fingerprint) == 64
    model = build_backbone(row, alpha, (224, 224))
    load_backbone_weights(model, file)
    reference = getattr(keras.applications, row.application)(
        include_top=False, weights=str(file.path), alpha=alpha, input_shape=(224, 224, 3)
    )
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    expected = np.asarray(reference(pixels / 127.5 - 1, training=False))
    assert expected.std() > 0.5
    np.testing.assert_allclose(np.asarray(model(pixels, training=False)), expected, atol=1e-3)


@pytest.mark.shared
def test_real_inception_v3_by_path() -> None:
    path = SHARED / "weights/inception_v3_notop_float16.h5"
    file = resolve_weights(path, backbones.get("inception_v3"), None, (299, 299))
    assert file
    model = build_backbone(backbones.get("inception_v3"), None, (96, 96))
    load_backbone_weights(model, file)
    with h5py.File(path) as store:
        first = np.asarray(store["conv2d"][store["conv2d"].attrs["weight_names"][0]], dtype=np.float32)
    np.testing.assert_array_equal(model.get_layer("inception_v3_conv2d").kernel.numpy(), first)
    assert np.isfinite(np.asarray(model(np.full((1, 96, 96, 3), 128.0, np.float32)))).all()
