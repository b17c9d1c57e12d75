"""Stages of a training, and what is decided for them. May import cut/, models/, data/ and the ground modules."""
