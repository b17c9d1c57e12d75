"""What every heat map must be, whatever the network."""

from pathlib import Path
from typing import Any

import numpy as np

from imgclf.explaining.explanation import Explanation
from imgclf.explaining.gradcam import GradCam


def assert_explains(model: Any, side: int, classes: int) -> None:
    """Heat maps of random pixels for the first classes: in the shape of the photo, finite, 0..1.

    Of several classes one has a hottest place; against a single one everything may speak.
    """
    images = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    explain, hot = GradCam(model), []
    for wanted in range(classes):
        scores, _, maps = explain(images, wanted)
        for cells in maps:
            heat = Explanation(Path("x.png"), "a", 0.5, "gradcam", cells, (37, 53)).heat
            assert heat.shape == (37, 53) and heat.dtype == np.float32
            assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
            hot.append(cells.max())
    np.testing.assert_allclose(scores, np.asarray(model(images, training=False)), atol=1e-5)
    assert set(hot) <= {0.0, 1.0} and (classes == 1 or 1.0 in hot)
