"""The jars of Apache Kafka, fetched by Maven once and remembered by the pom that named them."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.kafka.errors import ClusterError, tail

POM: Final = Path(__file__).with_name("pom.xml")

#: A slow line takes minutes for 63 MB; a hung one must end.
_FETCH_TIMEOUT_S: Final = 600


def default_cache() -> Path:
    """A folder of this user, as XDG says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thorn-worker" / "kafka"


def find_java() -> str:
    """The program that runs a broker."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise ClusterError(
            "java is not installed: install 17 or newer (Debian: apt install default-jre-headless)"
        )
    return found


def class_path(cache: Path) -> str:
    """The class path of a broker. The first call for a pom downloads its jars into Maven's local repository.

    Raises ClusterError when that fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    known = cache / f"class-path-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}.txt"
    # Two Mavens that download into the same repository can each find the other's half-written jars.
    with _alone(cache / "lock"):
        return _remembered(known) or _fetched(known)


def _remembered(known: Path) -> str | None:
    """What an earlier call found, unless a jar of it has been deleted since."""
    try:
        path = known.read_text().strip()
    except FileNotFoundError:
        return None
    return path if path and all(Path(jar).is_file() for jar in path.split(os.pathsep)) else None


def _fetched(known: Path) -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise ClusterError("mvn is not installed: Maven fetches Apache Kafka (Debian: apt install maven)")
    fresh = known.with_suffix(".new")
    log = known.with_suffix(".log")
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:build-classpath", "-DincludeScope=runtime"]
    # Even a quiet Maven prints escape codes, so the class path comes by a file and never from its output.
    command.append(f"-Dmdep.outputFile={fresh}")
    with log.open("wb") as output:
        try:
            code = subprocess.run(  # noqa: S603 - no shell
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=_FETCH_TIMEOUT_S
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code != 0:
        raise ClusterError(
            f"Maven could not fetch Apache Kafka (exit {code}): is its repository within reach?\n{tail(log)}"
        )
    fresh.replace(known)
    path = _remembered(known)
    if path is None:
        raise ClusterError(
            f"{known} names jars that do not exist: remove Maven's local repository, try again"
        )
    return path


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
