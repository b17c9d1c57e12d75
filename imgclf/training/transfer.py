"""Training from pretrained weights: the head, then the top of the backbone. May import TensorFlow, models/, data/.

BatchNorm of the backbone never moves: `layer.trainable = False` on each such layer, because `base(x, training=False)`
does not hold it in Keras 3 once `fit` runs.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imgclf.config import TrainConfig
from imgclf.cut.room import LIMIT_VARIABLE, limit_bytes
from imgclf.models.build import cut_layer
from imgclf.models.row import Backbone
from imgclf.progress import plural
from imgclf.training.above import Base, Fresh, below_cut, pooled
from imgclf.training.budget import affordable, epochs_of_fresh_images, measure
from imgclf.training.fine_tuning import fine_tune
from imgclf.training.head_stage import train_head
from imgclf.training.plan import TransferPlan, plan_transfer
from imgclf.training.session import Session
from imgclf.training.teacher import taught
from imgclf.training.trust import Features, features_by_keras, features_from


def train_transfer(session: Session, row: Backbone, given: TrainConfig) -> Features:
    """Both stages; those that a checkpoint has already are not repeated.

    Args:
        session: of the training.
        row: of the table.
        given: the settings as the user gave them; what is left open has values of its own in the head stage.

    Returns:
        What gives the pooled features of the trained network.
    """
    cut = cut_layer(row, session.config.unfreeze, session.network.backbone)  # a wrong one is said before any work
    plan = plan_transfer(session.config, row, cut, session.network, session.data.train.count)
    plan = _within(session, given, plan)
    plan = _within_cache(session, plan)
    session.decide(unfreeze=plan.cut.setting, fine_tune_epochs=plan.epochs, views=plan.views)
    base: Base | None = None
    # the top of a run that is continued is its own, what is below it is everybody's and mostly in the store
    continues = session.config.from_run is not None and bool(plan.cut.blocks)
    if plan.views and plan.cut.layer is not None and (plan.epochs or continues):
        base = below_cut(session, plan.cut.layer, plan.views)
    labels: Sequence[Any] = [session.data.one_hot("train")]
    if session.config.teacher is not None:
        labels = taught(session, session.config.teacher, range(max(1, plan.views)))
    if session.resumed:  # the network has its first weights still, and the features are in the store
        session.keep_features(*pooled(session, base, plan.cut.layer, 1))
    else:
        train_head(session, given, plan, base, labels)
    if plan.epochs:
        session.within_memory(lambda: fine_tune(session, row, plan, base, labels))
        if base is not None and session.keeper.folder is not None and session.config.folds is None:
            # for the run that will continue this one
            pooled(session, base, plan.cut.layer, 1)
    if plan.epochs and base is None:
        return features_by_keras(session)
    return features_from(session, base, plan.cut.layer)


def _within_cache(session: Session, plan: TransferPlan) -> TransferPlan:
    """The plan, with freshly varied images where so many activations are more than the cache may take."""
    layer, data = plan.cut.layer, session.data
    if layer is None or not plan.views or not plan.epochs or session.resumed:
        return plan
    shape = session.network.backbone.get_layer(layer).output.shape[1:]
    needed = 2 * int(np.prod(shape)) * (plan.views * data.train.count + data.val.count)  # float16
    most = limit_bytes()
    if needed <= most:
        return plan
    session.note(f"{needed / 1e9:.1f} GB of activations are more than the cache may take ({most / 1e9:.1f} GB; "
                 f"{LIMIT_VARIABLE}): images are varied anew every epoch instead")  # fmt: skip
    return replace(plan, views=0)


def _within(session: Session, given: TrainConfig, plan: TransferPlan) -> TransferPlan:
    """The plan, cut or stretched to the time budget where the settings leave it open."""
    layer, data = plan.cut.layer, session.data
    if session.deadline is None or session.resumed or given.fine_tune_epochs is not None:
        return plan
    if layer is None or not plan.views:
        step = Fresh(session, layer, plan.cut.setting).seconds_per_image() * session.config.ensemble
        left = session.deadline - time.monotonic()
        plan = replace(plan, epochs=epochs_of_fresh_images(left, step, data.train.count, data.test_count))
        session.note(f"time budget: {plural(plan.epochs, 'epoch')} of fine-tuning on freshly varied images")
        return plan
    speeds = measure(session, layer)
    speeds = replace(speeds, step=speeds.step * session.config.ensemble)
    found = affordable(session.deadline - time.monotonic(), speeds, data.train.count, data.val.count,
                       data.test_count)  # fmt: skip
    session.note(str(found))
    fixed = given.views is not None or session.config.augment == "none"
    return replace(plan, epochs=found.epochs, views=plan.views if fixed else found.views)
