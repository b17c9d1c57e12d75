"""Who does work on many items: processes of this computer, or the machines of a Ray cluster."""
