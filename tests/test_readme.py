"""The README keeps its word: tables are current, code samples run, the two commands exist."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import producer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tables_of_settings_and_metrics_are_current() -> None:
    spec = importlib.util.spec_from_file_location("print_tables", ROOT / "docs" / "print_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.with_tables(README) == README, "run: python docs/print_tables.py"


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()

    for target in re.findall(r"^    make (\w+) ", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def samples(heading: str) -> list[str]:
    """The indented blocks of one section, their indentation removed."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M).strip() for block in blocks]


def test_the_sample_of_a_service_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sample,) = samples("In a service")
    sample = sample.replace("/var/lib/thorn/thorn.db", str(tmp_path / "thorn.db"))

    class Order:
        id = 7

    exec(compile(sample, "README.md", "exec"), {"orders": [Order(), Order()]})

    assert producer.flush()
    assert producer.stats().acknowledged == 3
    producer.configure(dispatcher="disabled")  # lets go of the file


def test_the_sample_of_a_settings_file_is_accepted(tmp_path: Path) -> None:
    sample = samples("Run a worker")[0].split("\n$ ", 1)[0]
    sample = sample.replace("whsec_...", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    tomllib.loads(sample)
    (tmp_path / "thorn.toml").write_text(sample)

    with producer.Producer(settings=str(tmp_path / "thorn.toml")) as service:
        assert service.settings.retry_schedule_s == (5.0, 300.0, 1800.0, 7200.0)
        assert service.settings.log == f"sqlite:///{tmp_path}/thorn.db"
