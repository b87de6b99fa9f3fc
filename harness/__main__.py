"""Makes ``python -m harness`` the command ``rnn-harness``."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
