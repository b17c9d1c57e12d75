"""The fine-tuning stage: what is above the cut trains, what is below stays. May import TensorFlow, models/, data/."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from imgclf.models.row import Backbone
from imgclf.training.above import Base, Cached, Fresh, below_cut
from imgclf.training.epoch import Epoch
from imgclf.training.fit import Stage, StageInterrupted, measured
from imgclf.training.optimizers import PLATEAU_FACTOR, PLATEAU_PATIENCE, add_penalties, learning_rate, make_optimizer
from imgclf.training.plan import TransferPlan
from imgclf.training.session import Session
from imgclf.training.soup import Member, greedy_soup

PATIENCE, RATE, WARM_UP, AVERAGE = 3, 2e-4, 0.15, 0.98
STAGE, SOUP = "fine-tune", "average"
# A member of an ensemble sees other orders and draws: its epochs have other numbers, on which all of them depend.
MEMBER_EPOCHS = 100_000


def fine_tune(session: Session, row: Backbone, plan: TransferPlan, base: Base | None, labels: Sequence[Any]) -> None:
    """Train what is above the cut, once or (with an ensemble) several times from the same start.

    Args:
        session: of the training; its network has a trained head.
        row: of the backbone.
        plan: the cut, the epochs, the views.
        base: activations below the cut; None for freshly varied images.
        labels: targets `(n, C)` of the training images for each view, or one for all views.
    """
    config = session.config
    stack = _stack(session, plan, base, labels)
    session.note(str(plan))
    if config.teacher is not None and isinstance(stack, Fresh):
        session.note("the teacher is asked in the head stage only: it would have to look at every freshly varied image "
                     "(--views 3 lets it teach fine-tuning too)")  # fmt: skip
    add_penalties(stack.model, config.l1, config.l2)
    peak = session.peak("fine-tuning", stack.model, stack.epoch(0), config.fine_tune_learning_rate, RATE)
    session.decide(fine_tune_learning_rate=peak, lr=None)
    before = next(epoch for epoch in session.history if epoch.kept)
    members = session.keeper.members
    if not members:
        members.append(Member(before.val["loss"], stack.model.get_weights()))
    drops = [layer for layer in session.network.model.layers if getattr(layer, "seed_generator", None) is not None]
    states = [(layer.seed_generator.state, layer.seed_generator.state.numpy()) for layer in drops]
    for number in range(len(members) - 1, config.ensemble):
        stack.model.set_weights(members[0].weights)
        for state, value in states:  # of dropout: what a member draws must not depend on what this process did before
            state.assign(value)
        try:
            if _small_epochs(session, plan) and session.resumed != _name(session, number):
                _train_small(session, row, plan, labels, number)
            loss = _train_member(session, row, plan, stack, number, members[0].loss)
        except StageInterrupted:
            now = min((epoch.val["loss"] for epoch in session.history if epoch.kept), default=float("inf"))
            best = min(members, key=lambda member: member.loss)
            if best.loss <= now:  # of a member that was finished before
                stack.model.set_weights(best.weights)
                _keep(session, best.loss)
            raise
        members.append(Member(loss, stack.model.get_weights()))
    better = [member for member in members[1:] if member.loss < members[0].loss]
    if not better:
        stack.model.set_weights(members[0].weights)
        session.note("fine-tuning did not lower the validation loss: the weights of the head stage were kept")
        return
    if config.ensemble > 1:
        _stir(session, stack, better)
    kept = next(epoch for epoch in session.history if epoch.kept)
    head = next(epoch for epoch in session.history if epoch.val["loss"] == members[0].loss)
    session.note(f"fine-tuning: validation accuracy {kept.val['accuracy']:.3f} (head alone "
                 f"{head.val['accuracy']:.3f})")  # fmt: skip


def _stack(session: Session, plan: TransferPlan, base: Base | None, labels: Sequence[Any]) -> Cached | Fresh:
    layer = plan.cut.layer
    if base is not None and layer is not None:
        return Cached(session, layer, base, labels)
    return Fresh(session, layer, plan.cut.setting)


def _name(session: Session, number: int) -> str:
    """The stage of one member of the ensemble."""
    return STAGE if session.config.ensemble == 1 else f"{STAGE} {number + 1}"


def _train_small(session: Session, row: Backbone, plan: TransferPlan, labels: Sequence[Any], number: int) -> None:
    """Train the first half of the epochs at a smaller size; the network takes the weights over."""
    size = session.config.start_size
    assert size is not None
    small = session.at_size(size)
    layer = plan.cut.layer
    base = below_cut(small, layer, plan.views) if plan.views and layer is not None else None
    stack = _stack(small, plan, base, labels)
    add_penalties(stack.model, session.config.l1, session.config.l2)
    first = replace(plan, epochs=_small_epochs(session, plan))
    _run(small, row, first, stack, f"{_name(session, number)} at {size}px", MEMBER_EPOCHS * number, float("inf"))
    session.take_over(small)


def _small_epochs(session: Session, plan: TransferPlan) -> int:
    """How many epochs begin at the smaller size; none of one."""
    return 0 if session.config.start_size is None else plan.epochs // 2


def _train_member(
    session: Session, row: Backbone, plan: TransferPlan, stack: Cached | Fresh, number: int, beat: float
) -> float:  # fmt: skip
    """Train one member of the ensemble from the weights the model has; its validation loss, at most `beat`."""
    done = _small_epochs(session, plan)
    plan, first = replace(plan, epochs=plan.epochs - done), MEMBER_EPOCHS * number + done
    better = _run(session, row, plan, stack, _name(session, number), first, beat)
    return next(epoch.val["loss"] for epoch in session.history if epoch.kept) if better else beat


def _run(
    session: Session, row: Backbone, plan: TransferPlan, stack: Cached | Fresh, name: str, first: int, beat: float
) -> bool:  # fmt: skip
    """Run one stage from the weights the model has; whether any epoch had a lower validation loss than `beat`.

    Args:
        session: of the training.
        row: of the backbone.
        plan: how many epochs.
        stack: what trains, and its batches.
        name: of the stage.
        first: number of its first epoch, which decides its order and draws.
        beat: a validation loss.
    """
    config = session.config
    assert config.fine_tune_learning_rate is not None
    rate = learning_rate(config.schedule, config.fine_tune_learning_rate, plan.epochs * stack.steps, WARM_UP)
    scales = layer_scales(row, session.network.backbone, stack.model, config.layer_decay)
    session.compile(stack.model, lambda: make_optimizer(
        config.optimizer, rate, config.weight_decay or 0.0, scales=scales, accumulate=config.accumulate,
    ))  # fmt: skip
    plateau = (PLATEAU_PATIENCE, PLATEAU_FACTOR) if config.schedule == "plateau" else None
    patience = config.patience or (2 * PLATEAU_PATIENCE + 1 if plateau else PATIENCE)
    average = AVERAGE if config.weight_average is None else config.weight_average
    title = name.replace(STAGE, "fine-tuning")
    stage = Stage(name, title, plan.epochs, patience, stack.steps, plateau, average)
    remedy = ("--views 3 reads each image three times in all" if plan.cut.layer
              else "--augment none takes less work an image")  # fmt: skip
    return session.run(stack.model, stage, lambda epoch: stack.epoch(first + epoch), stack.val(), beat, remedy)


def _keep(session: Session, loss: float) -> None:
    """Mark the epoch with this validation loss as the one whose weights the model has."""
    place = next(index for index, row in enumerate(session.history) if row.val["loss"] == loss)
    session.history = [replace(row, kept=index == place) for index, row in enumerate(session.history)]


def _stir(session: Session, stack: Cached | Fresh, members: Sequence[Member]) -> None:
    """Make one network of the members of an ensemble, and write it into the history."""
    begun = time.perf_counter()
    model, val = stack.model, stack.val()

    def loss_of(weights: Any) -> float:
        model.set_weights(weights)
        return measured(model, val)["loss"]

    soup = greedy_soup(members, loss_of)
    model.set_weights(soup.weights)
    single = len(soup.used) == 1
    if single:
        _keep(session, soup.loss)
    else:
        session.history = [replace(row, kept=False) for row in session.history]
        row = Epoch(SOUP, 1, measured(model, stack.as_they_are()), measured(model, val), 0.0,
                    time.perf_counter() - begun, True)  # fmt: skip
        session.history.append(row)
    losses = ", ".join(f"{member.loss:.3f}" for member in members)
    kept = "the best of them is kept" if single else f"the average of {len(soup.used)} is kept: {soup.loss:.3f}"
    session.note(f"ensemble: validation losses {losses}; {kept}")


def layer_scales(row: Backbone, backbone: Any, model: Any, decay: float) -> dict[str, float]:
    """Factors of the learning rate: 1 for the head, `decay` for the top block, its square for the one below, and so on.

    Layer-wise learning-rate decay: Howard and Ruder 2018, arXiv 1801.06146.

    Args:
        row: with the blocks.
        backbone: the whole backbone.
        model: what trains; its variables' paths are the keys.
        decay: 0..1; 1 gives no factors at all.
    """
    if decay == 1:
        return {}
    order = {layer.name: index for index, layer in enumerate(backbone.layers)}
    borders = [order[cut] for cut in row.cuts if cut in order]  # from the top downwards
    scales = {}
    for layer in model.layers:
        if layer.name in order:
            block = 1 + sum(border >= order[layer.name] for border in borders)
            scales.update({variable.path: decay**block for variable in layer.trainable_variables})
    return scales
