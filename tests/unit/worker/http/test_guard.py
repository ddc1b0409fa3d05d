"""Who may be called."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import ConfigurationError
from producer.hosts import parse
from thorn_worker.http.addresses import Address, Kind, embedded, judge
from thorn_worker.http.guard import Guard, Refused

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.31.196.1",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001:80b::200e",
    "2001:200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2606:4700::5efe:8.8.8.8",
]
SPECIAL = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:808:808::f7f7:f7f7",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "2002:7f00:1::1",
    "2606:4700::5efe:10.0.0.1",
    "2606:4700::200:5efe:192.168.0.1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "e000::1",
]
NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe:0:0",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001::5601:5601",
    "2606:4700::5efe:169.254.169.254",
    "fe80::5efe:8.8.8.8",
    "not an address",
]
EVERYTHING = ("0.0.0.0/0", "::/0")
TARGET = parse("https://name.example/")


def allows(guard: Guard, *ips: str, url: str = "https://name.example/") -> bool:
    try:
        guard.check(parse(url), [Address(ip, 443) for ip in ips])
    except Refused:
        return False
    return True


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_may_be_called(ip: str) -> None:
    assert allows(Guard(), ip)


@pytest.mark.parametrize("ip", SPECIAL)
def test_special_addresses_may_be_called_only_if_allowed(ip: str) -> None:
    assert not allows(Guard(), ip)
    assert allows(Guard(allow_networks=EVERYTHING), ip)
    assert allows(Guard(allow_hosts=["name.example"]), ip)


@pytest.mark.parametrize("ip", NEVER)
def test_metadata_and_link_local_are_refused_whatever_is_allowed(ip: str) -> None:
    assert not allows(Guard(), ip)
    assert not allows(Guard(["name.example"], [*EVERYTHING, "169.254.169.254/32", "fe80::/10"]), ip)


def test_one_refused_address_refuses_the_whole_answer() -> None:
    assert allows(Guard(), "8.8.8.8", "2606:4700::1111")
    assert not allows(Guard(), "8.8.8.8", "10.0.0.1")
    assert not allows(Guard(), "10.0.0.1", "8.8.8.8")
    assert not allows(Guard(allow_networks=["10.0.0.0/8"]), "10.0.0.1", "192.168.0.1")


def test_an_allowed_network_covers_the_mapped_form_of_its_addresses() -> None:
    guard = Guard(allow_networks=["10.20.0.0/16"])

    assert allows(guard, "10.20.3.4", "::ffff:10.20.3.4", "64:ff9b::10.20.3.4")
    assert not allows(guard, "10.21.0.1")
    assert not allows(guard, "::ffff:10.21.0.1")


@pytest.mark.parametrize(
    "entry, url, allowed",
    [
        ("internal.example", "http://internal.example/", True),
        ("Internal.Example.", "http://internal.example:9000/", True),
        ("internal.example:9000", "http://internal.example:9000/", True),
        ("internal.example:9000", "http://internal.example/", False),
        ("internal.example", "http://sub.internal.example/", False),
        ("10.0.0.5", "http://10.0.0.5:81/", True),
        ("10.0.0.5:80", "http://10.0.0.5/", True),
        ("10.0.0.5:80", "http://10.0.0.5:81/", False),
        ("127.1", "http://127.0.0.1/", True),
        ("::1", "http://[::1]:8080/", True),
        ("[::1]", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]/", False),
    ],
)
def test_allowed_hosts_are_names_or_addresses_with_an_optional_port(
    entry: str, url: str, allowed: bool
) -> None:
    assert allows(Guard(allow_hosts=[entry]), "10.0.0.5", url=url) is allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://[::ffff:7f00:1]/",
    ],
)
def test_odd_spellings_of_an_address_are_judged_as_the_address(url: str) -> None:
    target = parse(url)

    assert target.is_literal
    assert not allows(Guard(), target.name, url=url)
    assert allows(Guard(allow_networks=["127.0.0.0/8"]), target.name, url=url)


@pytest.mark.parametrize(
    "entry",
    ["", "http://x.example", "x.example/path", "x.example:0", "x.example:99999", "x:y", "a b", "[::1", "*.x"],
)
def test_an_allowed_host_that_is_none_is_refused_at_once(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="allow_hosts"):
        Guard(allow_hosts=[entry])


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "10.0.0.0/33", "x", "10.0.0.0-10.0.0.9"])
def test_an_allowed_network_that_is_none_is_refused_at_once(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="allow_networks"):
        Guard(allow_networks=[entry])


def test_the_reason_names_address_and_kind() -> None:
    with pytest.raises(
        Refused, match=r"name\.example resolves, among others, to 10\.0\.0\.1, a private address"
    ):
        Guard().check(TARGET, [Address("8.8.8.8", 443), Address("10.0.0.1", 443)])
    with pytest.raises(Refused, match=r"169\.254\.169\.254 is a link-local address"):
        Guard().check(parse("http://169.254.169.254/"), [Address("169.254.169.254", 80)])


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_never_more_public_inside_another_than_alone(ip: IPv4Address) -> None:
    alone = judge(str(ip)).kind
    for wrapped in (f"::ffff:{ip}", f"64:ff9b::{ip}"):
        assert judge(wrapped).kind is alone
    sixtofour = IPv6Address((0x2002 << 112) | (int(ip) << 80) | 1)
    for refused_or_same in (str(sixtofour), f"::{ip}", f"2606:4700::5efe:{ip}"):
        assert judge(refused_or_same).kind is not Kind.PUBLIC or alone is Kind.PUBLIC
        assert (judge(refused_or_same).kind is Kind.NEVER) >= (alone is Kind.NEVER)


@given(st.ip_addresses())
def test_what_the_standard_library_calls_not_global_is_never_public(ip: IPv4Address | IPv6Address) -> None:
    known_deviations = isinstance(ip, IPv6Address) and embedded(ip)
    if not known_deviations and (not ip.is_global or ip.is_multicast):
        assert judge(str(ip)).kind is not Kind.PUBLIC


def test_each_layout_of_a_local_translation_prefix_is_unfolded() -> None:
    # RFC 6052 section 2.4: 192.0.2.33 behind prefixes of 48, 56 and 64 bits.
    assert IPv4Address("192.0.2.33") in embedded(IPv6Address("64:ff9b:1:c000:2:2100::"))
    assert IPv4Address("192.0.2.33") in embedded(IPv6Address("64:ff9b:1:c0:0:221::"))
    assert IPv4Address("192.0.2.33") in embedded(IPv6Address("64:ff9b:1:0:c0:2:2100:0"))
    assert embedded(IPv6Address("2001:0:4136:e378:8000:63bf:3fff:fdd2")) == (
        IPv4Address("65.54.227.120"),
        IPv4Address("192.0.2.45"),
    )
