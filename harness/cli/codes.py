"""The exit codes of the commands, and what help says of them."""

from typing import Final

AGREES: Final = 0
FINDING: Final = 1
MISUSE: Final = 2
FAULT: Final = 3
INTERRUPTED: Final = 130
READER_GONE: Final = 141  # the exit code that a shell reports for a process that SIGPIPE ended
TERMINATED: Final = 143  # the same of SIGTERM, and here of SIGHUP
EXIT_CODES: Final = """\b
Exit codes:
  0    every subject agrees
  1    a finding: a subject disagrees or is broken
  2    misuse, or not enough could be checked
  3    the harness itself failed
  130  interrupted, with nothing found until then
  141  the reader of the output has gone
  143  ended by SIGTERM or SIGHUP, with nothing found until then"""


EXIT_CODES_OF_EXPLAIN: Final = """\b
Exit codes:
  0    the arrays agree with nn.RNN
  1    the arrays disagree with nn.RNN
  2    misuse"""

EXIT_CODES_OF_JUDGE: Final = """\b
Exit codes:
  0    everything that came back agrees
  1    something disagrees
  2    misuse, or nothing came back"""

EXIT_CODES_OF_REPLAY: Final = """\b
Exit codes:
  0    FIXED: the subject passes now
  1    FAILED: the subject still fails, with --all on any finding
  2    ERROR: the finding could not be run, or misuse
  130  interrupted"""
