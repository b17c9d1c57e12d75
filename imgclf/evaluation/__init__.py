"""What a model is worth: metrics and their evaluation on images. Imports nothing."""
