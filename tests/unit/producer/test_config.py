"""Settings: where they come from, how they are written, and what is refused with which sentence."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.config import Loaded, LogUrl, Settings, load, markdown_table, parse_log_url
from producer.errors import ConfigurationError
from producer.settings_kinds import Refused, seconds
from producer.settings_table import SETTINGS

_ID = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _load(environ: Mapping[str, str] | None = None, *, strict: bool = False, **keywords: object) -> Loaded:
    return load(keywords, environ or {}, strict_environment=strict)


def _file(folder: Path, text: str) -> Path:
    path = folder / "thorn.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(environ: Mapping[str, str] | None = None, *, strict: bool = False, **keywords: object) -> str:
    return _refusal_of(keywords, environ or {}, strict)


def _refusal_of(keywords: Mapping[str, object], environ: Mapping[str, str], strict: bool = False) -> str:
    """The sentence with which these settings are refused."""
    with pytest.raises(ConfigurationError) as refusal:
        load(keywords, environ, strict_environment=strict)
    text = str(refusal.value)
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text


# --- where values come from


def test_without_anything_the_defaults_hold() -> None:
    schedule_s: tuple[float, ...] = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)

    loaded = _load()

    assert loaded == Loaded(Settings(), (), None, frozenset())
    assert loaded.settings.retry_schedule_s == schedule_s
    assert loaded.settings.max_log_bytes == 10 * 1024**3
    with pytest.raises(TypeError):
        loaded.settings.subscribers["*"] = "https://example.com/"  # type: ignore[index]


def test_keyword_wins_over_environment_wins_over_file(tmp_path: Path) -> None:
    file = _file(tmp_path, 'chunksize = 1\nlinger = "1s"\npartitions = 3')
    environ = {"THORN_SETTINGS": str(file), "THORN_CHUNKSIZE": "2", "THORN_LINGER": "2s"}

    loaded = _load(environ, chunksize=4)

    assert (loaded.settings.chunk_size, loaded.settings.linger_s, loaded.settings.partitions) == (4, 2.0, 3)
    assert loaded.explicit == {"chunksize", "linger", "partitions"}
    assert loaded.file == str(file)


def test_the_file_may_be_named_by_keyword(tmp_path: Path) -> None:
    file = _file(tmp_path, "partitions = 3")

    assert _load({"THORN_SETTINGS": "/nowhere.toml"}, settings=file).settings.partitions == 3
    assert _load(settings=str(file)).settings.partitions == 3


def test_none_and_empty_variables_count_as_unset(tmp_path: Path) -> None:
    loaded = _load(
        {"THORN_LOG": "", "THORN_SETTINGS": "", "THORN_CHUNKSIZE": "7"},
        log=None,
        chunksize=None,
        settings=None,
    )

    assert loaded.settings.log is None
    assert loaded.explicit == {"chunksize"}


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THORN_PARTITIONS", "5")

    assert load().settings.partitions == 5


@pytest.mark.parametrize(
    "name, attribute",
    [("max_block", "max_block_s"), ("max_block_s", "max_block_s"), ("chunk_size", "chunk_size")],
)
def test_names_are_taken_with_and_without_their_unit(tmp_path: Path, name: str, attribute: str) -> None:
    assert getattr(load({name: 3}, {}).settings, attribute) == 3
    assert getattr(_load({f"THORN_{name.upper()}": "3"}).settings, attribute) == 3
    assert getattr(_load(settings=_file(tmp_path, f"{name} = 3")).settings, attribute) == 3


def test_both_spellings_at_once_are_refused(tmp_path: Path) -> None:
    assert "max_block stands twice" in _refusal(max_block=1, max_block_s=2)
    assert "max_block stands twice" in _refusal({"THORN_MAX_BLOCK": "1", "THORN_MAX_BLOCK_S": "1"})
    assert "max_block stands twice" in _refusal(settings=_file(tmp_path, "max_block = 1\nmax_block_s = 2"))


def test_a_whole_settings_file(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        f"""
        log = "kafka://k1:9092,k2:9092/thorn"
        allow_networks = ["10.20.0.0/16"]
        retry_schedule = ["5s", "5m", "30m", "2h"]
        max_buffered_bytes = "1 MB"
        [subscribers]
        "user.created" = "https://crm.example.com/hooks"
        "order.*" = [{{ url = "https://shop.example.com/in" }}, "!myservice.hooks:subscribers_of"]
        [secrets]
        "{_ID.upper()}" = ["{_SECRET}"]
        """,
    )

    settings = _load(settings=file).settings

    assert settings.log == "kafka://k1:9092,k2:9092/thorn"
    assert settings.allow_networks == ("10.20.0.0/16",)
    assert settings.retry_schedule_s == (5.0, 300.0, 1800.0, 7200.0)
    assert settings.max_buffered_bytes == 1_000_000
    assert list(settings.subscribers) == ["user.created", "order.*"]
    assert settings.secrets == {_ID: (_SECRET,)}


# --- how values are written


@pytest.mark.parametrize(
    "written, expected",
    [
        ("5s", 5.0), ("500ms", 0.5), ("2h", 7200.0), ("5d", 432000.0), ("1h30m", 5400.0), ("1.5s", 1.5),
        ("7", 7.0), ("7.5", 7.5), (7, 7.0), (7.5, 7.5), (0, 0.0), (" 5s ", 5.0), ("5m", 300.0),
        ("1d2h3m4s5ms", 93784.005),
    ],
)  # fmt: skip
def test_durations(written: object, expected: float) -> None:
    assert seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    ["", "5 s", "s", "-1", "-5s", "5S", "5w", "1e3", "nan", "inf", "\u0665s", "1_000", "5s 5m", "5s,",
     -1, True, None, float("nan"), float("inf"), 10**400, [5], b"5s"],
)  # fmt: skip
def test_other_durations_are_refused(written: object) -> None:
    with pytest.raises(Refused):
        seconds(written)


@given(st.integers(0, 999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up_their_parts(d: int, h: int, m: int, s: int, ms: int) -> None:
    assert seconds(f"{d}d{h}h{m}m{s}s{ms}ms") == pytest.approx(d * 86400 + h * 3600 + m * 60 + s + ms / 1000)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("10 GiB", 10 * 1024**3), ("32MiB", 32 * 1024**2), ("1 MB", 1_000_000), ("1.5 gib", 1536 * 1024**2),
        ("1000000", 1_000_000), (2_000_000, 2_000_000), ("1024 kb", 1_024_000), ("2000 KiB", 2_048_000),
        ("1TB", 10**12), ("1000000 B", 1_000_000),
    ],
)  # fmt: skip
def test_sizes(written: object, expected: int) -> None:
    assert _load(max_buffered_bytes=written).settings.max_buffered_bytes == expected


@pytest.mark.parametrize(
    "written", ["", "10 G", "GiB", "-1 GB", "1 XB", 1e9, True, "1e9", [1], 899_999, "2000 TiB"]
)
def test_other_sizes_are_refused(written: object) -> None:
    assert "write a size from 900000 to" in _refusal(max_buffered_bytes=written)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(written: str, expected: tuple[str, int]) -> None:
    assert _load({"THORN_ADMIN": written}).settings.admin == expected


@pytest.mark.parametrize(
    "written", ["9464", ":9464", "::1:9464", "[::1]", "h:", "h:65536", "h:http", 9464, ["h", 1]]
)
def test_other_addresses_are_refused(written: object) -> None:
    assert "write host:port" in _refusal(admin=written)


def test_lists_are_arrays_or_words() -> None:
    expected = ("10.20.0.0/16", "fd00:1::/32", "127.0.0.1/32")

    assert (
        _load(allow_networks=["10.20.0.0/16", "fd00:1::/32", "127.0.0.1"]).settings.allow_networks == expected
    )
    assert (
        _load({"THORN_ALLOW_NETWORKS": "10.20.0.0/16  FD00:1::/32 127.0.0.1"}).settings.allow_networks
        == expected
    )
    assert _load(allow_hosts="Receiver.Internal 127.1 ::1").settings.allow_hosts == (
        "receiver.internal",
        "127.0.0.1",
        "::1",
    )
    assert _load(retry_schedule=[]).settings.retry_schedule_s == ()
    assert _load({"THORN_RETRY_SCHEDULE": "5s 1m 0.5"}).settings.retry_schedule_s == (5.0, 60.0, 0.5)
    assert _load(retry_schedule=[1, "2s", 0.5]).settings.retry_schedule_s == (1.0, 2.0, 0.5)


def test_mappings_are_tables_or_json_objects() -> None:
    expected = {"order.*": "https://example.com/hooks"}

    assert _load(subscribers=expected).settings.subscribers == expected
    assert (
        _load({"THORN_SUBSCRIBERS": '{"order.*": "https://example.com/hooks"}'}).settings.subscribers
        == expected
    )


def test_paths_are_absolute_and_start_where_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    file = _file(tmp_path / "etc", 'ca_file = "ca.pem"\nlog = "sqlite:///thorn.db"\nstate_dir = "/srv/state"')

    from_file = _load({"THORN_SETTINGS": "../etc/thorn.toml"})
    from_environment = _load({"THORN_CA_FILE": "ca.pem", "THORN_LOG": "sqlite:///thorn.db"}, settings=file)

    assert from_file.file == str(file)
    assert from_file.settings.ca_file == str(tmp_path / "etc/ca.pem")
    assert from_file.settings.log == f"sqlite:///{tmp_path}/etc/thorn.db"
    assert from_file.settings.state_dir == "/srv/state"
    assert from_environment.settings.ca_file == str(tmp_path / "run/ca.pem")
    assert from_environment.settings.log == f"sqlite:///{tmp_path}/run/thorn.db"


def test_choices_are_read_in_any_case() -> None:
    settings = _load({"THORN_LOG_LEVEL": "DEBUG"}, log_format="Json", attempt_log="failures").settings

    assert (settings.log_level, settings.log_format, settings.attempt_log) == ("debug", "json", "failures")


# --- the log


def test_log_urls(tmp_path: Path) -> None:
    relative = parse_log_url("sqlite:///a/b.db", "/srv/app")
    assert relative == LogUrl("sqlite", "/srv/app/a/b.db", (), "", "sqlite:////srv/app/a/b.db")
    assert parse_log_url("sqlite:////var/x.db", "/srv") == LogUrl(
        "sqlite", "/var/x.db", (), "", "sqlite:////var/x.db"
    )
    assert parse_log_url("sqlite:///x.db").path == os.path.abspath("x.db")
    assert parse_log_url(relative.text) == relative
    kafka = "kafka://k1:9092,[::1]:9093/team.thorn"
    assert parse_log_url(kafka) == LogUrl("kafka", None, ("k1:9092", "[::1]:9093"), "team.thorn", kafka)


@pytest.mark.parametrize(
    "written, why",
    [
        ("thorn.db", "must be sqlite"),
        ("postgres://h/db", "must be sqlite"),
        ("SQLITE:///x.db", "must be sqlite"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:", "must be sqlite"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////var/log/", "name a file"),
        ("sqlite:///x.db?mode=ro", "no options"),
        ("sqlite:///x\x00.db", "no options"),
        ("kafka://k1/thorn", "host:port"),
        ("kafka://k1:0/thorn", "host:port"),
        ("kafka://k1:70000/thorn", "host:port"),
        ("kafka://k1:9092,/thorn", "host:port"),
        ("kafka:///thorn", "host:port"),
        ("kafka://k1:9092", "/prefix"),
        ("kafka://k1:9092/", "/prefix"),
        ("kafka://k1:9092/a/b", "/prefix"),
        ("kafka://k1:9092/.a", "/prefix"),
        (f"kafka://k1:9092/{'a' * 239}", "/prefix"),
        ("kafka://me:hunter2@k1:9092/thorn", "kafka_sasl_username"),
    ],
)
def test_other_log_urls_are_refused(written: str, why: str) -> None:
    text = _refusal(log=written)

    assert why in text
    assert "The setting log = " in text
    assert "hunter2" not in text
    with pytest.raises(ConfigurationError, match=why):
        parse_log_url(written)
    assert _refusal(log=7).endswith("write sqlite:///file.db or kafka://host:port/prefix.")


# --- what is refused


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("max_blok", "max_block"),
        ("THORN_LOG", "log"),
        ("subscriber", "subscribers"),
        ("chunk", "chunksize"),
        ("x", ""),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(tmp_path: Path, name: str, nearest: str) -> None:
    assert (
        f"There is no setting '{name}' (from the keyword arguments): the nearest one is '{nearest}"
        in _refusal_of({name: 1}, {})
    )

    file = _file(tmp_path, f"{name} = 1")
    assert f"There is no setting '{name}' (from {file}): the nearest one is '{nearest}" in _refusal(
        settings=file
    )


def test_a_settings_file_cannot_name_another(tmp_path: Path) -> None:
    assert "There is no setting 'settings'" in _refusal(settings=_file(tmp_path, 'settings = "other.toml"'))


@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("chunksize", "ten", "write a whole number from 1 to 1000"),
        ("chunksize", 0, "write a whole number from 1 to 1000"),
        ("chunksize", 1001, "write a whole number from 1 to 1000"),
        ("chunksize", 1.5, "write a whole number"),
        ("chunksize", True, "write a whole number"),
        ("partitions", 0, "write a whole number from 1"),
        ("max_in_flight", -1, "write a whole number from 1"),
        ("event_timeout", 61, "1 ms to 60 s"),
        ("event_timeout", "2m", "1 ms to 60 s"),
        ("event_timeout", 0, "1 ms to 60 s"),
        ("event_timeout", "soon", "write a duration"),
        ("max_age", 0, "write a duration"),
        ("disable_after", 0, "write a duration"),
        ("disable_after", -5, "write a duration"),
        ("drain_timeout", "2h", "0 to 1 h"),
        ("idle_timeout", 0, "write a duration"),
        ("linger", "-1s", "write a duration"),
        ("retry_schedule", ["5s", "soon"], "give an array"),
        ("retry_schedule", 5, "give an array"),
        ("retry_schedule", "5s,5m", "write a duration"),
        ("log_level", "loud", "write one of debug, info, warning, error"),
        ("log_format", 1, "write one of text, json"),
        ("attempt_log", True, "write one of off, failures, all"),
        ("kafka_security", "tls", "write one of plaintext, ssl"),
        ("kafka_sasl_mechanism", "GSSAPI", "write one of PLAIN"),
        ("dispatcher", "my dispatcher", "module:Class"),
        ("dispatcher", "module:", "module:Class"),
        ("secrets_of", "module.function", "module:function"),
        ("worker_id", "a b", "one word"),
        ("allow_networks", ["10.20.0.1/16"], "names an address inside a network"),
        ("allow_networks", ["10.20.0.0/33"], "is no network"),
        ("allow_networks", ["example.com"], "is no network"),
        ("allow_networks", [10], "give an array"),
        ("allow_hosts", ["https://example.com"], "without scheme and port"),
        ("allow_hosts", [1], "give an array"),
        ("ca_file", "", "path of a file"),
        ("ca_file", 7, "path of a file"),
        ("ca_file", b"/x", "path of a file"),
        ("max_log_bytes", "1 kB", "write a size from 1000000"),
    ],
)
def test_wrong_values_are_refused_with_key_value_rule_and_origin(name: str, value: object, rule: str) -> None:
    text = _refusal_of({name: value}, {})

    assert f"The setting {name} = {value!r} from the keyword arguments is refused: " in text
    assert rule in text


def test_the_origin_of_a_wrong_value_is_named(tmp_path: Path) -> None:
    file = _file(tmp_path, "chunksize = 0")

    assert "from THORN_CHUNKSIZE in the environment is refused" in _refusal({"THORN_CHUNKSIZE": "0"})
    assert "from THORN_CHUNK_SIZE in the environment is refused" in _refusal({"THORN_CHUNK_SIZE": "0"})
    assert f"from {file} is refused" in _refusal(settings=file)


def test_the_library_never_fails_on_names_that_it_does_not_know() -> None:
    loaded = _load(
        {"THORN_CHUNKSISE": "0", "THORN_WORKER_PORT": "tcp://10.0.0.1:80", "OTHER": "x", "THORN_log": ""}
    )

    assert loaded.settings == Settings()
    assert len(loaded.warnings) == 3
    assert loaded.warnings[0].startswith("THORN_CHUNKSISE in the environment is no setting of Thorn")
    assert loaded.warnings[0].endswith("did you mean THORN_CHUNKSIZE?")
    assert "THORN_WORKER_PORT" in loaded.warnings[1]
    assert "10.0.0.1" not in loaded.warnings[1]
    assert loaded.warnings[2].endswith("did you mean THORN_LOG?")


@pytest.mark.parametrize(
    "name, near",
    [
        ("THORN_CHUNKSISE", "THORN_CHUNKSIZE"), ("THORN_LOGS", "THORN_LOG"),
        ("THORN_MAXBLOCK", "THORN_MAX_BLOCK"), ("THORN_PARTITONS", "THORN_PARTITIONS"),
        ("THORN_SETTING", "THORN_SETTINGS"),
        ("THORN_log", "THORN_LOG"), ("THORN_LGO", "THORN_LOG"),
    ],
)  # fmt: skip
def test_a_worker_refuses_what_looks_misspelt(name: str, near: str) -> None:
    assert f"There is no setting {name} (from the environment): did you mean {near}?" == _refusal(
        {name: "x"}, strict=True
    )


@pytest.mark.parametrize(
    "name", ["THORN_WORKER_PORT", "THORN_WORKER_SERVICE_HOST", "THORN_PORT_9464_TCP", "THORN_RELEASE"]
)
def test_a_worker_warns_of_what_a_platform_injects(name: str) -> None:
    (warning,) = _load({name: "x"}, strict=True).warnings

    assert warning.startswith(f"{name} in the environment is no setting of Thorn")
    assert warning.endswith("unset it if it was meant for Thorn.")


def test_files_that_cannot_be_read_or_are_no_toml(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.toml cannot be read (No such file" in _refusal(settings=tmp_path / "none.toml")
    assert f"{tmp_path} cannot be read (Is a directory)" in _refusal({"THORN_SETTINGS": str(tmp_path)})
    assert "is not TOML: " in _refusal(settings=_file(tmp_path, "log = "))
    (tmp_path / "thorn.toml").write_bytes(b'log = "\xff"')
    assert "is not TOML: " in _refusal(settings=tmp_path / "thorn.toml")
    assert "The setting settings = 7 from the keyword arguments is refused" in _refusal(settings=7)


@pytest.mark.parametrize(
    "keywords, parts",
    [
        (
            {"max_in_flight": 100, "max_in_flight_per_host": 101},
            ["max_in_flight_per_host = 101", "max_in_flight = 100"],
        ),
        ({"max_in_flight_per_host": 3000}, ["max_in_flight_per_host = 3000", "max_in_flight = 2000"]),
        ({"dispatcher": "log"}, ["dispatcher = 'log'", "set log"]),
        (
            {"kafka_security": "ssl", "kafka_cert_file": "/c"},
            ["kafka_cert_file = '/c'", "needs kafka_key_file"],
        ),
        (
            {"kafka_security": "ssl", "kafka_key_file": "/k"},
            ["kafka_key_file = '/k'", "needs kafka_cert_file"],
        ),
        ({"kafka_ca_file": "/c"}, ["kafka_ca_file = '/c'", "'plaintext'"]),
        (
            {"kafka_security": "sasl_ssl"},
            ["kafka_sasl_mechanism and kafka_sasl_username and kafka_sasl_password_file"],
        ),
        ({"kafka_security": "ssl", "kafka_sasl_username": "me"}, ["kafka_sasl_username = 'me'", "'ssl'"]),
    ],
)
def test_combinations_that_cannot_be_meant_are_refused(keywords: dict[str, object], parts: list[str]) -> None:
    text = _refusal_of(keywords, {})

    assert all(part in text for part in parts)


def test_good_combinations_pass() -> None:
    sasl = {
        "kafka_security": "SASL_SSL",
        "kafka_ca_file": "/ca",
        "kafka_sasl_mechanism": "scram-sha-512",
        "kafka_sasl_username": "me",
        "kafka_sasl_password_file": "/p",
    }

    assert load(sasl, {}).settings.kafka_sasl_mechanism == "SCRAM-SHA-512"
    assert _load(log="sqlite:///x.db", dispatcher="log").settings.dispatcher == "log"
    assert _load(dispatcher="my.package:Dispatcher").settings.dispatcher == "my.package:Dispatcher"


def test_the_default_per_host_follows_a_small_total() -> None:
    assert _load(max_in_flight=10).settings.max_in_flight_per_host == 10
    assert _load(max_in_flight=100).settings.max_in_flight_per_host == 64


def test_a_schedule_that_max_age_cuts_is_doubted() -> None:
    (warning,) = _load(retry_schedule="1d 1d", max_age="1d").warnings

    assert "add up to 172800 s, more than max_age = 86400 s" in warning


# --- secrets


@pytest.mark.parametrize(
    "keywords",
    [
        {"secrets": {_ID: "whsec_hunter2"}},
        {"secrets": {"whsec_hunter2": _ID}},
        {"secrets": {"hunter2": _SECRET}},
        {"secrets": ["hunter2"]},
        {"secrets": {_ID: [_SECRET, "hunter2"]}},
        {"secrets": '{"hunter2'},
        {"secrets": '{"hunter2": 1, "hunter2": 2}'},
        {"secrets": '["hunter2"]'},
        {"subscribers": "hunter2"},
        {"subscribers": [{"hmac_secret": "hunter2"}]},
        {"subscribers": {7: "hunter2"}},
        {"subscriptions": "://user:hunter2@db/thorn"},
        {"log": "mysql://user:hunter2@db/thorn"},
        {"allow_hosts": "https://user:hunter2@example.com"},
        {"allow_networks": "https://user:hunter2@example.com"},
    ],
)
def test_a_refusal_shows_no_secret(keywords: dict[str, object]) -> None:
    assert "hunter2" not in _refusal_of(keywords, {})


def test_deeply_nested_json_is_refused() -> None:
    assert "nested too deeply" in _refusal({"THORN_SUBSCRIBERS": '{"a": ' + "[" * 100_000})


def test_the_repr_shows_what_differs_but_no_secret() -> None:
    settings = _load(
        log="kafka://k:1/p",
        subscribers={"*": {"url": "https://example.com/", "hmac_secret": "hunter2"}},
        secrets={_ID: _SECRET},
    ).settings

    assert repr(settings) == "Settings(log='kafka://k:1/p', subscribers=\u2026, secrets=\u2026)"


def test_a_store_of_subscriptions_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigurationError, match="later release") as raised:
        _load(subscriptions="postgresql://user:hunter2@db/thorn")

    assert "hunter2" not in str(raised.value)


def test_a_setting_without_effect_yet_is_doubted() -> None:
    assert any("disable_after has no effect yet" in warning for warning in _load(disable_after="1d").warnings)


# --- the table


def test_the_table_and_the_settings_agree() -> None:
    assert [setting.attribute for setting in SETTINGS] == [f.name for f in fields(Settings)]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting.name))
def test_the_default_that_the_table_tells_is_the_one_that_holds(setting: object) -> None:
    from producer.settings_table import Setting

    assert isinstance(setting, Setting)
    default = getattr(Settings(), setting.attribute)
    written = setting.default.strip("`")
    if default in (None, (), {}):
        assert setting.kind.rule
        assert written in (
            "unset",
            "none",
            "the system's",
            "a per-user cache folder",
            "log` if a log is set, else `default",
        )
    else:
        assert setting.kind.parse(written, "/") == default


def test_the_markdown_table_has_a_row_for_each_setting() -> None:
    lines = markdown_table().splitlines()

    assert len(lines) == 2 + 1 + len(SETTINGS)
    assert (
        "| `THORN_EVENT_TIMEOUT` | 15 | worker | total seconds for one attempt, body included; at most 60 |"
        in lines
    )
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_reading_settings_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"  # an editable installation brings modules of its own
        "import producer.config, producer.encoding, producer.subscriptions.settings\n"
        "heavy = 'ssl sqlite3 gevent urllib3 asyncio email http ipaddress tomllib difflib '\n"
        "heavy += 'urllib.request urllib.parse'\n"
        "print([m for m in heavy.split() if m in sys.modules.keys() - before])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
