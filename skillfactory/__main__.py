"""`python -m skillfactory` is the command line."""

from skillfactory.cli import main

if __name__ == "__main__":
    main()
