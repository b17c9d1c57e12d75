"""What a heat map is, and how it is brought to the size of its photo. May import NumPy and Pillow only."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in an image a model finds what speaks for a class.

    Attributes:
        path: the image.
        label: the class that is explained; the most probable one where none was asked for.
        probability: of that class, 0..1.
        method: "gradcam" or "occlusion".
        cells: float32 `(h, w)`, 0..1, as coarse as the method found it: rows and columns of the upright image.
        size: (height, width) of the upright image in pixels.
    """

    path: Path
    label: str
    probability: float
    method: str
    cells: Array = field(repr=False)
    size: tuple[int, int]

    @property
    def heat(self) -> Array:
        """Float32 `(H, W)` at the size of the image, upright: 0 (says nothing for the class) to 1 (says most for it).

        All zeros where nothing in the image speaks for the class. Computed when it is asked for: four bytes a pixel
        are 48 MB for a photo of a phone.
        """
        return enlarged(self.cells, self.size)

    def _repr_png_(self) -> bytes:
        """The photo with its heat, for a notebook."""
        from imgclf.explaining.picture import draw

        buffer = io.BytesIO()
        draw(self).save(buffer, "PNG")
        return buffer.getvalue()


def enlarged(cells: Array, size: tuple[int, int]) -> Array:
    """A coarse map `(h, w)`, 0..1, at another size (height, width): smooth, with half-pixel centres, still 0..1."""
    picture = Image.fromarray(np.ascontiguousarray(cells, np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    smooth: Array = np.clip(np.asarray(picture, np.float32), 0, 1)  # bicubic overshoots beside a peak
    return smooth


def normalised(cells: Array) -> Array:
    """What speaks for the class, the strongest cell at 1; what speaks against it, and all of nothing, is 0."""
    found = np.maximum(np.nan_to_num(cells), 0)
    most = float(found.max())
    scaled: Array = (found / most if most > 0 else found).astype(np.float32)
    return scaled
