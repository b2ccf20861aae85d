"""HTTP client and server for plain blocking Python.

Messages, handlers, routing, the server and the client. Each module is loaded when one of its
names is first used, so ``flare.http.proto`` can be had without the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports

if TYPE_CHECKING:
    from flare.errors import HttpStatusError as HttpStatusError
    from flare.http.app import App as App
    from flare.http.app import State as State
    from flare.http.body import Body as Body
    from flare.http.body import ChunkedBody as ChunkedBody
    from flare.http.body import ChunkSource as ChunkSource
    from flare.http.body import FileBody as FileBody
    from flare.http.body import InlineBody as InlineBody
    from flare.http.body import drain_body as drain_body
    from flare.http.cancel import Cancel as Cancel
    from flare.http.cancel import CancelCell as CancelCell
    from flare.http.cancel import CancelReason as CancelReason
    from flare.http.client import Auth as Auth
    from flare.http.client import BasicAuth as BasicAuth
    from flare.http.client import BearerAuth as BearerAuth
    from flare.http.client import CallTimeout as CallTimeout
    from flare.http.client import ChallengedAuth as ChallengedAuth
    from flare.http.client import ClientCookieJar as ClientCookieJar
    from flare.http.client import ConnectTimeout as ConnectTimeout
    from flare.http.client import DigestAuth as DigestAuth
    from flare.http.client import HandlerTransport as HandlerTransport
    from flare.http.client import HttpClient as HttpClient
    from flare.http.client import HttpDownload as HttpDownload
    from flare.http.client import MultipartFormBuilder as MultipartFormBuilder
    from flare.http.client import RedirectAction as RedirectAction
    from flare.http.client import RedirectDecision as RedirectDecision
    from flare.http.client import RedirectMode as RedirectMode
    from flare.http.client import RedirectPolicy as RedirectPolicy
    from flare.http.client import delete as delete
    from flare.http.client import get as get
    from flare.http.client import head as head
    from flare.http.client import options as options
    from flare.http.client import patch as patch
    from flare.http.client import post as post
    from flare.http.client import put as put
    from flare.http.comptime_router import ComptimeRoute as ComptimeRoute
    from flare.http.comptime_router import ComptimeRouter as ComptimeRouter
    from flare.http.errors import CrossOriginRedirect as CrossOriginRedirect
    from flare.http.errors import HttpError as HttpError
    from flare.http.errors import HttpProtocolError as HttpProtocolError
    from flare.http.errors import ProxyError as ProxyError
    from flare.http.errors import TooManyRedirects as TooManyRedirects
    from flare.http.forwarded import TrustedProxies as TrustedProxies
    from flare.http.handler import CancelHandler as CancelHandler
    from flare.http.handler import FnHandler as FnHandler
    from flare.http.handler import FnHandlerCT as FnHandlerCT
    from flare.http.handler import Handler as Handler
    from flare.http.handler import HandlerInfallible as HandlerInfallible
    from flare.http.handler import ViewHandler as ViewHandler
    from flare.http.handler import WithCancel as WithCancel
    from flare.http.handler import WithRaises as WithRaises
    from flare.http.handler import WithViewCancel as WithViewCancel
    from flare.http.handler import dispatch as dispatch
    from flare.http.handler import stream_body as stream_body
    from flare.http.proto.cookie import Cookie as Cookie
    from flare.http.proto.cookie import CookieJar as CookieJar
    from flare.http.proto.cookie import SameSite as SameSite
    from flare.http.proto.cookie import parse_cookie_header as parse_cookie_header
    from flare.http.proto.cookie import parse_set_cookie_header as parse_set_cookie_header
    from flare.http.proto.errors import HttpParseError as HttpParseError
    from flare.http.proto.form import FormData as FormData
    from flare.http.proto.form import parse_form_urlencoded as parse_form_urlencoded
    from flare.http.proto.form import urldecode as urldecode
    from flare.http.proto.form import urlencode as urlencode
    from flare.http.proto.h1_leniency import H1LeniencyConfig as H1LeniencyConfig
    from flare.http.proto.header_phf import StandardHeader as StandardHeader
    from flare.http.proto.header_phf import is_standard_header as is_standard_header
    from flare.http.proto.header_phf import (
        lookup_standard_header_bytes as lookup_standard_header_bytes,
    )
    from flare.http.proto.header_phf import (
        lookup_standard_header_string as lookup_standard_header_string,
    )
    from flare.http.proto.header_phf import standard_header_count as standard_header_count
    from flare.http.proto.header_phf import standard_header_name as standard_header_name
    from flare.http.proto.header_view import HeaderMapView as HeaderMapView
    from flare.http.proto.header_view import parse_header_view as parse_header_view
    from flare.http.proto.headers import HeaderInjectionError as HeaderInjectionError
    from flare.http.proto.headers import HeaderMap as HeaderMap
    from flare.http.proto.huffman import HuffmanError as HuffmanError
    from flare.http.proto.huffman import huffman_decode as huffman_decode
    from flare.http.proto.huffman import huffman_decoded_length as huffman_decoded_length
    from flare.http.proto.huffman import huffman_encode as huffman_encode
    from flare.http.proto.huffman import huffman_encoded_length as huffman_encoded_length
    from flare.http.proto.intern import MethodIntern as MethodIntern
    from flare.http.proto.intern import ValueIntern as ValueIntern
    from flare.http.proto.intern import intern_common_value as intern_common_value
    from flare.http.proto.intern import intern_common_value_string as intern_common_value_string
    from flare.http.proto.intern import intern_method_bytes as intern_method_bytes
    from flare.http.proto.intern import intern_method_string as intern_method_string
    from flare.http.proto.method import Method as Method
    from flare.http.proto.multipart import MultipartForm as MultipartForm
    from flare.http.proto.multipart import MultipartPart as MultipartPart
    from flare.http.proto.multipart import parse_multipart_form_data as parse_multipart_form_data
    from flare.http.proto.simd_parsers import simd_cookie_scan as simd_cookie_scan
    from flare.http.proto.simd_parsers import simd_memmem as simd_memmem
    from flare.http.proto.simd_parsers import simd_percent_decode as simd_percent_decode
    from flare.http.proto.status import Status as Status
    from flare.http.proto.url import Url as Url
    from flare.http.proto.url import UrlParseError as UrlParseError
    from flare.http.proxy_protocol import ProxyHeader as ProxyHeader
    from flare.http.proxy_protocol import ProxyParseError as ProxyParseError
    from flare.http.proxy_protocol import parse_proxy_protocol as parse_proxy_protocol
    from flare.http.proxy_protocol import parse_proxy_v1 as parse_proxy_v1
    from flare.http.proxy_protocol import parse_proxy_v2 as parse_proxy_v2
    from flare.http.request import Request as Request
    from flare.http.request_stream import RequestBodyError as RequestBodyError
    from flare.http.request_stream import RequestBodyTimeout as RequestBodyTimeout
    from flare.http.request_stream import RequestBodyTruncated as RequestBodyTruncated
    from flare.http.request_stream import RequestStream as RequestStream
    from flare.http.request_view import RequestView as RequestView
    from flare.http.request_view import parse_request_view as parse_request_view
    from flare.http.response import Response as Response
    from flare.http.response import ResponsePool as ResponsePool
    from flare.http.response import StreamingResponse as StreamingResponse
    from flare.http.response import bad_request as bad_request
    from flare.http.response import forbidden as forbidden
    from flare.http.response import internal_error as internal_error
    from flare.http.response import not_found as not_found
    from flare.http.response import ok as ok
    from flare.http.response import ok_json as ok_json
    from flare.http.response import ok_json_value as ok_json_value
    from flare.http.response import redirect as redirect
    from flare.http.response import response_from_body as response_from_body
    from flare.http.response import stream_response as stream_response
    from flare.http.response import unauthorized as unauthorized
    from flare.http.retry import RetryPolicy as RetryPolicy
    from flare.http.router import Route as Route
    from flare.http.router import Router as Router
    from flare.http.server import HttpServer as HttpServer
    from flare.http.server import ServerConfig as ServerConfig
    from flare.http.server import ServerStats as ServerStats
    from flare.http.server import ShutdownReport as ShutdownReport
    from flare.http.static_response import StaticResponse as StaticResponse
    from flare.http.static_response import precompute_response as precompute_response
    from flare.http.streaming import RequestChunkSource as RequestChunkSource
    from flare.http.streaming import serialize_streaming_response as serialize_streaming_response

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.http.app": "App State",
        "flare.http.body": "Body ChunkSource ChunkedBody FileBody InlineBody drain_body",
        "flare.http.cancel": "Cancel CancelCell CancelReason",
        "flare.http.client": """
            Auth BasicAuth BearerAuth CallTimeout ChallengedAuth ClientCookieJar ConnectTimeout
            DigestAuth HandlerTransport HttpClient HttpDownload MultipartFormBuilder RedirectAction
            RedirectDecision RedirectMode RedirectPolicy delete get head options patch post put
        """,
        "flare.http.comptime_router": "ComptimeRoute ComptimeRouter",
        "flare.errors": "HttpStatusError",
        "flare.http.errors": """
            CrossOriginRedirect HttpError HttpProtocolError ProxyError TooManyRedirects
        """,
        "flare.http.forwarded": "TrustedProxies",
        "flare.http.handler": """
            CancelHandler FnHandler FnHandlerCT Handler HandlerInfallible ViewHandler WithCancel
            WithRaises WithViewCancel dispatch stream_body
        """,
        "flare.http.proto.cookie": """
            Cookie CookieJar SameSite parse_cookie_header parse_set_cookie_header
        """,
        "flare.http.proto.errors": "HttpParseError",
        "flare.http.proto.form": "FormData parse_form_urlencoded urldecode urlencode",
        "flare.http.proto.h1_leniency": "H1LeniencyConfig",
        "flare.http.proto.header_phf": """
            StandardHeader is_standard_header lookup_standard_header_bytes
            lookup_standard_header_string standard_header_count standard_header_name
        """,
        "flare.http.proto.header_view": "HeaderMapView parse_header_view",
        "flare.http.proto.headers": "HeaderInjectionError HeaderMap",
        "flare.http.proto.huffman": """
            HuffmanError huffman_decode huffman_decoded_length huffman_encode
            huffman_encoded_length
        """,
        "flare.http.proto.intern": """
            MethodIntern ValueIntern intern_common_value intern_common_value_string
            intern_method_bytes intern_method_string
        """,
        "flare.http.proto.method": "Method",
        "flare.http.proto.multipart": "MultipartForm MultipartPart parse_multipart_form_data",
        "flare.http.proto.simd_parsers": "simd_cookie_scan simd_memmem simd_percent_decode",
        "flare.http.proto.status": "Status",
        "flare.http.proto.url": "Url UrlParseError",
        "flare.http.proxy_protocol": """
            ProxyHeader ProxyParseError parse_proxy_protocol parse_proxy_v1 parse_proxy_v2
        """,
        "flare.http.request": "Request",
        "flare.http.request_stream": """
            RequestBodyError RequestBodyTimeout RequestBodyTruncated RequestStream
        """,
        "flare.http.request_view": "RequestView parse_request_view",
        "flare.http.response": """
            Response ResponsePool StreamingResponse bad_request forbidden internal_error
            not_found ok ok_json ok_json_value redirect response_from_body stream_response
            unauthorized
        """,
        "flare.http.retry": "RetryPolicy",
        "flare.http.router": "Route Router",
        "flare.http.server": "HttpServer ServerConfig ServerStats ShutdownReport",
        "flare.http.static_response": "StaticResponse precompute_response",
        "flare.http.streaming": "RequestChunkSource serialize_streaming_response",
    },
)
