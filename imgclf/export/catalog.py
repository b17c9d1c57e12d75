"""The table of .tflite formats: what each is for, and how near to Keras it must be. Imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """How near to the Keras model a file must be on real images.

    Attributes:
        agreement: smallest share of images with the same top class; one image may always differ, for a tie.
        difference: largest difference of one probability.
    """

    agreement: float
    difference: float


@dataclass(frozen=True)
class Format:
    """A kind of .tflite file.

    Attributes:
        name: how people ask for it.
        about: what it is, for people.
        input: what its input tensor holds.
        bound: of its answers.
        exact: whether it must answer as Keras does, so that anything else is a fault of the file and not its price.
        calibrated: whether training images are needed to make it.
    """

    name: str
    about: str
    input: str
    bound: Bound
    exact: bool
    calibrated: bool

    @property
    def file(self) -> str:
        """Its name in the exports folder."""
        return f"model_{self.name}.tflite"


# The first that may be shipped is the one to ship: int8 is small and fast on phones, float16 is never wrong,
# dynamic is as small as int8 and slower than float32 wherever it is run image by image.
TO_SHIP = ("int8", "float16", "float32", "dynamic")

# float32 is the same arithmetic in another order; float16 rounds the weights to 11 bits; the others round them to 8,
# and int8 what is computed as well. What 8 bits cost depends on the network, so they are judged by the accuracy too.
FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("float32", "weights and arithmetic in 32 bits", "float32", Bound(0.999, 1e-3), True, False),
        Format("float16", "weights in 16 bits, arithmetic in 32", "float32", Bound(0.98, 0.1), True, False),
        Format("dynamic", "weights in 8 bits, rounded for these images", "float32", Bound(0.9, 1.0), False, True),
        Format("int8", "weights and arithmetic in 8 bits", "uint8", Bound(0.9, 1.0), False, True),
    )
}

MAX_DROP = 0.01  # of the accuracy, that a file of 8 bits may lose
CALIBRATION_IMAGES = 200
