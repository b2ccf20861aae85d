from __future__ import annotations

import copy
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.http.forwarded import UNIX_PEER, Forwarding, Origin, ProxyPeer, TrustedProxies
from flare.http.proto.header_view import parse_header_view
from flare.http.proto.headers import HeaderMap
from flare.http.proto.heads import valid_host
from flare.net import IpAddr, SocketAddr

ENTRIES = ("10.0.0.0/8", "::1", "2001:db8:1::/48")
TRUSTED = TrustedProxies.of(ENTRIES)
CUSTOM = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
PROXY = SocketAddr.parse("10.0.0.1:4000")
STRANGER = SocketAddr.parse("203.0.113.9:4000")
CLIENT = "192.0.2.43"


def origin(headers, peer=PROXY, trusted=ENTRIES, believed=("forwarded",)) -> Origin:
    """What a request shows; *peer* is ``None`` on a Unix socket."""
    judged = Forwarding(trusted, believed).peer_of(peer or UNIX_PEER, unix=peer is None)
    return judged.origin(headers) if isinstance(judged, ProxyPeer) else Origin(judged)


def ask(*fields: tuple[str, str], believed=None, **more):
    if believed is None:
        standard = any(name == "Forwarded" for name, _ in fields)
        believed = ("forwarded",) if standard else CUSTOM
    client, scheme, *_ = origin(HeaderMap(fields), believed=believed, **more)
    return str(client), scheme


def forwarded(*lines: str, **more):
    return ask(*(("Forwarded", line) for line in lines), **more)


def x_forwarded(*lines: str, proto=(), **more):
    fields = [("X-Forwarded-For", line) for line in lines]
    return ask(*fields, *(("X-Forwarded-Proto", line) for line in proto), **more)


class TestTrustedProxies:
    @pytest.mark.parametrize(
        ("entry", "inside", "outside"),
        [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("192.0.2.1", ["192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
            ("192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::1"]),
            ("::/0", ["::", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
            ("::1", ["::1"], ["::", "::2", "0.0.0.1"]),
            ("2001:db8::/33", ["2001:db8:7fff::"], ["2001:db8:8000::"]),
            ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0"]),
            ("fe80::/10", ["fe80::1", "febf::"], ["fec0::"]),
        ],
    )
    def test_a_network_holds_its_addresses_and_no_others(self, entry, inside, outside):
        trusted = TrustedProxies.of((entry,))
        for text in inside:
            assert IpAddr(text) in trusted
            assert SocketAddr(text, 80) in trusted
        for text in outside:
            assert IpAddr(text) not in trusted
        assert None not in trusted

    def test_a_mapped_peer_counts_as_its_ipv4_address(self):
        assert SocketAddr("::ffff:10.1.2.3", 1) in TRUSTED
        assert SocketAddr("::ffff:11.1.2.3", 1) not in TRUSTED
        assert SocketAddr("::10.1.2.3", 1) not in TRUSTED

    def test_unix_peers_are_a_word_of_their_own(self):
        assert None in TrustedProxies.of(("unix", "10.0.0.0/8"))
        assert None not in TRUSTED
        assert None not in TrustedProxies()

    def test_several_networks_are_all_looked_at(self):
        trusted = TrustedProxies.of(("10.0.0.0/8", "10.0.0.0/16", "192.0.2.1", "192.0.2.7"))
        assert all(IpAddr(text) in trusted for text in ("10.9.9.9", "192.0.2.1", "192.0.2.7"))
        assert IpAddr("192.0.2.2") not in trusted

    def test_it_is_false_when_nobody_is_trusted(self):
        assert not TrustedProxies()
        assert TRUSTED
        assert TrustedProxies.of(["unix"])
        assert repr(TrustedProxies.of(["::1"])) == "TrustedProxies(('::1',))"

    def test_other_things_are_not_in_it(self):
        assert "10.0.0.1" not in TRUSTED
        assert 10 not in TRUSTED

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "*",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "fe80::1%eth0",
            "Unix",
            7,
            b"::1",
        ],
    )
    def test_an_entry_that_is_no_network_is_refused(self, entry):
        with pytest.raises(ValidationError) as caught:
            TrustedProxies.of((entry,))
        assert caught.value.field == "trusted_proxies"
        assert repr(entry) in str(caught.value)

    def test_one_text_is_not_taken_for_a_sequence(self):
        with pytest.raises(ValidationError):
            TrustedProxies.of("unix")


class TestWhoIsBelieved:
    FIELDS = (
        ("Forwarded", "for=192.0.2.43;proto=https"),
        ("X-Forwarded-For", "192.0.2.43"),
        ("X-Forwarded-Proto", "https"),
    )

    @pytest.mark.parametrize("trusted", [ENTRIES, ()])
    def test_a_stranger_is_the_client_whatever_it_says(self, trusted):
        for field in self.FIELDS:
            assert ask(field, peer=STRANGER, trusted=trusted) == (str(STRANGER), None)
            assert ask(field, peer=None, trusted=trusted) == ("0.0.0.0:0", None)

    @pytest.mark.parametrize(
        "peer", [PROXY, SocketAddr.parse("[::1]:1"), SocketAddr.parse("[::ffff:10.2.3.4]:1")]
    )
    def test_a_listed_peer_is_believed(self, peer):
        for fields in (self.FIELDS[:1], self.FIELDS[1:]):
            assert ask(*fields, peer=peer) == ("192.0.2.43:0", "https")

    def test_a_listed_unix_peer_is_believed(self):
        trusted = ("unix",)
        for fields in (self.FIELDS[:1], self.FIELDS[1:]):
            assert ask(*fields, peer=None, trusted=trusted) == ("192.0.2.43:0", "https")
        assert ask(peer=None, trusted=trusted) == ("0.0.0.0:0", None)
        assert ask(*self.FIELDS, trusted=trusted) == (str(PROXY), None)

    def test_without_any_field_the_peer_is_the_client(self):
        assert ask() == (str(PROXY), None)

    @pytest.mark.parametrize(
        ("believed", "expected"),
        [
            (("forwarded",), ("1.1.1.1:0", "http")),
            (("x-forwarded-for", "x-forwarded-proto"), ("2.2.2.2:0", "https")),
            (("X-Forwarded-For",), ("2.2.2.2:0", None)),
            (("x-forwarded-proto",), (str(PROXY), "https")),
            ((), (str(PROXY), None)),
        ],
    )
    def test_only_the_fields_that_the_proxies_set_are_read(self, believed, expected):
        fields = (
            ("Forwarded", "for=1.1.1.1;proto=http"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "https"),
        )
        assert ask(*fields, believed=believed) == expected

    @pytest.mark.parametrize(
        "fields",
        ["forwarded", ("forwarded", "x-forwarded-for"), ("x-real-ip",), ("x_forwarded_for",)],
    )
    def test_fields_that_cannot_be_meant_are_refused(self, fields):
        with pytest.raises(ValidationError) as caught:
            Forwarding(ENTRIES, fields)
        assert caught.value.field == "forwarded_headers"

    def test_names_with_underscores_are_other_fields(self):
        assert ask(("X_Forwarded_For", CLIENT)) == (str(PROXY), None)

    def test_a_header_view_does_as_well(self):
        view = parse_header_view(b"Forwarded: for=192.0.2.43\r\n")
        assert str(origin(view).client) == "192.0.2.43:0"


class TestForwarded:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("for=192.0.2.43", "192.0.2.43:0"),
            ("For=192.0.2.43", "192.0.2.43:0"),
            ('for="192.0.2.43"', "192.0.2.43:0"),
            ('for="192.0.2.43:47011"', "192.0.2.43:47011"),
            ('for="[2001:db8:cafe::17]"', "[2001:db8:cafe::17]:0"),
            ('FOR="[2001:db8:cafe::17]:4711"', "[2001:db8:cafe::17]:4711"),
            ('for="192.0.2.43:_obf"', "192.0.2.43:0"),
            ("by=203.0.113.43;for=192.0.2.43;host=h", "192.0.2.43:0"),
            ('host="a,b;for=1.1.1.1";for=192.0.2.43', "192.0.2.43:0"),
            (" for=192.0.2.43 ; proto=x ", "192.0.2.43:0"),
            (";for=192.0.2.43;", "192.0.2.43:0"),
            ("for=192.0.2.43,", "192.0.2.43:0"),
            ("for=192.0.2.43 , , ,\t", "192.0.2.43:0"),
        ],
    )
    def test_an_element_is_read_in_all_its_forms(self, line, expected):
        assert forwarded(line)[0] == expected
        assert forwarded(f"for=198.51.100.17, {line}")[0] == expected
        assert forwarded("for=198.51.100.17", line)[0] == expected

    def test_the_search_goes_left_past_trusted_addresses(self):
        assert forwarded("for=1.1.1.1, for=2.2.2.2, for=10.0.0.3, for=10.0.0.2")[0] == "2.2.2.2:0"
        assert forwarded("for=1.1.1.1, for=2.2.2.2", "for=10.0.0.3", "for=10.0.0.2") == (
            "2.2.2.2:0",
            None,
        )
        assert forwarded('for=2.2.2.2, for="[::ffff:10.1.1.1]", for="[::1]:8"')[0] == "2.2.2.2:0"
        assert forwarded("for=10.0.0.3, for=10.0.0.2")[0] == "10.0.0.3:0"

    @pytest.mark.parametrize(
        "bad",
        [
            "for=unknown",
            "for=_hidden",
            'for="_hidden:_port"',
            "proto=https",
            "for=",
            "for",
            "=1.1.1.1",
            "for =1.1.1.1",
            "for= 1.1.1.1",
            "for=1.1.1.1:80",
            "for=2001:db8::1",
            'for="2001:db8::1"',
            'for="[1.1.1.1]"',
            'for="[::1"',
            'for="1.1.1.1:99999"',
            'for="1.1.1.1:"',
            'for="1.1.1.1:8a"',
            "for=1.1.1",
            "for=01.1.1.1",
            "for=1.1.1.256",
            "for=localhost",
            "for=1.1.1.1;for=1.1.1.1",
            "for=1.1.1.1 x",
            'for="1.1.1.1',
            'for=1.1.1.1"',
            'for="1.1.1.\\1"',
            "for='1.1.1.1'",
            "for=1.1.1.1\x00",
            "for=\xb2.1.1.1",
            "@",
        ],
    )
    def test_what_hides_or_is_malformed_ends_the_search(self, bad):
        for lines in ([bad], ["for=1.1.1.1", bad], [f"for=1.1.1.1, {bad}"]):
            fields = HeaderMap._from_items([("forwarded", "Forwarded", line) for line in lines])
            assert origin(fields).client == PROXY
        fields = HeaderMap._from_items(
            [
                ("forwarded", "", "for=1.1.1.1"),
                ("forwarded", "", bad),
                ("forwarded", "", "for=10.0.0.2"),
            ]
        )
        assert str(origin(fields).client) == "10.0.0.2:0"

    @pytest.mark.parametrize(
        "forged",
        ["for=1.1.1.1", 'for="', 'for=1.1.1.1;x="', '"', "\\", 'x="\\', "=;,", 'for="10.0.0.2, '],
    )
    def test_nothing_a_client_wrote_reaches_past_what_the_proxy_added(self, forged):
        for lines in (
            [f"{forged}, for=192.0.2.43;proto=https"],
            [forged, "for=192.0.2.43;proto=https"],
        ):
            assert forwarded(*lines) == ("192.0.2.43:0", "https")
        assert forwarded(f'{forged},for="192.0.2.43:1" , for=10.0.0.2')[0] == "192.0.2.43:1"

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("for=192.0.2.43;proto=https", "https"),
            ('PROTO="HTTPS";for=192.0.2.43', "https"),
            ("for=192.0.2.43;proto=http", "http"),
            ("for=192.0.2.43;proto=ftp", None),
            ("for=192.0.2.43;proto=", None),
            ("for=192.0.2.43", None),
            ("for=192.0.2.43;proto=https, for=10.0.0.2;proto=http", "https"),
            ("for=192.0.2.43, for=10.0.0.2;proto=http", None),
            ("for=1.1.1.1;proto=https, for=192.0.2.43", None),
            ("for=_hidden;proto=https", "https"),
            ("proto=https", "https"),
            ("for=unknown;proto=https, for=10.0.0.2;proto=http", "https"),
            ("nonsense, for=10.0.0.2;proto=https", "https"),
            ("nonsense;proto=https", None),
        ],
    )
    def test_the_scheme_is_that_of_the_last_element_read(self, line, expected):
        assert forwarded(line)[1] == expected


class TestXForwarded:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("192.0.2.43", "192.0.2.43:0"),
            ("192.0.2.43:8080", "192.0.2.43:8080"),
            ("2001:db8::5", "[2001:db8::5]:0"),
            ("[2001:db8::5]", "[2001:db8::5]:0"),
            ("[2001:db8::5]:81", "[2001:db8::5]:81"),
            ("\t192.0.2.43 ", "192.0.2.43:0"),
            ("192.0.2.43,", "192.0.2.43:0"),
            ("1.1.1.1, 192.0.2.43", "192.0.2.43:0"),
            ("1.1.1.1,192.0.2.43,10.0.0.3 ,10.0.0.2", "192.0.2.43:0"),
            ("192.0.2.43, ::ffff:10.1.1.1, ::1", "192.0.2.43:0"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
        ],
    )
    def test_an_entry_is_read_in_all_its_forms(self, line, expected):
        assert x_forwarded(line) == (expected, None)
        assert x_forwarded("nonsense", line)[0] == expected

    @pytest.mark.parametrize(
        "bad",
        [
            "unknown",
            "_x",
            "1.1.1",
            "1.1.1.1.1",
            "1.1.1.1:",
            "1.1.1.1:70000",
            "[::1",
            "::1]",
            "a",
            "1 1.1.1.1",
            '"1.1.1.1"',
            "fe80::1%1",
            "²",
        ],
    )
    def test_what_is_no_address_ends_the_search(self, bad):
        assert x_forwarded(f"1.1.1.1, {bad}")[0] == str(PROXY)
        assert x_forwarded(f"1.1.1.1, {bad}, 10.0.0.2")[0] == "10.0.0.2:0"

    @pytest.mark.parametrize(
        ("entries", "proto", "expected"),
        [
            ("192.0.2.43", ["https"], "https"),
            ("192.0.2.43", ["HTTP"], "http"),
            ("192.0.2.43", ["wss"], None),
            ("192.0.2.43", [""], None),
            ("192.0.2.43", [], None),
            ("192.0.2.43", ["http, https"], "https"),
            ("192.0.2.43", ["http", "https"], "https"),
            ("192.0.2.43, 10.0.0.2", ["https"], "https"),
            ("192.0.2.43, 10.0.0.2", ["https, http"], "https"),
            ("192.0.2.43, 10.0.0.2", ["evil, https, http"], "https"),
            ("", ["http, https"], "https"),
        ],
    )
    def test_the_scheme_is_that_of_the_clients_own_hop(self, entries, proto, expected):
        assert x_forwarded(entries, proto=proto)[1] == expected

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, "inner:8000"),
            ({"Host": "shop.example"}, "shop.example"),
            ({"Host": "shop.example:8443"}, "shop.example:8443"),
            ({"Host": "evil.example, shop.example"}, "shop.example"),
            ({"Host": "a b"}, "inner:8000"),
            ({"Host": "user@evil.example"}, "inner:8000"),
            ({"Host": "evil.example/x"}, "inner:8000"),
            ({"Host": "x" * 300}, "inner:8000"),
            ({"Host": "[2001:db8::1]", "Port": "8443"}, "[2001:db8::1]:8443"),
            ({"Host": "[2001:db8::1]:1", "Port": "8443"}, "[2001:db8::1]:8443"),
            ({"Host": "shop.example:1", "Port": "443", "Proto": "https"}, "shop.example"),
            ({"Host": "shop.example", "Port": "443"}, "shop.example:443"),
            ({"Port": "8443"}, "inner:8443"),
            ({"Port": "80"}, "inner"),
            ({"Port": "0"}, "inner:8000"),
            ({"Port": "65536"}, "inner:8000"),
            ({"Port": "-1"}, "inner:8000"),
        ],
    )
    def test_the_host_is_what_the_client_asked(self, fields, expected):
        headers = HeaderMap((f"X-Forwarded-{name}", value) for name, value in fields.items())
        found = origin(headers, believed=CUSTOM)
        assert found.authority("inner:8000", found.scheme or "http") == expected
        ignored = origin(headers, believed=CUSTOM[:2])
        assert ignored.authority("inner:8000", "http") == "inner:8000"

    def test_the_standard_field_has_the_host_as_well(self):
        headers = HeaderMap({"Forwarded": 'for=1.1.1.1;host="shop.example:8443"'})
        assert origin(headers).authority("inner", "http") == "shop.example:8443"
        forged = HeaderMap({"Forwarded": "host=evil.example, for=1.1.1.1"})
        assert origin(forged).authority("inner", "http") == "inner"


class TestProxyPeer:
    PEER = Forwarding(ENTRIES, CUSTOM).peer_of(PROXY)

    def test_it_is_the_same_address(self):
        assert isinstance(self.PEER, ProxyPeer)
        assert self.PEER == PROXY
        assert PROXY == self.PEER
        assert STRANGER != self.PEER
        assert self.PEER != "10.0.0.1:4000"
        assert hash(self.PEER) == hash(PROXY)
        assert {self.PEER: 1}[PROXY] == 1
        assert str(self.PEER) == "10.0.0.1:4000"
        assert repr(self.PEER) == repr(PROXY)
        ip, port = self.PEER
        assert (str(ip), port) == ("10.0.0.1", 4000)

    def test_it_has_its_place_among_others(self):
        assert sorted([STRANGER, self.PEER]) == [PROXY, STRANGER]
        assert self.PEER < STRANGER
        assert STRANGER > self.PEER
        assert self.PEER <= PROXY
        assert self.PEER >= PROXY
        assert not self.PEER > PROXY

    def test_trust_does_not_travel(self):
        assert type(pickle.loads(pickle.dumps(self.PEER))) is SocketAddr
        assert copy.copy(self.PEER) == PROXY


# What can stand in a field: no line ends, no NUL.
FIELD_TEXT = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0"), max_size=60)


@given(forged=st.lists(FIELD_TEXT, max_size=4), joined=st.booleans())
def test_whatever_a_client_wrote_the_proxys_entry_stands(forged: list[str], joined: bool):
    for name, added in (("forwarded", "for=192.0.2.43;proto=https"), ("x-forwarded-for", CLIENT)):
        lines = [f"{', '.join(forged)}, {added}"] if joined else [*forged, added]
        fields = HeaderMap._from_items([(name, name, line) for line in lines])
        found = origin(fields, believed=(name,))
        assert str(found.client) == "192.0.2.43:0"
        assert found.scheme == ("https" if name == "forwarded" else None)


@given(st.lists(st.tuples(st.sampled_from(("forwarded", *CUSTOM)), FIELD_TEXT), max_size=8))
def test_anything_is_read_without_an_error(fields: list[tuple[str, str]]):
    headers = HeaderMap._from_items([(name, name, text) for name, text in fields])
    for believed in (("forwarded",), CUSTOM):
        found = origin(headers, believed=believed)
        assert found.scheme in (None, "http", "https")
        assert valid_host(found.authority("h", "http"))


HOSTILE = [
    "for=10.0.0.2," * 40_000,
    "for=10.0.0.2;" * 40_000,
    "," * 400_000,
    ";" * 400_000,
    '"' * 400_000,
    '",' * 200_000,
    " " * 400_000 + "x",
    " ;" * 200_000 + "x",
    "\\" * 400_000,
    'a="' + "x" * 400_000,
    "x" * 400_000 + "=",
    "=" * 400_000,
    "1." * 200_000,
    "[" * 400_000,
    "10.0.0.2, " * 40_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_hostile_lists_take_linear_time(text):
    begun = time.thread_time()
    for name in ("forwarded", "x-forwarded-for", "x-forwarded-proto"):
        for lines in ([text], [text[i : i + 100] for i in range(0, len(text), 100)]):
            fields = HeaderMap._from_items([(name, name, line) for line in lines])
            for believed in (("forwarded",), CUSTOM):
                assert origin(fields, believed=believed).client in TRUSTED
    # Quadratic work over 400,000 characters would take minutes.
    assert time.thread_time() - begun < 5
