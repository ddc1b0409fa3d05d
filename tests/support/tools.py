"""Programs that tests need and that pip does not bring."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

#: Debian keeps servers where only root's path looks; Go's own installer has a folder of its own.
_ELSEWHERE: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin")


def require_tool(name: str) -> str:
    """Path of a program. Without it the test is skipped, or fails where ``CI=true``."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ELSEWHERE))
    if found is not None:
        return str(Path(found))
    message = f"{name} is not installed here: install it to run this test"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)
