"""Which networks a question is asked of in the usual check, and which in the sweep."""

import pytest

# One of each kind of block is saved, converted and run in the usual check; these are of a kind that is there already.
FURTHER = ("efficientnet_v2_s", "efficientnet_v2_b0", "nasnet_mobile", "resnet50_v2", "densenet121", "xception",
           "mobilenet_v3_large", "inception_v3")  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what belongs to the sweep; a fixture that all tests of a network share cannot carry marks of one test."""
    further = {f"test_a_training_step_survives_saving_and_conversion[{name}]" for name in FURTHER}
    for item in items:
        if item.name in further:
            item.add_marker(pytest.mark.sweep)
