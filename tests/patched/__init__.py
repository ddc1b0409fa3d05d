"""Tests of the worker's Kafka half, in a process that gevent has patched before anything else.

`python -m tests.patched [FILE ...]` patches, then runs pytest; `tests/test_patched.py` does so for each file.
Started any other way, pytest ignores what is here. Files named ``test_*_chaos.py`` hold the long tests.
"""
