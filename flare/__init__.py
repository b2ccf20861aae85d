"""flare: HTTP, TCP, UDP, Unix sockets and DNS for plain blocking Python.

A server for plain ``def`` handlers::

    from flare import HttpServer, Router, SocketAddr, ok

    router = Router()
    router.get("/", lambda request: ok("hello"))
    HttpServer.bind(SocketAddr.localhost(8080)).serve(router)

and a client::

    from flare import get

    print(get("http://127.0.0.1:8080/").text())

``flare.Timeout`` is the I/O error; the names below are grouped by the package they live in, and
each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports
from flare._version import __version__ as __version__

if TYPE_CHECKING:
    from flare.dns import resolve as resolve
    from flare.dns import resolve_v4 as resolve_v4
    from flare.dns import resolve_v6 as resolve_v6
    from flare.errors import IoError as IoError
    from flare.errors import ValidationError as ValidationError
    from flare.http import App as App
    from flare.http import Auth as Auth
    from flare.http import BasicAuth as BasicAuth
    from flare.http import BearerAuth as BearerAuth
    from flare.http import Body as Body
    from flare.http import Cancel as Cancel
    from flare.http import CancelCell as CancelCell
    from flare.http import CancelHandler as CancelHandler
    from flare.http import CancelReason as CancelReason
    from flare.http import ChunkedBody as ChunkedBody
    from flare.http import ChunkSource as ChunkSource
    from flare.http import ComptimeRoute as ComptimeRoute
    from flare.http import ComptimeRouter as ComptimeRouter
    from flare.http import Cookie as Cookie
    from flare.http import CookieJar as CookieJar
    from flare.http import FnHandler as FnHandler
    from flare.http import FnHandlerCT as FnHandlerCT
    from flare.http import FormData as FormData
    from flare.http import Handler as Handler
    from flare.http import HandlerInfallible as HandlerInfallible
    from flare.http import HeaderInjectionError as HeaderInjectionError
    from flare.http import HeaderMap as HeaderMap
    from flare.http import HeaderMapView as HeaderMapView
    from flare.http import HttpClient as HttpClient
    from flare.http import HttpError as HttpError
    from flare.http import HttpParseError as HttpParseError
    from flare.http import HttpServer as HttpServer
    from flare.http import HuffmanError as HuffmanError
    from flare.http import InlineBody as InlineBody
    from flare.http import Method as Method
    from flare.http import MethodIntern as MethodIntern
    from flare.http import MultipartForm as MultipartForm
    from flare.http import MultipartPart as MultipartPart
    from flare.http import ProxyParseError as ProxyParseError
    from flare.http import Request as Request
    from flare.http import RequestView as RequestView
    from flare.http import Response as Response
    from flare.http import ResponsePool as ResponsePool
    from flare.http import RetryPolicy as RetryPolicy
    from flare.http import Router as Router
    from flare.http import SameSite as SameSite
    from flare.http import ServerConfig as ServerConfig
    from flare.http import ShutdownReport as ShutdownReport
    from flare.http import StandardHeader as StandardHeader
    from flare.http import State as State
    from flare.http import StaticResponse as StaticResponse
    from flare.http import Status as Status
    from flare.http import StreamingResponse as StreamingResponse
    from flare.http import TooManyRedirects as TooManyRedirects
    from flare.http import Url as Url
    from flare.http import UrlParseError as UrlParseError
    from flare.http import ValueIntern as ValueIntern
    from flare.http import ViewHandler as ViewHandler
    from flare.http import WithCancel as WithCancel
    from flare.http import WithRaises as WithRaises
    from flare.http import WithViewCancel as WithViewCancel
    from flare.http import bad_request as bad_request
    from flare.http import delete as delete
    from flare.http import drain_body as drain_body
    from flare.http import get as get
    from flare.http import head as head
    from flare.http import huffman_decode as huffman_decode
    from flare.http import huffman_decoded_length as huffman_decoded_length
    from flare.http import huffman_encode as huffman_encode
    from flare.http import huffman_encoded_length as huffman_encoded_length
    from flare.http import intern_common_value as intern_common_value
    from flare.http import intern_common_value_string as intern_common_value_string
    from flare.http import intern_method_bytes as intern_method_bytes
    from flare.http import intern_method_string as intern_method_string
    from flare.http import internal_error as internal_error
    from flare.http import is_standard_header as is_standard_header
    from flare.http import lookup_standard_header_bytes as lookup_standard_header_bytes
    from flare.http import lookup_standard_header_string as lookup_standard_header_string
    from flare.http import not_found as not_found
    from flare.http import ok as ok
    from flare.http import ok_json as ok_json
    from flare.http import ok_json_value as ok_json_value
    from flare.http import parse_cookie_header as parse_cookie_header
    from flare.http import parse_form_urlencoded as parse_form_urlencoded
    from flare.http import parse_header_view as parse_header_view
    from flare.http import parse_multipart_form_data as parse_multipart_form_data
    from flare.http import parse_request_view as parse_request_view
    from flare.http import parse_set_cookie_header as parse_set_cookie_header
    from flare.http import patch as patch
    from flare.http import post as post
    from flare.http import precompute_response as precompute_response
    from flare.http import put as put
    from flare.http import redirect as redirect
    from flare.http import serialize_streaming_response as serialize_streaming_response
    from flare.http import simd_cookie_scan as simd_cookie_scan
    from flare.http import simd_memmem as simd_memmem
    from flare.http import simd_percent_decode as simd_percent_decode
    from flare.http import standard_header_count as standard_header_count
    from flare.http import standard_header_name as standard_header_name
    from flare.http import urldecode as urldecode
    from flare.http import urlencode as urlencode
    from flare.io import BufReader as BufReader
    from flare.io import Readable as Readable
    from flare.net import AddressInUse as AddressInUse
    from flare.net import AddressParseError as AddressParseError
    from flare.net import BrokenPipe as BrokenPipe
    from flare.net import ConnectionRefused as ConnectionRefused
    from flare.net import ConnectionReset as ConnectionReset
    from flare.net import ConnectionTimeout as ConnectionTimeout
    from flare.net import DnsError as DnsError
    from flare.net import IpAddr as IpAddr
    from flare.net import NetworkError as NetworkError
    from flare.net import RawSocket as RawSocket
    from flare.net import SocketAddr as SocketAddr
    from flare.net import Timeout as Timeout
    from flare.runtime import EVENT_ERROR as EVENT_ERROR
    from flare.runtime import EVENT_HUP as EVENT_HUP
    from flare.runtime import EVENT_READABLE as EVENT_READABLE
    from flare.runtime import EVENT_WRITABLE as EVENT_WRITABLE
    from flare.runtime import INTEREST_READ as INTEREST_READ
    from flare.runtime import INTEREST_WRITE as INTEREST_WRITE
    from flare.runtime import WAKEUP_TOKEN as WAKEUP_TOKEN
    from flare.runtime import BufferHandle as BufferHandle
    from flare.runtime import BufferPool as BufferPool
    from flare.runtime import DateCache as DateCache
    from flare.runtime import Event as Event
    from flare.runtime import HandoffPolicy as HandoffPolicy
    from flare.runtime import HandoffQueue as HandoffQueue
    from flare.runtime import IoUringParams as IoUringParams
    from flare.runtime import IoUringRing as IoUringRing
    from flare.runtime import IoVecBuf as IoVecBuf
    from flare.runtime import Reactor as Reactor
    from flare.runtime import TimerWheel as TimerWheel
    from flare.runtime import WorkerHandoffPool as WorkerHandoffPool
    from flare.runtime import default_worker_count as default_worker_count
    from flare.runtime import is_io_uring_available as is_io_uring_available
    from flare.runtime import writev_buf as writev_buf
    from flare.runtime import writev_buf_all as writev_buf_all
    from flare.tcp import TcpListener as TcpListener
    from flare.tcp import TcpStream as TcpStream
    from flare.tls import TLS_PROTOCOL_TLS12 as TLS_PROTOCOL_TLS12
    from flare.tls import TLS_PROTOCOL_TLS13 as TLS_PROTOCOL_TLS13
    from flare.tls import CertificateExpired as CertificateExpired
    from flare.tls import CertificateHostnameMismatch as CertificateHostnameMismatch
    from flare.tls import CertificateUntrusted as CertificateUntrusted
    from flare.tls import TlsAcceptor as TlsAcceptor
    from flare.tls import TlsConfig as TlsConfig
    from flare.tls import TlsHandshakeError as TlsHandshakeError
    from flare.tls import TlsInfo as TlsInfo
    from flare.tls import TlsServerConfig as TlsServerConfig
    from flare.tls import TlsServerError as TlsServerError
    from flare.tls import TlsServerNotImplemented as TlsServerNotImplemented
    from flare.tls import TlsStream as TlsStream
    from flare.tls import TlsVerify as TlsVerify
    from flare.udp import DatagramTooLarge as DatagramTooLarge
    from flare.udp import UdpSocket as UdpSocket
    from flare.uds import UnixListener as UnixListener
    from flare.uds import UnixStream as UnixStream
    from flare.uds import accept_uds_fd as accept_uds_fd

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.http": """
            App Auth BasicAuth BearerAuth Body Cancel CancelCell CancelHandler CancelReason
            ChunkSource ChunkedBody ComptimeRoute ComptimeRouter Cookie CookieJar FnHandler
            FnHandlerCT FormData Handler HandlerInfallible HeaderInjectionError HeaderMap
            HeaderMapView HttpClient HttpError HttpParseError HttpServer HuffmanError InlineBody
            Method MethodIntern MultipartForm MultipartPart ProxyParseError Request RequestView
            Response ResponsePool RetryPolicy Router SameSite ServerConfig ShutdownReport
            StandardHeader State StaticResponse Status StreamingResponse TooManyRedirects Url
            UrlParseError ValueIntern ViewHandler WithCancel WithRaises WithViewCancel bad_request
            delete drain_body get head huffman_decode huffman_decoded_length huffman_encode
            huffman_encoded_length intern_common_value intern_common_value_string
            intern_method_bytes intern_method_string internal_error is_standard_header
            lookup_standard_header_bytes lookup_standard_header_string not_found ok ok_json
            ok_json_value parse_cookie_header parse_form_urlencoded parse_header_view
            parse_multipart_form_data parse_request_view parse_set_cookie_header patch post
            precompute_response put redirect serialize_streaming_response simd_cookie_scan
            simd_memmem simd_percent_decode standard_header_count standard_header_name urldecode
            urlencode
        """,
        "flare.errors": "IoError ValidationError",
        "flare.net": """
            AddressInUse AddressParseError BrokenPipe ConnectionRefused ConnectionReset
            ConnectionTimeout DnsError IpAddr NetworkError RawSocket SocketAddr Timeout
        """,
        "flare.dns": "resolve resolve_v4 resolve_v6",
        "flare.tcp": "TcpListener TcpStream",
        "flare.tls": """
            CertificateExpired CertificateHostnameMismatch CertificateUntrusted
            TLS_PROTOCOL_TLS12 TLS_PROTOCOL_TLS13 TlsAcceptor TlsConfig TlsHandshakeError
            TlsInfo TlsServerConfig TlsServerError TlsServerNotImplemented TlsStream TlsVerify
        """,
        "flare.udp": "DatagramTooLarge UdpSocket",
        "flare.uds": "UnixListener UnixStream accept_uds_fd",
        "flare.io": "BufReader Readable",
        "flare.runtime": """
            BufferHandle BufferPool DateCache EVENT_ERROR EVENT_HUP EVENT_READABLE
            EVENT_WRITABLE Event HandoffPolicy HandoffQueue INTEREST_READ INTEREST_WRITE
            IoUringParams IoUringRing IoVecBuf Reactor TimerWheel WAKEUP_TOKEN WorkerHandoffPool
            default_worker_count is_io_uring_available writev_buf writev_buf_all
        """,
    },
)
