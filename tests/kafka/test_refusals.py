"""What the brokers' tools refuse, and how: one sentence with what to do. Needs neither Java nor Maven."""

import shutil
import socket
from pathlib import Path

import pytest

from deploy.kafka import Cluster, ClusterError, Options, Security, TlsFiles
from deploy.kafka.__main__ import main
from deploy.kafka.classpath import class_path, find_java
from deploy.kafka.layout import HOST, Layout, is_free, new_layout, read_layout
from tests.kafka.certificates import issue


def test_java_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ClusterError, match="java is not installed: install 17 or newer"):
        find_java()


def test_maven_is_missing_and_nothing_was_fetched_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="mvn is not installed: "):
        class_path(tmp_path / "cache")


def test_maven_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "mvn", "echo 'no route to the repository'; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ClusterError, match=r"(?s)could not fetch .* \(exit 1\).*no route to the repository"):
        class_path(tmp_path / "cache")


def test_a_class_path_is_remembered_until_a_jar_of_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a Maven that prints escape codes, as it does even when quiet, and writes the path where it is told
    jar = tmp_path / "kafka.jar"
    jar.touch()
    calls = tmp_path / "calls"
    script(
        tmp_path / "bin" / "mvn",
        f"printf '\\033[0m'; echo called >> {calls}; for last; do :; done; printf %s {jar} > ${{last#*=}}",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    # When asked twice, then Maven runs once
    cache = tmp_path / "cache"
    assert [class_path(cache), class_path(cache)] == [str(jar), str(jar)]
    assert calls.read_text() == "called\n"

    # And when the jar is gone it runs again, in vain here
    jar.unlink()
    with pytest.raises(ClusterError, match="names jars that do not exist"):
        class_path(cache)


def script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{shutil.which('sh')}\n{text}\n")
    path.chmod(0o755)


def test_java_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a Java that refuses Kafka's classes as old ones do
    script(tmp_path / "bin" / "java", "echo 'java.lang.UnsupportedClassVersionError: kafka/Kafka'; exit 1")
    remember_a_class_path(tmp_path / "cache", monkeypatch, tmp_path / "bin")

    # When a broker starts with it, then the error says so before it quotes Java
    cluster = Cluster(tmp_path / "kafka", cache=tmp_path / "cache")
    with pytest.raises(ClusterError, match=r"java is too old, Kafka needs Java 17 or newer; the end of"):
        cluster.start()
    cluster.wipe()
    assert not (tmp_path / "kafka").exists()


def test_a_port_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "bin" / "java", "exit 1")
    remember_a_class_path(tmp_path / "cache", monkeypatch, tmp_path / "bin")
    with socket.create_server((HOST, 0)) as stranger:
        port = stranger.getsockname()[1]
        assert not is_free(port)
        cluster = Cluster(tmp_path / "kafka", Options(port=port), cache=tmp_path / "cache")
        with pytest.raises(ClusterError, match=f"port {port} of 127.0.0.1 is taken: "):
            cluster.start()


def remember_a_class_path(cache: Path, monkeypatch: pytest.MonkeyPatch, programs: Path) -> None:
    """As an earlier Maven would have left it."""
    jar = programs / "kafka.jar"
    jar.touch()
    script(programs / "mvn", f"for last; do :; done; printf %s {jar} > ${{last#*=}}")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    class_path(cache)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"brokers": 2}, "2 brokers: only 1 and 3"),
        ({"port": 65_535}, "port 65535 leaves no room for 3 ports"),
        ({"security": Security.TLS}, "security tls needs a certificate and a CA file"),
        ({"security": Security.SASL}, "security sasl needs at least one user"),
        ({"users": {"al ice": "secret"}}, "'al ice' can't be a user name or a password here"),
        ({"users": {"alice": 'se"cret'}}, "can't be a user name or a password here"),
    ],
)
def test_options_that_make_no_cluster(options: dict[str, object], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        Options(**options)  # type: ignore[arg-type]


def test_a_key_in_a_form_that_java_does_not_read(tmp_path: Path) -> None:
    files = issue(tmp_path)
    with pytest.raises(ClusterError, match=r"not hold a PKCS#8 private key .*openssl pkcs8 -topk8 -nodes"):
        TlsFiles(Path(files.client_key), Path(files.ca)).check()
    with pytest.raises(ClusterError, match=r"nowhere\.pem does not exist"):
        TlsFiles(files.brokers.key_and_chain, tmp_path / "nowhere.pem").check()
    files.brokers.check()


def test_a_folder_keeps_the_shape_it_was_formatted_with(tmp_path: Path) -> None:
    Layout("id", 21_000, Options(brokers=3)).write(tmp_path)
    with pytest.raises(
        ClusterError, match="holds a cluster of 3 with security plaintext from port 21000, not"
    ):
        Cluster(tmp_path, Options(brokers=1))
    assert Cluster(tmp_path).log_url() == "kafka://127.0.0.1:21000,127.0.0.1:21001,127.0.0.1:21002/thorn"


def test_a_layout_is_read_as_it_was_written(tmp_path: Path) -> None:
    options = Options(
        security=Security.SASL_TLS,
        tls=TlsFiles(tmp_path / "key.pem", tmp_path / "ca.pem"),
        users={"alice": "secret"},
        extra={"log.cleaner.backoff.ms": "100"},
    )
    layout = new_layout(options, None)
    layout.write(tmp_path)
    assert read_layout(tmp_path) == layout


def test_three_brokers_from_9092() -> None:
    layout = Layout("id", 9092, Options(brokers=3))
    assert layout.ports(2) == (9093, 9096, 9099)
    assert sorted(port for i in layout.ids for port in layout.ports(i)) == list(range(9092, 9101))


def test_commands_on_a_folder_without_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path)
    assert main(["kill", "1", "--dir", folder]) == 1
    assert "there is no cluster in" in capsys.readouterr().err
    assert main(["start", "--dir", folder, "--ca", "ca.pem"]) == 1
    assert "--key-and-chain and --ca belong together" in capsys.readouterr().err
    assert main(["stop", "--dir", folder]) == 0
    assert main(["wipe", "--dir", folder]) == 0
