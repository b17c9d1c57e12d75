"""Where images and runs live, on this computer and at addresses: what is there, read, kept, and written back."""
