"""The cut: what a frozen network makes of an image is computed once and kept. Imports nothing."""
