"""From a folder to batches: scan, inspect, split, stage. Imports nothing."""
