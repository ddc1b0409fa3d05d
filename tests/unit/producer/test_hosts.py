"""One destination, one spelling: what `producer.hosts` takes, makes of it, and refuses."""

import socket
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import SubscriptionError
from producer.hosts import MAX_URL_LENGTH, host_of, normal_name, parse, shown


@pytest.mark.parametrize(
    "url, host, normal",
    [
        ("https://example.com", "https://example.com:443", "https://example.com/"),
        ("HTTPS://Example.COM.:443/A?b=C", "https://example.com:443", "https://example.com/A?b=C"),
        ("http://example.com:80", "http://example.com:80", "http://example.com/"),
        ("http://example.com:443/", "http://example.com:443", "http://example.com:443/"),
        ("https://example.com:", "https://example.com:443", "https://example.com/"),
        ("https://example.com:08443/", "https://example.com:8443", "https://example.com:8443/"),
        ("https://example.com?a=1", "https://example.com:443", "https://example.com/?a=1"),
        ("https://my_service.internal/x", "https://my_service.internal:443", "https://my_service.internal/x"),
        ("https://ex%61mple.com/", "https://example.com:443", "https://example.com/"),
        (
            "https://m\u00fcnchen.example/",
            "https://xn--mnchen-3ya.example:443",
            "https://xn--mnchen-3ya.example/",
        ),
        (
            "https://M%C3%9CNCHEN.example",
            "https://xn--mnchen-3ya.example:443",
            "https://xn--mnchen-3ya.example/",
        ),
        ("https://a\u3002example\uff0e", "https://a.example:443", "https://a.example/"),
        ("https://\uff11\uff12\uff17.1/", "https://127.0.0.1:443", "https://127.0.0.1/"),
        ("https://localhost/@me", "https://localhost:443", "https://localhost/@me"),
        ("http://h/\u00e4?\u00f6=%C3%BC&%zz", "http://h:80", "http://h/%C3%A4?%C3%B6=%C3%BC&%zz"),
        ('http://h/{a}|"b"', "http://h:80", "http://h/%7Ba%7D%7C%22b%22"),
        ("http://h/a/../b//c;d=e?f/?g", "http://h:80", "http://h/a/../b//c;d=e?f/?g"),
    ],
)
def test_every_spelling_becomes_the_normal_one(url: str, host: str, normal: str) -> None:
    target = parse(url)

    assert (target.host, target.url) == (host, normal)
    assert host_of(url) == host


@pytest.mark.parametrize(
    "written",
    [
        "0x7f000001",
        "2130706433",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7F.0.0.0x1",
        "127.0.0.1.",
        "017700000001",
    ],
)
def test_odd_numeric_hosts_are_the_address_that_the_system_would_call(written: str) -> None:
    target = parse(f"http://{written}:8080/x")

    assert target.name == "127.0.0.1"
    assert target.host == "http://127.0.0.1:8080"
    assert target.is_literal


@pytest.mark.parametrize(
    "written, name",
    [
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[2001:DB8:0:0:1:0:0:1]", "2001:db8::1:0:0:1"),
        ("[2001:db8:0:1:1:1:1:1]", "2001:db8:0:1:1:1:1:1"),
        ("[::]", "::"),
        ("[1::]", "1::"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        ("[::FFFF:7f00:0001]", "::ffff:7f00:1"),
    ],
)
def test_ipv6_literals_are_compressed_lower_case(written: str, name: str) -> None:
    target = parse(f"https://{written}:8443/")

    assert target.name == name
    assert target.host == f"https://[{name}]:8443"
    assert target.host_header == f"[{name}]:8443"
    assert target.is_literal
    assert parse(f"https://{written}").host_header == f"[{name}]"


def test_a_target_tells_the_parts_that_an_attempt_needs() -> None:
    target = parse("https://Example.com:8443/in?token=1")

    assert (target.scheme, target.name, target.port) == ("https", "example.com", 8443)
    assert target.request_target == "/in?token=1"
    assert target.host_header == "example.com:8443"
    assert not target.is_literal


@pytest.mark.parametrize(
    "url, why",
    [
        ("ftp://example.com/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("example.com/hooks", "begin with http"),
        ("//example.com/", "begin with http"),
        ("http:example.com", "begin with http"),
        ("http:/example.com", "begin with http"),
        ("", "begin with http"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://:443/", "names no host"),
        ("https://./", "names no host"),
        ("https://?a=1", "names no host"),
        ("https://user:hunter2@example.com/", "user and password"),
        ("https://@example.com/", "user and password"),
        ("https://example.com/#top", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com#", "fragment"),
        (" https://example.com/", "space"),
        ("https://example.com/ ", "space"),
        ("https://exa mple.com/", "space"),
        ("https://example.com/a\nb", "space"),
        ("https://example.com/a\tb", "space"),
        ("https://example.com/\x00", "space"),
        ("https://example.com/\x7f", "space"),
        ("https://example.com/\u00a0", "space"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:99999999999999999999/", "port"),
        ("https://example.com:http/", "port"),
        ("https://example.com:-1/", "port"),
        ("https://example.com:\u0664\u0664\u0663/", "port"),
        ("https://::1/", "more than one colon"),
        ("https://[::1/", "IPv6"),
        ("https://[::1]x/", "IPv6"),
        ("https://[::g]/", "no IPv6"),
        ("https://[v1.a]/", "no IPv6"),
        ("https://[]/", "no IPv6"),
        ("https://[::1%25eth0]/", "zone"),
        ("https://[fe80::1%eth0]/", "zone"),
        ("https://exa%mple.com/", "two hexadecimal"),
        ("https://example%2.com/", "two hexadecimal"),
        ("https://example%ff.com/", "not UTF-8"),
        ("https://example%2fevil.com/", "letters, digits"),
        ("https://example%00.com/", "letters, digits"),
        ("https://a,b/", "letters, digits"),
        ("https://a..b/", "nothing between"),
        ("https://.a/", "nothing between"),
        ("https://a../", "nothing between"),
        (f"https://{'a' * 64}.com/", "63"),
        (f"https://{'a.' * 126}ab/", "253"),
        ("https://1.2.3.4.5/", "IPv4"),
        ("https://1.2.3.256/", "IPv4"),
        ("https://256.1/", "IPv4"),
        ("https://4294967296/", "IPv4"),
        ("https://08.1/", "IPv4"),
        ("https://0x/", "IPv4"),
        ("https://a.1/", "IPv4"),
        ("https://1..1/", "IPv4"),
        ("https://stra\u00dfe.example/", "xn--"),
        ("https://\u03c3\u03bf\u03c6\u03cc\u03c2.example/", "xn--"),
        ("https://a\u200db.example/", "xn--"),
        ("https://a\u200cb.example/", "xn--"),
        ("https://\U0001f600.example/", "xn--"),
        (f"https://{chr(252) * 60}.example/", "xn--"),
        ("https://a\ud800.example/", "UTF-8"),
        ("https://example.com/\ud800", "surrogate"),
        (f"https://example.com/{'a' * MAX_URL_LENGTH}", "characters long"),
    ],
)
def test_what_programs_could_read_differently_is_refused_with_a_reason(url: str, why: str) -> None:
    with pytest.raises(SubscriptionError, match=why):
        parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.com/",
        "https://user:hunt/hunter2@example.com/",
        "ftp://hunter2@example.com/x",
        "https://example.com:0/?token=hunter2",
        "https://example.com/?token=hunter2#x",
        "https://user:a?b=hunter2@example.com/#",
        "whsec_hunter2",
    ],
)
def test_a_refusal_shows_no_password_and_no_query(url: str) -> None:
    with pytest.raises(SubscriptionError) as refusal:
        parse(url)

    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in shown(url)


@pytest.mark.parametrize(
    "text, name", [("Example.COM.", "example.com"), ("127.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1")]
)
def test_names_in_settings_are_spelled_as_in_urls(text: str, name: str) -> None:
    assert normal_name(text) == name


@pytest.mark.parametrize(
    "text", ["", "example.com:80", "https://example.com", "a/b", "*.example.com", "[::1]:80", "a b"]
)
def test_names_in_settings_are_bare(text: str) -> None:
    with pytest.raises(SubscriptionError):
        normal_name(text)


_LABELS = st.from_regex(r"[a-z_][a-z0-9_-]{0,9}", fullmatch=True)
_NAMES = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)
_PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="#\\"), max_size=20)


@given(st.sampled_from(["http", "https"]), _NAMES, st.integers(1, 65535), _PATHS)
def test_normalising_twice_changes_nothing(scheme: str, name: str, port: int, path: str) -> None:
    first = parse(f"{scheme}://{name}:{port}/{path}")

    assert parse(first.url) == first
    assert first.url.isascii()


@given(_NAMES, st.data())
def test_all_spellings_of_a_name_have_one_host(name: str, data: st.DataObject) -> None:
    host = host_of(f"https://{name}/")

    letters = [data.draw(st.sampled_from([c, c.upper(), f"%{ord(c):02x}", f"%{ord(c):02X}"])) for c in name]
    ending = data.draw(st.sampled_from(["", ".", ":", ":443", ".:0443"]))

    assert host_of(f"hTTps://{''.join(letters)}{ending}/x?y") == host


@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=5), st.data())
def test_numeric_hosts_agree_with_the_system(parts: list[int], data: st.DataObject) -> None:
    text = ".".join(data.draw(st.sampled_from([f"{p}", f"0x{p:x}", f"0{p:o}"])) for p in parts)
    try:
        expected = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        with pytest.raises(SubscriptionError):
            parse(f"http://{text}/")
    else:
        assert parse(f"http://{text}/").name == expected


@given(st.ip_addresses(v=6))
def test_ipv6_names_mean_the_same_address_and_stay_as_they_are(address: IPv6Address) -> None:
    name = parse(f"http://[{address.exploded}]/").name

    assert IPv6Address(name) == address
    assert parse(f"http://[{address}]/").name == name
    assert len(name) <= len(address.exploded)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused_never_worse(text: str) -> None:
    for url in (text, f"http://{text}", f"https://h:1{text}"):
        try:
            assert parse(parse(url).url) == parse(url)
        except SubscriptionError as refusal:
            assert str(refusal).endswith(".")  # noqa: PT017 - either way is right, an escape of another error isn't
