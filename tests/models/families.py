"""Networks that are another one of the table, only deeper and wider: the same layers, more of them.

What takes long and asks about kinds of layers is asked of the smallest of a family; what asks about a row of the table
is asked of every row.
"""

SCALED = frozenset({
    "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_v2_b1", "efficientnet_v2_b2", "efficientnet_v2_b3",
})  # fmt: skip
