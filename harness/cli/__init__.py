"""The command rnn-harness: each of its commands, which runs one use case, has a file."""
