import subprocess
import sys

import pytest

from imgclf.config import AUGMENTATIONS, OPTIMIZERS, SCHEDULES
from imgclf.errors import InputError
from imgclf.models import backbones

WIDTHS = {
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenet_v3_small": (0.75, 1.0),
    "mobilenet_v3_large": (0.75, 1.0),
}


FROM_SCRATCH = {
    "tiny", "cnn_small", "resnet9", "lenet5", "alexnet", "zfnet", "vgg11", "googlenet", "resnet18", "resnet34",
    "densenet_bc", "mobilenet_small", "cnn_mnist", "cnn_mnist_basic", "cnn_cifar", "cnn_cifar_wide", "cnn_cifar_bn",
    "cnn_binary", "dense_basic",
}  # fmt: skip


def test_table_has_every_promised_backbone() -> None:
    promised = {
        *WIDTHS, "inception_v3", "xception", "resnet50", "resnet50_v2", "densenet121", "vgg16", "nasnet_mobile",
        "convnext_tiny", "efficientnet_v2_s", *FROM_SCRATCH,
        *(f"efficientnet_b{index}" for index in range(4)), *(f"efficientnet_v2_b{index}" for index in range(4)),
    }  # fmt: skip
    assert set(backbones.names()) == promised
    assert len(backbones.names()) == len(promised)
    assert backbones.get(backbones.DEFAULT).title == "MobileNetV2"


@pytest.mark.parametrize("row", backbones.ALL, ids=lambda row: row.name)
def test_row_is_complete(row: backbones.Backbone) -> None:
    assert row.alphas == WIDTHS.get(row.name, (1.0,))
    assert row.min_size <= row.default_size
    assert 1 <= row.default_unfreeze <= len(row.cuts) == len(set(row.cuts)) or row.name in FROM_SCRATCH
    assert bool(row.licence) == bool(row.source) == row.has_weights == (row.name not in FROM_SCRATCH)
    assert (
        row.recipe.optimizer in OPTIMIZERS and row.recipe.schedule in SCHEDULES and row.recipe.augment in AUGMENTATIONS
    )


def test_importing_the_table_imports_no_tensorflow() -> None:
    code = "import sys, imgclf.models.backbones as b; b.table(); print({'tensorflow', 'keras'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("mobilnet", "mobilenet"), ("EfficientNet-B0", "efficientnet_b0"), ("densenet", "densenet_bc")]
)
def test_unknown_name_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(
        InputError, match=f"unknown backbone '{typed}'; did you mean {meant}\\? `imgclf backbones list`"
    ):
        backbones.get(typed)


def test_name_near_nothing_gets_no_suggestion() -> None:
    with pytest.raises(InputError, match="unknown backbone '¿'; `imgclf backbones list` shows all"):
        backbones.get("¿")


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v2", 31), ("inception_v3", 74), ("xception", (200, 70))])
def test_size_below_the_smallest_is_refused(name: str, size: int | tuple[int, int]) -> None:
    row = backbones.get(name)
    with pytest.raises(InputError, match=f"{name} cannot take images of .*expected {row.min_size} pixels or more"):
        backbones.check_size(row, size)
    backbones.check_size(row, row.min_size)
    backbones.check_size(row, (row.min_size, 1000))


def test_unknown_alpha_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"mobilenet has no alpha 0.3; expected one of: 0.25 0.5 0.75 1"):
        backbones.get("mobilenet").variant(0.3)
    assert backbones.get("mobilenet").variant().alpha == 1.0


def test_printed_table_has_a_row_per_backbone_with_its_figures() -> None:
    tables = backbones.table()
    assert list(tables) == ["with ImageNet weights", "from scratch"]
    rows = {row["name"]: row for table in tables.values() for row in table}
    assert tuple(rows) == backbones.names()
    shown = rows["mobilenet_v2"]
    assert (shown["image size"], shown["parameters (M)"], shown["weights (MB)"]) == (224, 2.26, 9.0)
    assert (rows["cnn_mnist"]["parameters (M)"], rows["cnn_mnist"]["optimizer"]) == (0.09, "adam")
    for table in tables.values():
        assert len({tuple(row) for row in table}) == 1
