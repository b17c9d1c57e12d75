"""Networks: the table of backbones, heads, augmentation, weights, files and their runtimes. Imports nothing."""
