"""A local page on which a person goes through likely label errors. Imports nothing."""
