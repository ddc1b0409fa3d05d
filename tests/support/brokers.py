"""Brokers that one run of pytest lends to another: tests in a patched process use those of the run that
started it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.kafka import Cluster, Options

#: Environment variables: folder of a running cluster of one broker, and of three.
BROKER: Final = "KAFKA_TEST_BROKER"
CLUSTER3: Final = "KAFKA_TEST_CLUSTER3"


@contextmanager
def lent_or_started(variable: str, folder: Path, options: Options) -> Iterator[Cluster]:
    """The cluster whose folder `variable` names, left running at the end; else a new one in `folder`."""
    lent = os.environ.get(variable)
    if lent is not None:
        yield Cluster(Path(lent))
        return
    with Cluster(folder, options) as cluster:
        yield cluster
