"""Makes ``python -m harness`` the command ``rnn-harness``."""

from harness.cli import main

if __name__ == "__main__":
    main()
