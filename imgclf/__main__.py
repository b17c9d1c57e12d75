"""`python -m imgclf`: the same as the `imgclf` command."""

from imgclf.cli.main import run

if __name__ == "__main__":
    run()
