"""Runs each file of ``tests/patched`` in a process that gevent has patched: the worker's Kafka half as it
runs in production. The brokers are those of this run.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark.structures import ParameterSet

from deploy.kafka import Cluster
from tests.support.brokers import BROKER, CLUSTER3

ROOT: Final = Path(__file__).parent.parent
FILES: Final = sorted((ROOT / "tests" / "patched").glob("test_*.py"))

#: A file's tests have bounds of their own; this ends a process whose hub never runs.
FILE_S: Final = 540.0
CHAOS_FILE_S: Final = 1_800.0


#: Files that take more than half a minute on a quiet machine.
LONG: Final = ("test_reader_faults", "test_reader_rules", "test_store_zombies", "test_kafka_trouble")


def is_chaos(path: Path) -> bool:
    return path.stem.endswith("_chaos")


def with_marks(path: Path) -> ParameterSet:
    """Long ones wait for their turn, and those that want three brokers share them."""
    marks = [pytest.mark.long] if path.stem in LONG else []
    if wants_three(path):
        marks.append(pytest.mark.xdist_group("cluster3"))
    return pytest.param(path, marks=marks, id=path.stem)


def wants_three(path: Path) -> bool:
    return "cluster3" in path.read_text()


@pytest.mark.kafka
@pytest.mark.timeout(FILE_S + 30)
@pytest.mark.parametrize("path", [with_marks(path) for path in FILES if not is_chaos(path)])
def test_patched(path: Path, broker: Cluster, request: pytest.FixtureRequest) -> None:
    environment = {**os.environ, BROKER: str(broker.folder)}
    if wants_three(path):
        cluster3: Cluster = request.getfixturevalue("cluster3")
        environment[CLUSTER3] = str(cluster3.folder)
    run_patched(path, environment, FILE_S, "-m", "not chaos")


@pytest.mark.kafka
@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_FILE_S + 30)
@pytest.mark.parametrize("path", [path for path in FILES if is_chaos(path)], ids=lambda path: path.stem)
def test_patched_for_long(path: Path, needs_kafka: None) -> None:
    run_patched(path, dict(os.environ), CHAOS_FILE_S, "-m", "chaos")


def run_patched(path: Path, environment: dict[str, str], patience_s: float, *arguments: str) -> None:
    """Pytest on one file, patched. Its output is shown if it fails."""
    command = [sys.executable, "-m", "tests.patched", str(path), "-q", "-p", "no:cacheprovider", *arguments]
    try:
        child = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience_s,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout
        pytest.fail(f"{path.name} was not through after {patience_s:g} s:\n{said}", pytrace=False)
    if child.returncode != 0:
        pytest.fail(f"{path.name} ended with {child.returncode}:\n{child.stdout}", pytrace=False)
    assert " passed" in child.stdout, child.stdout
