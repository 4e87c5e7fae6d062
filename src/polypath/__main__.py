"""`python -m polypath`: the command line."""

from polypath.cli import main

if __name__ == "__main__":
    main()
