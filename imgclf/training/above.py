"""What trains above a cut, and the batches that it trains on. May import TensorFlow, models/, data/."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imgclf.cut.engine import BATCH, Engine, build_engine
from imgclf.cut.features import Activations, Wanted, compute
from imgclf.cut.pixel_source import Pixels
from imgclf.data.imageset import Part
from imgclf.progress import step
from imgclf.training.balance import draw_order
from imgclf.training.plan import SpeedNotes
from imgclf.training.session import Session

MEASURED_STEPS = 12

Base = tuple[Activations, Activations]  # what is below a cut, of the training and the validation part


def pixels(session: Session, part: Part) -> Pixels:
    """The staged images of a part, with the views of the session's recipe."""
    data, config = session.data, session.config
    return Pixels(data.staged.parts[part], data.image_size, data.channels, config.augment, config.flip is not False,
                  config.seed, data.staged.side)  # fmt: skip


def below_cut(session: Session, layer: str, views: int) -> Base:
    """What is below a cut, of the training part in so many views and of the validation part as it is."""
    wanted = [Wanted(pixels(session, "train"), range(views)), Wanted(pixels(session, "val"), [0])]
    total = views * wanted[0].source.count + wanted[1].source.count
    with step("computing what stays frozen", total) as bar:
        train, val = compute(session.network.below(layer), _what(session, layer), wanted, bar)
    _tell(session, (train, val), f" up to {layer}")
    return train, val


def pooled(session: Session, base: Base | None, layer: str | None, views: int) -> Any:
    """The pooled features of both parts, in so many views of the training part.

    Args:
        session: of the training.
        base: what is below a lower cut, to compute them from; None: from the pixels.
        layer: that cut.
        views: of the training part.
    """
    network = session.network
    model = network.pooled if base is None or layer is None else network.between(layer)
    train_source, val_source = base or (pixels(session, "train"), pixels(session, "val"))
    total = views * train_source.count + val_source.count
    with step("computing features", total) as bar:
        train, val = compute(model, _what(session, "pooled"),
                             [Wanted(train_source, range(views)), Wanted(val_source, [0])], bar)  # fmt: skip
    if base is None:
        _tell(session, (train, val), "")
    return train, val


def _what(session: Session, cut: str) -> str:
    config = session.config
    alpha = "" if config.alpha is None else f" {config.alpha:g}"
    return f"{config.to_json()['backbone']}{alpha} at {session.data.image_size[0]} px, {cut}"


def _tell(session: Session, found: tuple[Activations, Activations], where: str) -> None:
    computed, readings = sum(item.computed for item in found), sum(item.count * len(item.views) for item in found)
    kept = f"{readings - computed} of {readings} readings were in the cache" if computed < readings else ""
    did = f"{computed} readings through the frozen network{where} in {found[0].engine}, {found[0].seconds:.0f} s"
    session.note("features: " + ", ".join(part for part in (did if computed else "", kept) if part))


class ViewBatches:
    """Activations as batches: in another order, and each image in one of its views, every epoch.

    Args:
        train: the activations.
        targets: `(n, C)` or `(n, 1)` for each view; one for all of them where they do not differ.
        batch_size: images a step.
        order: number of an epoch to the positions of its images.
        seed: of the views.
    """

    def __init__(
        self, train: Activations, targets: Sequence[Any], batch_size: int, order: Callable[[int], Any] | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.train, self.batch_size, self.order, self.seed = train, batch_size, order, seed
        self.targets = tf.constant(np.stack(targets))
        self.steps = -(-train.count // batch_size)

    def epoch(self, number: int) -> Any:
        """The batches of one epoch, always the same."""
        assert self.order is not None
        order = self.order(number)
        views = np.random.default_rng((self.seed, number, 1)).integers(len(self.train.views), size=len(order))
        return self._batches(order, views)

    def in_order(self) -> Any:
        """All images as they are."""
        order = np.arange(self.train.count)
        return self._batches(order, np.zeros_like(order))

    def _batches(self, order: Any, views: Any) -> Any:
        def take(positions: Any, chosen: Any) -> Any:
            found = np.empty((len(positions), *self.train.shape), np.float32)
            for view in np.unique(chosen):
                here = chosen == view
                found[here] = self.train.take(int(view), positions[here])
            return found

        def read(positions: Any, chosen: Any) -> tuple[Any, Any]:
            # stateless: otherwise determinism makes tf.data read only when the training asks for it
            found = tf.numpy_function(take, [positions, chosen], tf.float32, stateful=False)
            which = tf.minimum(chosen, len(self.targets) - 1)
            targets = tf.gather_nd(self.targets, tf.stack([which, positions], axis=1))
            return tf.ensure_shape(found, (None, *self.train.shape)), targets

        picks = tf.data.Dataset.from_tensor_slices((order, views)).batch(self.batch_size)
        return picks.map(read, num_parallel_calls=1, deterministic=True).prefetch(2)


class Cached:
    """Training above a cut on views that were computed once.

    Attributes:
        model: what trains.
        steps: batches an epoch.
    """

    def __init__(self, session: Session, layer: str, base: Base, labels: Sequence[Any]) -> None:
        with session.devices.building():
            self.model = session.network.above(layer)
        self.session = session
        train, val = base
        targets, config = session.network.targets, session.config
        batch_size = config.batch_size or 32
        order = partial(draw_order, session.data.labels, config.balance, config.seed)
        self._train = ViewBatches(train, [targets(each) for each in labels], batch_size, order, config.seed)
        self._val = ViewBatches(val, [targets(session.data.one_hot("val"))], batch_size)
        self.steps = self._train.steps

    def epoch(self, number: int) -> Any:
        """The batches of one epoch."""
        return self.session.weighed(self.session.mixed(self._train.epoch(number), number))

    def as_they_are(self) -> Any:
        """The training part, not varied."""
        return self._train.in_order()

    def val(self) -> Any:
        """The validation part."""
        return self._val.in_order()


class Fresh:
    """Training above a cut on freshly varied images: what is below runs for every one of them, every epoch.

    Args:
        session: of the training.
        layer: the cut; None: nothing is frozen, the network trains from the pixels.
        setting: what `--unfreeze` was resolved to, for the notes on speed.
    """

    def __init__(self, session: Session, layer: str | None, setting: str) -> None:
        self.session, self.setting, self.layer = session, setting, layer
        network = session.network
        with session.devices.building():
            self.model = network.model if layer is None else network.above(layer)
        self._below: Engine | None = None
        if layer is not None:
            source = pixels(session, "val")
            below = network.below(layer)
            with step("validation images at the cut", source.count) as bar:
                (self._val,) = compute(below, _what(session, layer), [Wanted(source, [0])], bar)
            sample = next(source.batches(0, np.arange(min(source.count, BATCH))))
            # the engine that has computed them before: a race would end differently in a run that goes on
            self._below = build_engine(below, sample[:8], str(self._val.identity["engine"]))
        self.augment = session.augment(mix=True)
        self.steps = session.data.train.steps

    def epoch(self, number: int) -> Any:
        """The batches of one epoch."""
        images = self.session.data.train.epoch(number, self.augment)
        return self.session.weighed(self.session.mixed(self._at_cut(images), number))

    def as_they_are(self) -> Any:
        """The training part, not varied."""
        return self._at_cut(self.session.data.train.in_order())

    def val(self) -> Any:
        """The validation part."""
        if self.layer is None:
            return self._at_cut(self.session.data.val.in_order())
        session = self.session
        targets = session.network.targets(session.data.one_hot("val"))
        return ViewBatches(self._val, [targets], session.data.val.batch_size).in_order()

    def _at_cut(self, data: Any) -> Any:
        network = self.session.network
        if network.binary:
            data = data.map(lambda images, labels: (images, network.targets(labels)))
        return data if self._below is None else self._below.map_dataset(data, self.model.input_shape[1:])

    def seconds_per_image(self) -> float:
        """What a training step takes here, per image; measured once per computer and kind of step."""
        session, notes = self.session, SpeedNotes()
        config, images = session.config, session.data.train
        key = "/".join(str(part) for part in (
            config.to_json()["backbone"], config.alpha, session.data.image_size[0], session.data.channels,
            config.truncate_at, config.batch_norm, self.setting, config.augment, images.batch_size, images.place,
            session.network.binary, self.model.count_params(), os.cpu_count(), keras.__version__, session.devices,
        ))  # fmt: skip
        seconds = notes.get(key)
        if seconds is None:
            seconds = self._measure()
            notes.put(key, seconds)
        return seconds

    def _measure(self) -> float:
        """Time a few training steps and leave every variable as it was, so that measuring changes no result."""
        images = self.session.data.train
        self.session.compile(self.model, lambda: keras.optimizers.SGD(0.0))
        before = [variable.numpy() for variable in self.model.variables]
        # A recipe of its own: the stage's must begin with the first epoch. The pipeline must not run dry within the
        # measured steps, or the last of them have both cores to themselves.
        data = self._at_cut(images.epoch(0, self.session.augment(mix=True)).repeat())
        times: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: times.append(time.perf_counter()),
            on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()),
        )
        self.model.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)  # traces the graph
        self.model.fit(data, steps_per_epoch=MEASURED_STEPS, verbose=0, shuffle=False, callbacks=[clock])
        for variable, value in zip(self.model.variables, before, strict=True):
            variable.assign(value)
        times = times[len(times) // 2 :]  # the first steps only show how long the pipeline takes to fill
        return (times[-1] - times[0]) / (len(times) - 1) / images.batch_size
