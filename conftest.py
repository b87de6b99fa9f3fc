"""Settings of this project's own test run; the harness's pytest plugin is loaded through its entry point."""

from harness.threads import one_thread_a_process

one_thread_a_process()  # before NumPy or torch is imported

pytest_plugins = ["pytester"]
