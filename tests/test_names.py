"""Every name of the library's reference list is importable, or is on the list of those to come."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

# Package -> the reference's names that live there. The package and `flare` both export them.
PRESENT: dict[str, str] = {
    "flare.errors": "IoError ValidationError",
    "flare.net": """
        IpAddr SocketAddr RawSocket NetworkError ConnectionRefused ConnectionTimeout
        ConnectionReset AddressInUse AddressParseError BrokenPipe DnsError Timeout
    """,
    "flare.dns": "resolve resolve_v4 resolve_v6",
    "flare.tcp": "TcpStream TcpListener",
    "flare.tls": """
        TlsAcceptor TlsServerConfig TlsInfo TlsServerError TlsServerNotImplemented
        TLS_PROTOCOL_TLS12 TLS_PROTOCOL_TLS13 TlsConfig TlsVerify TlsStream TlsHandshakeError
        CertificateExpired CertificateHostnameMismatch CertificateUntrusted
    """,
    "flare.udp": "UdpSocket DatagramTooLarge",
    "flare.uds": "UnixListener accept_uds_fd UnixStream",
    "flare.io": "Readable BufReader",
    "flare.runtime": """
        Reactor TimerWheel Event INTEREST_READ INTEREST_WRITE EVENT_READABLE EVENT_WRITABLE
        EVENT_ERROR EVENT_HUP WAKEUP_TOKEN default_worker_count HandoffPolicy HandoffQueue
        WorkerHandoffPool DateCache BufferHandle BufferPool IoVecBuf writev_buf writev_buf_all
        IoUringRing IoUringParams is_io_uring_available
    """,
    "flare.http": """
        HttpServer ServerConfig ShutdownReport ok ok_json ok_json_value bad_request not_found
        internal_error redirect Request Method Response Status ResponsePool MethodIntern
        ValueIntern intern_method_bytes intern_method_string intern_common_value
        intern_common_value_string StandardHeader standard_header_count standard_header_name
        lookup_standard_header_bytes lookup_standard_header_string is_standard_header
        HttpParseError simd_memmem simd_percent_decode simd_cookie_scan Handler
        HandlerInfallible WithRaises FnHandler FnHandlerCT CancelHandler WithCancel Router App
        State HttpClient get post put patch delete head Auth BasicAuth BearerAuth Cancel
        CancelCell CancelReason HeaderMap HeaderInjectionError HeaderMapView parse_header_view
        Body ChunkSource InlineBody ChunkedBody drain_body StreamingResponse
        serialize_streaming_response Url UrlParseError ComptimeRoute ComptimeRouter HttpError
        ProxyParseError ViewHandler WithViewCancel RequestView parse_request_view
        StaticResponse precompute_response HuffmanError huffman_encode huffman_decode
        huffman_encoded_length huffman_decoded_length TooManyRedirects Cookie CookieJar
        SameSite parse_cookie_header parse_set_cookie_header RetryPolicy FormData
        parse_form_urlencoded urldecode urlencode MultipartPart MultipartForm
        parse_multipart_form_data
    """,
}

# Shrinks as the library grows; a name never comes back here.
TO_COME: dict[str, str] = {
    "flare.http": """
        AuthError Template TemplateContext TemplateError SseChannel SseEvent
        SseStreamingResponse format_sse_event sse_response ParamParser ParamInt ParamFloat64
        ParamBool ParamString Extractor Path Query OptionalQuery Header OptionalHeader PathInt
        PathStr PathFloat PathBool QueryInt QueryStr QueryFloat QueryBool OptionalQueryInt
        OptionalQueryStr OptionalQueryFloat OptionalQueryBool HeaderInt HeaderStr HeaderFloat
        HeaderBool OptionalHeaderInt OptionalHeaderStr OptionalHeaderFloat OptionalHeaderBool
        Peer BodyBytes BodyText Json Cookies Form Multipart Extracted
        CookieSessionStore InMemorySessionStore Session SessionCodec
        StringSessionCodec signed_cookie_decode signed_cookie_decode_keys signed_cookie_encode
        Encoding compress_gzip compress_brotli decompress_gzip decompress_deflate
        decompress_brotli decode_content CatchPanic Compress Logger RequestId
        negotiate_encoding Cors CorsConfig ByteRange FileServer parse_range Retry
    """,
    "flare.ws": """
        ExtensionOffer ExtensionParameter parse_extensions build_permessage_deflate_offer
        negotiate_permessage_deflate WsClient WsHandshakeError WsMessage WsServer WsFrame
        WsOpcode WsCloseCode WsProtocolError WsOverH2Stream bootstrap_ws_over_h2
        PermessageDeflateConfig PermessageDeflateContext compress_message decompress_message
    """,
}
MOST_TO_COME = 94
IN_ALL = 252  # the reference's names; `Timeout` is in its list twice, for two things

EACH = [(package, name) for package, names in PRESENT.items() for name in names.split()]


@pytest.mark.parametrize(("package", "name"), EACH, ids=[name for _, name in EACH])
def test_a_name_is_the_same_thing_in_its_package_and_in_flare(package: str, name: str) -> None:
    import flare

    assert getattr(importlib.import_module(package), name) is getattr(flare, name)


# Of the specification of the runtime, in flare.runtime alone.
RUNTIME = """
    Scheduler Frontend StopFlag WorkerStats ShutdownReport num_cpus block_in_pool MAX_POOL_SIZE
    libc_usleep libc_nanosleep_ms monotonic_now_ms io_uring_setup io_uring_enter io_uring_register
    SYS_IO_URING_SETUP SYS_IO_URING_ENTER SYS_IO_URING_REGISTER DeadlineWatchdog bind_reuseport
    bind_shared
"""


@pytest.mark.parametrize("name", RUNTIME.split())
def test_a_name_of_the_runtime_is_there(name: str) -> None:
    assert hasattr(importlib.import_module("flare.runtime"), name)


def test_the_names_to_come_only_get_fewer() -> None:
    missing = [name for names in TO_COME.values() for name in names.split()]
    assert len(missing) <= MOST_TO_COME
    assert len(missing) + len(EACH) == IN_ALL


@pytest.mark.parametrize("package", TO_COME)
def test_a_name_to_come_is_not_there_yet(package: str) -> None:
    import flare

    arrived = [name for name in TO_COME[package].split() if hasattr(flare, name)]
    assert not arrived, "move these to PRESENT, and lower MOST_TO_COME"


def test_every_export_of_a_lazy_package_exists() -> None:
    for package in ("flare", "flare.http", "flare.http.proto", "flare.runtime", "flare.testing"):
        module = importlib.import_module(package)
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(module.__all__) <= set(dir(module))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import flare

    with pytest.raises(AttributeError, match="module 'flare' has no attribute 'nonsense'"):
        flare.nonsense


def test_flare_timeout_is_the_error() -> None:
    import flare

    assert issubclass(flare.Timeout, TimeoutError)


def loaded_by(statement: str) -> list[str]:
    """The modules a fresh interpreter has after *statement*."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {ROOT!r})\n{code}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.split()


ROOT = str(Path(__file__).resolve().parent.parent)


def test_import_flare_loads_little() -> None:
    loaded = loaded_by("import flare")
    assert len([name for name in loaded if name.split(".")[0] == "flare"]) <= 15
    assert not {"ssl", "http.client", "socket", "asyncio", "email"} & set(loaded)


def test_the_client_loads_neither_ssl_nor_the_stdlib_client_nor_the_server() -> None:
    loaded = loaded_by("from flare.http import get")
    get = loaded_by("from flare.http import get; get")
    never = {"ssl", "http.client", "asyncio", "email", "dataclasses", "flare.http.server"}
    for modules in (loaded, get):
        assert not never & set(modules)


WIRE = "proto proto.decoder proto.cookie proto.form proto.multipart"


@pytest.mark.parametrize("package", [f"flare.http.{name}" for name in WIRE.split()])
def test_the_wire_wing_loads_no_io(package: str) -> None:
    plain = set(loaded_by("pass"))
    loaded = set(loaded_by(f"from {package} import *")) - plain
    assert not {"socket", "ssl", "select", "selectors", "threading", "asyncio"} & loaded
    above = {
        name
        for name in loaded
        if name.startswith(("flare.net", "flare.dns", "flare.io", "flare.tcp", "flare.runtime"))
        or (name.startswith("flare.http.") and not name.startswith("flare.http.proto"))
    }
    assert not above
