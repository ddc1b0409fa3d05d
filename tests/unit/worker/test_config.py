"""What a worker refuses before it touches the log."""

import resource
import subprocess
import sys

import pytest

from producer.config import Settings
from producer.errors import ConfigurationError
from thorn_worker.config import check_file_limit, check_for_run


def test_a_worker_without_a_log_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///thorn\.db"):
        check_for_run(Settings())


@pytest.mark.parametrize("dispatcher", ["default", "celery"])
def test_dispatchers_of_later_releases_are_refused_by_name(dispatcher: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{dispatcher}'.*set it to 'log'"):
        check_for_run(Settings(log="sqlite:////tmp/x.db", dispatcher=dispatcher))


@pytest.mark.parametrize("dispatcher", [None, "log", "disabled"])
def test_dispatchers_of_this_release_are_fine(dispatcher: str | None) -> None:
    check_for_run(Settings(log="sqlite:////tmp/x.db", dispatcher=dispatcher))


def test_2000_attempts_at_once_need_2256_files() -> None:
    check_file_limit(2000, 2256)
    with pytest.raises(ConfigurationError, match=r"2256 open files.*only 2255.*to 1999 or less"):
        check_file_limit(2000, 2255)


def test_no_limit_at_all_is_enough() -> None:
    check_file_limit(10**9, resource.RLIM_INFINITY)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    # Given a process with a soft limit below its hard one, in a process of its own since limits are per
    # process
    program = (
        "import resource as r; from thorn_worker.config import raise_file_limit\n"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (64, hard))\n"
        "assert raise_file_limit(1) == hard; assert r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard)"
    )

    # When the limit is raised, then the process sees the hard one
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
