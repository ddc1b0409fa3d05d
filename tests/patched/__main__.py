"""Patch first, then pytest with the arguments given; without a file: all files of this folder."""

import sys
from pathlib import Path
from typing import Final

from gevent import monkey

monkey.patch_all()

import pytest  # noqa: E402 - nothing may be imported before the patch

#: kafka-python leaves the sockets of connections that failed to the garbage collector, which may find them
#: between two tests.
UNTIDY: Final = ("-W", "ignore:unclosed <:ResourceWarning")

if __name__ == "__main__":
    arguments = [*UNTIDY, *sys.argv[1:]]
    if not any(argument.partition("::")[0].endswith(".py") for argument in arguments):
        arguments.append(str(Path(__file__).parent))
    sys.exit(pytest.main(arguments))
