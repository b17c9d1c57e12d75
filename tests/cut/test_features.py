"""What is below the cut: computed once per image and view."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from imgclf.cut import features
from imgclf.cut.engine import KERAS, LITERT, Engine
from imgclf.cut.features import Activations, Wanted, compute
from imgclf.cut.pixel_source import Pixels
from imgclf.cut.room import LIMIT_VARIABLE, usage
from imgclf.data.batches import batches, read_in_order
from imgclf.data.imageset import StagedImage, StagedSet
from imgclf.models import backbones
from imgclf.models.build import build_backbone
from imgclf.models.network import Network, assemble
from imgclf.progress import Bar
from tests.conftest import draw

SIDE, CUT, COUNT = 16, "stage2_relu", 21


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> StagedSet:
    """Two classes, PNG and JPEG, colour and grey, each with other sides."""
    root = tmp_path_factory.mktemp("stage")
    found = []
    for number in range(COUNT + 3):
        label = int(number >= 12)
        path = root / "train" / f"{label:04d}" / f"{number:02d}.{'jpg' if number % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture: Image.Image = draw(label, number, 20 + number)
        (picture.convert("L") if number % 5 == 0 else picture).save(path)
        found.append(StagedImage(path, path, label, f"{number:032x}"))
    return StagedSet(root, ("a", "b"), {"train": tuple(found)})


@pytest.fixture(scope="module")
def network() -> Network:
    keras.utils.set_random_seed(0)
    backbone = build_backbone(backbones.get("tiny"), None, (SIDE, SIDE))
    rng = np.random.default_rng(0)
    for layer in backbone.layers:  # fresh statistics would hide a BatchNorm that was left out
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return assemble(backbone, ("a", "b"), binary=False, dropout=0.0, seed=0)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An engine that costs nothing to build; gives the sizes of the batches it was asked for."""
    asked: list[int] = []

    def build(model: Any, sample: Any, known: str = "", keep: Any = None) -> Engine:
        def run(inputs: Any) -> Any:
            asked.append(len(inputs))
            return np.asarray(model(inputs, training=False))

        return Engine(KERAS, [run])

    monkeypatch.setattr(features, "build_engine", build)
    return asked


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(features, "build_engine", lambda *_: pytest.fail("an engine was built"))


def source(staged: StagedSet, count: int = COUNT, **changes: Any) -> Pixels:
    return replace(Pixels(staged.parts["train"][:count], (SIDE, SIDE), 3, "light", True, 0), **changes)


def pixels(where: Pixels, view: int = 0, positions: Sequence[int] | None = None) -> Any:
    chosen = np.arange(where.count) if positions is None else np.array(positions)
    return np.concatenate(list(where.batches(view, chosen)))


def once(model: Any, where: Any, views: Sequence[int] = (0,)) -> Activations:
    (found,) = compute(model, "what", [Wanted(where, views)])
    return found


def close(found: Any, expected: Any, share: float) -> None:
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


# Pixels and views


@pytest.mark.parametrize("channels", [3, 1])
def test_pixels_are_those_of_keras_own_reading(channels: int, staged: StagedSet) -> None:
    expected = np.concatenate([x.numpy() for x, _ in batches(staged, "train", (SIDE, 24), 7, channels=channels)])
    where = Pixels(staged.parts["train"], (SIDE, 24), channels, "none", True, 0)
    np.testing.assert_array_equal(pixels(where), expected)
    np.testing.assert_array_equal(pixels(where, 0, [20, 3, 3, 11]), expected[[20, 3, 3, 11]])
    assert expected.shape == (COUNT + 3, SIDE, 24, channels) and expected.max() > 200


def test_read_in_order_gives_each_image_its_own_numbers(staged: StagedSet) -> None:
    numbers = np.arange(COUNT, dtype=np.float32)[:, None]
    dataset = read_in_order(
        [image.path for image in staged.parts["train"][:COUNT]], (8, 8), 4, draws=numbers,
        vary=lambda images, drawn: images * 0 + drawn[:, :, None, None],
    )  # fmt: skip
    found = [(images.numpy(), rest.numpy().shape) for images, rest in dataset]
    assert np.concatenate([images for images, _ in found])[:, 3, 3, 1].tolist() == list(range(COUNT))
    assert [shape for _, shape in found] == [(4, 0)] * 5 + [(1, 0)]


def test_a_strong_view_is_that_of_the_whole_set(staged: StagedSet) -> None:
    whole = source(staged, augment="strong")
    expected = pixels(whole, 2)
    np.testing.assert_array_equal(pixels(whole, 2), expected)
    np.testing.assert_array_equal(pixels(whole, 2, [0, 7, 20]), expected[[0, 7, 20]])
    fewer = replace(whole, images=whole.images[:5])
    assert not set(fewer.keys(2)) & set(whole.keys(2)) and fewer.keys(0) == whole.keys(0)[:5]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("augment", ["light", "shift"])
def test_a_view_shows_the_same_whatever_other_images_there_are(augment: str, channels: int, staged: StagedSet) -> None:
    whole = source(staged, augment=augment, channels=channels)
    expected = pixels(whole, 2)
    assert not np.array_equal(expected, pixels(whole, 0)) and not np.array_equal(expected, pixels(whole, 1))
    turned = replace(whole, images=whole.images[::-1])
    np.testing.assert_array_equal(pixels(turned, 2)[::-1], expected)
    np.testing.assert_array_equal(pixels(source(staged, COUNT + 3, augment=augment, channels=channels), 2)[:COUNT],
                                  expected)  # fmt: skip
    for few in ([13], [20, 0, 7]):
        np.testing.assert_array_equal(pixels(whole, 2, few), expected[few])
        alone = replace(whole, images=tuple(whole.images[position] for position in few))
        np.testing.assert_array_equal(pixels(alone, 2), expected[few])


@pytest.mark.parametrize("change", [{"seed": 1}, {"flip": False}, {"augment": "shift"}])
def test_another_recipe_is_another_view_and_the_same_first_one(change: dict[str, Any], staged: StagedSet) -> None:
    one, other = source(staged), source(staged, **change)
    assert one.keys(0) == other.keys(0) and not set(one.keys(1)) & set(other.keys(1))
    assert not set(one.keys(1)) & set(one.keys(2))
    np.testing.assert_array_equal(pixels(one, 0), pixels(other, 0))
    assert not np.array_equal(pixels(one, 1), pixels(other, 1))


# Activations


def test_activations_are_those_of_keras_on_every_view(staged: StagedSet, network: Network) -> None:
    where = source(staged)
    found = once(network.pooled, where, range(2))
    assert (found.count, found.views, found.computed) == (COUNT, (0, 1), 2 * COUNT)
    assert found.engine in (LITERT, KERAS) and found.shape == (network.features.shape[-1],)
    for view in range(2):
        expected = np.asarray(network.pooled(pixels(where, view), training=False))
        close(found.array(view), expected, 1e-3)
        close(found.take(view, np.array([20, 4, 4])), expected[[20, 4, 4]], 1e-3)
        assert [len(batch) for batch in found.batches(view, np.arange(COUNT))] == [16, 5]


def test_pooled_from_a_cut_is_pooled_from_the_pixels(staged: StagedSet, network: Network) -> None:
    where = source(staged)
    base = once(network.below(CUT), where, range(3))
    found = once(network.between(CUT), base, range(3))
    for view in range(3):
        close(base.array(view), np.asarray(network.below(CUT)(pixels(where, view), training=False)), 2e-3)
        expected = np.asarray(network.pooled(pixels(where, view), training=False))
        close(found.array(view), expected, 2e-3)
    assert found.computed == 3 * COUNT
    assert len(usage()) == 2


@pytest.mark.usefixtures("eager")
def test_the_second_time_nothing_is_computed(
    staged: StagedSet, network: Network, no_engine: Callable[[], None]
) -> None:
    base = once(network.below(CUT), source(staged), range(2))
    first = once(network.between(CUT), base, range(2))
    no_engine()
    base_again = once(network.below(CUT), source(staged), range(2))
    second = once(network.between(CUT), base_again, range(2))
    assert (base_again.computed, second.computed, second.engine) == (0, 0, "")
    for view in range(2):
        np.testing.assert_array_equal(first.array(view), second.array(view))


def test_only_new_images_are_computed(staged: StagedSet, network: Network, eager: list[int]) -> None:
    first = once(network.pooled, source(staged), range(2))
    eager.clear()
    found = once(network.pooled, source(staged, COUNT + 3), range(2))
    assert found.computed == 6 and sum(eager) == 6
    np.testing.assert_array_equal(found.array(1)[:COUNT], first.array(1))
    everything = np.asarray(network.pooled(pixels(source(staged, COUNT + 3), 1), training=False))
    close(found.array(1), everything, 1e-5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"flip": False}, {"augment": "shift"}])
@pytest.mark.usefixtures("eager")
def test_another_recipe_computes_the_varied_views_only(
    change: dict[str, Any], staged: StagedSet, network: Network
) -> None:
    once(network.pooled, source(staged), range(3))
    assert once(network.pooled, source(staged, **change), range(3)).computed == 2 * COUNT
    assert once(network.pooled, source(staged), range(4)).computed == COUNT


@pytest.mark.usefixtures("eager")
def test_other_weights_or_sizes_compute_everything(staged: StagedSet, network: Network) -> None:
    once(network.pooled, source(staged))
    kernel = network.backbone.get_layer("stage3_conv").kernel
    before = kernel.numpy()
    kernel.assign(before * 1.01)
    assert once(network.pooled, source(staged)).computed == COUNT
    kernel.assign(before)
    assert once(network.pooled, source(staged)).computed == 0
    statistic = network.backbone.get_layer("stage3_bn").moving_mean
    before = statistic.numpy()
    statistic.assign(before + 1)
    assert once(network.pooled, source(staged)).computed == COUNT
    statistic.assign(before)
    assert once(network.pooled, replace(source(staged), images=source(staged).images)).computed == 0
    first = features.fingerprint(network.pooled)
    assert first == features.fingerprint(network.pooled) != features.fingerprint(network.below(CUT))


@pytest.mark.usefixtures("eager")
def test_two_parts_are_told_apart(staged: StagedSet, network: Network) -> None:
    counted: list[int] = []

    class Counter(Bar):
        def update(self, n: int = 1) -> None:
            counted.append(n)

    train, val = source(staged, 17), replace(source(staged), images=staged.parts["train"][15:])
    for computed in ((17 * 2, 9), (0, 0)):
        found = compute(network.pooled, "what", [Wanted(train, range(2)), Wanted(val, [0])], Counter())
        assert sum(counted) == 17 * 2 + 9
        counted.clear()
        assert (found[0].computed, found[1].computed) == computed
        close(found[1].array(), np.asarray(network.pooled(pixels(val), training=False)), 1e-5)
        close(found[0].array(1), np.asarray(network.pooled(pixels(train, 1), training=False)), 1e-5)


def test_what_was_computed_before_a_failure_is_kept(
    staged: StagedSet, network: Network, eager: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    working = features.build_engine

    def failing(model: Any, sample: Any, known: str = "", keep: Any = None) -> Engine:
        engine = working(model, sample, known)

        def run(inputs: Any) -> Any:
            if len(eager) >= 2:
                raise KeyboardInterrupt
            return engine(inputs)

        return Engine(KERAS, [run])

    monkeypatch.setattr(features, "build_engine", failing)
    with pytest.raises(KeyboardInterrupt):
        once(network.pooled, source(staged), range(3))  # batches of 16, 5, 16, 5, ...
    monkeypatch.setattr(features, "build_engine", working)
    found = once(network.pooled, source(staged), range(3))
    assert found.computed == 2 * COUNT
    for view in range(3):
        close(found.array(view), np.asarray(network.pooled(pixels(source(staged), view), training=False)), 1e-5)


@pytest.mark.usefixtures("eager")
def test_a_limit_that_is_too_small_costs_time_and_nothing_else(
    staged: StagedSet, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    once(network.pooled, source(staged))
    found = once(network.pooled, source(staged, COUNT + 3))  # making room removes what is there already
    expected = np.asarray(network.pooled(pixels(source(staged, COUNT + 3)), training=False))
    close(found.array(), expected, 1e-5)


@pytest.mark.usefixtures("eager")
def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    staged: StagedSet, network: Network, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("in the way")
    base = once(network.below(CUT), source(staged), range(2))
    found = once(network.between(CUT), base, range(2))
    assert (base.computed, found.computed) == (2 * COUNT, 2 * COUNT)
    expected = np.asarray(network.pooled(pixels(source(staged), 1), training=False))
    close(found.array(1), expected, 2e-3)
    assert "kept in memory for this run only" in capfd.readouterr().err


@pytest.mark.usefixtures("eager")
def test_too_few_images_are_noticed(staged: StagedSet, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pixels.batches
    monkeypatch.setattr(Pixels, "batches", lambda self, view, positions: whole(self, view, positions[:-2]))
    with pytest.raises(AssertionError, match=f"{COUNT - 2} images of {COUNT}"):
        once(network.pooled, source(staged))
