"""What lies in deploy/ is what the programs that read it understand, and what the worker really does."""

import os
import re
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer.config import load
from producer.settings_table import BY_NAME
from tests.support.sink import RecordingSink
from tests.support.system import System
from tests.support.tools import require_tool
from thorn_worker.cli.app import cli
from thorn_worker.cli.run import run
from thorn_worker.metrics import METRICS
from thorn_worker.supervisor import Timing

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
README = (DEPLOY / "README.md").read_text()

#: What a worker may need from the first signal to its end.
DRAIN_S = load({}, {}).settings.drain_timeout_s + Timing().grace_s


def setting(text: str, pattern: str) -> str:
    """What a file says, once."""
    (found,) = re.findall(pattern, text, re.M)
    assert isinstance(found, str)
    return found


# -- the image -------------------------------------------------------------------------------------


def copied() -> list[str]:
    """What the image takes from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert "producer" in copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())


def test_the_image_installs_all_that_the_package_is_built_from() -> None:
    project = (ROOT / "pyproject.toml").read_text()

    assert {"pyproject.toml", setting(project, r'^readme = "(.+)"')} <= set(copied())
    assert set(re.findall(r'^    "(\w+)",$', project, re.M)) >= {"producer", "thorn_worker"}


def image_environment() -> dict[str, str]:
    """What the image sets."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.M)
    return dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())


def test_the_image_is_not_root_and_its_admin_address_can_be_reached() -> None:
    settings = load({}, image_environment(), strict_environment=True)

    assert settings.warnings == ()
    assert settings.settings.admin == ("0.0.0.0", int(setting(DOCKERFILE, r"^EXPOSE (\d+)$")))
    assert setting(DOCKERFILE, r"^USER (\d+):\d+$") != "0"
    assert settings.settings.state_dir is not None
    assert settings.settings.state_dir.startswith(setting(DOCKERFILE, r"^VOLUME (.+)$"))


def test_the_images_command_exists() -> None:
    assert setting(DOCKERFILE, r'^ENTRYPOINT \["(.+)"\]$') == "thorn-worker"
    assert setting(DOCKERFILE, r'^CMD \["(.+)"\]$') in cli_commands()


def check_health(admin: str) -> int:
    """The exit code of the image's health check."""
    return subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={**os.environ, "THORN_ADMIN": admin},
        stderr=subprocess.DEVNULL,
        timeout=30,
    ).returncode


@pytest.mark.e2e
def test_the_health_check_tells_a_living_worker_from_a_dead_one(tmp_path: Path) -> None:
    # Given a worker that listens on every address, as it does in a container
    with RecordingSink(tmp_path / "ledger") as sink:
        with System(tmp_path, sink, subscribers={}, admin="0.0.0.0:0") as system:
            worker = system.worker()
            admin = worker.admin.removeprefix("http://").rstrip("/")
            assert check_health(admin) == 0

            # When it is gone, then its container is unhealthy
            worker.kill()
            assert check_health(admin) == 1


def test_a_worker_that_does_not_answer_in_time_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check_health(f"127.0.0.1:{silent.getsockname()[1]}") == 1


# -- compose ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, parsed."""
    parsed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(parsed, dict)
    return parsed


def test_the_settings_of_all_containers_are_ours(compose: dict[str, Any]) -> None:
    for name in ("topics", "worker-1", "worker-2"):
        environment = {**image_environment(), **compose["services"][name]["environment"]}
        found = load({}, environment, strict_environment=True)
        assert found.warnings == ()
        assert found.settings.log == "kafka://kafka:19092/thorn"


def test_the_two_workers_differ_in_name_state_and_port_only(compose: dict[str, Any]) -> None:
    one, two = (compose["services"][name] for name in ("worker-1", "worker-2"))
    differ = {key for key in one if one[key] != two[key]}

    assert differ == {"environment", "ports", "volumes"}
    assert one["environment"]["THORN_WORKER_ID"] != two["environment"]["THORN_WORKER_ID"]


def test_what_compose_names_exists(compose: dict[str, Any]) -> None:
    services = compose["services"]
    volumes = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", ())]
    files = [source for source in volumes if source.startswith(".")]
    assert files
    assert all((DEPLOY / source).exists() for source in files)
    assert set(volumes) - set(files) == set(compose["volumes"])
    assert all(name in services for service in services.values() for name in service.get("depends_on", ()))
    build = services["worker-1"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()


def test_every_image_of_others_is_pinned(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values() if "build" not in service]

    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image) for image in images)


def test_compose_runs_the_kafka_that_the_tests_run(compose: dict[str, Any]) -> None:
    pom = ElementTree.parse(DEPLOY / "kafka" / "pom.xml")
    version = pom.findtext(".//{*}kafka.version")

    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_containers_say_a_listener_that_kafka_advertises(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]["environment"]
    inside = dict(one.split("://") for one in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    bound = dict(one.split("://") for one in kafka["KAFKA_LISTENERS"].split(","))

    assert inside["INSIDE"] == "kafka:19092"
    for name, address in inside.items():
        assert bound[name].rpartition(":")[2] == address.rpartition(":")[2]
    assert set(bound) == {
        one.split(":")[0] for one in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    }


def test_workers_get_the_time_that_a_drain_takes(compose: dict[str, Any]) -> None:
    for name in ("worker-1", "worker-2"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > DRAIN_S


def test_prometheus_asks_the_workers_of_compose(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    port = setting(DOCKERFILE, r"^EXPOSE (\d+)$")
    workers = [name for name in compose["services"] if name.startswith("worker-")]

    assert job["static_configs"] == [{"targets": [f"{name}:{port}" for name in workers]}]


# -- systemd ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unit() -> ConfigParser:
    """The unit, parsed; of a key that stands twice the last one."""
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / "thorn-worker.service")
    return parser


def test_the_unit_leaves_draining_to_the_parent(unit: ConfigParser) -> None:
    service = unit["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > DRAIN_S
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "2 3"
    assert int(service["LimitNOFILE"]) >= load({}, {}).settings.max_in_flight + 256


def test_the_units_command_line_and_settings_exist(unit: ConfigParser) -> None:
    program, command, *options = unit["Service"]["ExecStart"].split()

    assert program.endswith("/thorn-worker")
    assert command in cli_commands()
    known = {option for parameter in run.params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    text = (DEPLOY / "systemd" / "thorn-worker.service").read_text()
    for name in re.findall(r"^Environment=THORN_(\w+)=", text, re.M):
        assert name.lower() in {*BY_NAME, "settings"}


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    # Given the unit with a program that exists here
    text = (DEPLOY / "systemd" / "thorn-worker.service").read_text()
    unit = tmp_path / "thorn-worker.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.M))

    verified = subprocess.run([tool, "verify", unit], capture_output=True, text=True, timeout=60)

    about_us = [line for line in verified.stderr.splitlines() if unit.name in line]
    assert (verified.returncode, about_us) == (0, [])


# -- Prometheus ------------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    checked = subprocess.run(
        [require_tool("promtool"), *arguments],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_of_an_alert_is_one_that_the_worker_has() -> None:
    ours = {metric.name: metric for metric in METRICS}
    for alert in alerts():
        named = re.findall(r"\b(thorn_\w+)(?:\{(\w+)=\"(\w+)\"\})?", alert["expr"])
        assert named, alert["alert"]
        for name, label, value in named:
            assert name in ours, alert["alert"]
            assert label in ("", ours[name].label)
            assert value in ("", *ours[name].values)
    for name in re.findall(r"\bthorn_[a-z]\w+", README + "".join(map(str, alerts()))):
        assert name in ours


def test_each_of_the_five_alerts_says_what_to_do_in_one_line_and_is_explained() -> None:
    assert len(alerts()) == 5
    for alert in alerts():
        annotations = alert["annotations"]
        assert set(annotations) == {"summary", "runbook"}
        assert "\n" not in annotations["runbook"]
        assert f"- **{alert['alert']}**:" in README


def test_every_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in alerts():
        mine = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == alert["alert"]]
        assert True in mine, alert["alert"]
        assert False in mine, alert["alert"]


# -- the text --------------------------------------------------------------------------------------


def cli_commands() -> set[str]:
    """``run``, ``dead``, ``dead list`` and all others."""
    found = set()
    for name, command in cli.commands.items():
        found.add(name)
        found |= {f"{name} {sub}" for sub in getattr(command, "commands", ())}
    return found


def test_every_command_that_is_advised_exists() -> None:
    advised = README + (DEPLOY / "prometheus" / "alerts.yml").read_text()
    for words in re.findall(r"`?thorn-worker ((?:[a-z]+ ?){1,2})", advised):
        first, *rest = words.split()
        assert first in cli_commands(), words
        if any(name.startswith(f"{first} ") for name in cli_commands()):
            assert f"{first} {rest[0]}" in cli_commands(), words


def test_the_readme_names_every_file() -> None:
    for path in DEPLOY.iterdir():
        if path.suffix not in (".py", ".md", "") or path.name in ("healthcheck.py", "Dockerfile"):
            assert path.name in README


def test_every_setting_in_the_readme_exists() -> None:
    platform = {"WORKER_PORT"}  # what Kubernetes makes up
    for name in set(re.findall(r"\bTHORN_([A-Z_]+)", README)) - platform:
        assert name.lower() in {*BY_NAME, "settings"}, name
