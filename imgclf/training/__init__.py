"""Stages, the cut, the plan. May import models/, data/ and the ground modules."""
