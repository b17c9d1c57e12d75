"""One HTML page about a run. Imports nothing."""
