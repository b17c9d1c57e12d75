"""The search for settings that suit a set of images: what is tried, what is ended early, what wins. Imports nothing."""
