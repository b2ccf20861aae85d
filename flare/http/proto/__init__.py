"""HTTP on the wire, without I/O: RFC 9110, RFC 9112, RFC 3986, RFC 6265.

Bytes in, values out: no socket, no clock, no thread. Each module is loaded when one of its names
is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare._lazy import lazy_exports

if TYPE_CHECKING:
    from flare.http.proto.ascii import ascii_eq_ignore_case as ascii_eq_ignore_case
    from flare.http.proto.ascii import ascii_lower as ascii_lower
    from flare.http.proto.ascii import ascii_unchecked_string as ascii_unchecked_string
    from flare.http.proto.chunked import ChunkedDecoder as ChunkedDecoder
    from flare.http.proto.chunked import encode_chunk as encode_chunk
    from flare.http.proto.chunked import encode_last_chunk as encode_last_chunk
    from flare.http.proto.cookie import Cookie as Cookie
    from flare.http.proto.cookie import CookieJar as CookieJar
    from flare.http.proto.cookie import SameSite as SameSite
    from flare.http.proto.cookie import parse_cookie_header as parse_cookie_header
    from flare.http.proto.cookie import parse_set_cookie_header as parse_set_cookie_header
    from flare.http.proto.decoder import EndOfMessage as EndOfMessage
    from flare.http.proto.decoder import RequestDecoder as RequestDecoder
    from flare.http.proto.decoder import ResponseDecoder as ResponseDecoder
    from flare.http.proto.encoder import encode_request_head as encode_request_head
    from flare.http.proto.errors import HttpParseError as HttpParseError
    from flare.http.proto.fields import FieldBlock as FieldBlock
    from flare.http.proto.form import FormData as FormData
    from flare.http.proto.form import parse_form_urlencoded as parse_form_urlencoded
    from flare.http.proto.form import urldecode as urldecode
    from flare.http.proto.form import urlencode as urlencode
    from flare.http.proto.framing import Framing as Framing
    from flare.http.proto.framing import body_framing as body_framing
    from flare.http.proto.h1_leniency import H1LeniencyConfig as H1LeniencyConfig
    from flare.http.proto.h2c_upgrade import detect_h2c_upgrade as detect_h2c_upgrade
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
    from flare.http.proto.heads import H1Limits as H1Limits
    from flare.http.proto.heads import RequestHead as RequestHead
    from flare.http.proto.heads import ResponseHead as ResponseHead
    from flare.http.proto.heads import parse_h1_request_head as parse_h1_request_head
    from flare.http.proto.heads import parse_h1_response_head as parse_h1_response_head
    from flare.http.proto.hpack_fields import HpackHeader as HpackHeader
    from flare.http.proto.hpack_fields import StringPair as _HpackStringPair
    from flare.http.proto.huffman import (
        SIMD_HUFFMAN_THRESHOLD_BYTES as SIMD_HUFFMAN_THRESHOLD_BYTES,
    )
    from flare.http.proto.huffman import HuffmanError as HuffmanError
    from flare.http.proto.huffman import huffman_decode as huffman_decode
    from flare.http.proto.huffman import huffman_decode_dispatch as huffman_decode_dispatch
    from flare.http.proto.huffman import huffman_decode_simd as huffman_decode_simd
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
    from flare.http2.frame import Frame as _H2Frame
    from flare.http2.frame import FrameFlags as _H2FrameFlags
    from flare.http2.frame import FrameHeader as _H2FrameHeader
    from flare.http2.frame import FrameType as _H2FrameType
    from flare.http2.frame import encode_frame as _encode_h2_frame
    from flare.http2.frame import parse_frame as _parse_h2_frame
    from flare.http2.hpack import HpackDecoder as HpackDecoder
    from flare.http2.hpack import HpackEncoder as HpackEncoder
    from flare.http2.hpack import decode_integer as _hpack_decode_integer
    from flare.http2.hpack import encode_integer as _hpack_encode_integer
    from flare.http2.state import Connection as _H2Connection
    from flare.http2.state import Stream as _H2Stream
    from flare.http2.state import StreamState as _H2StreamState

    HpackStringPair = _HpackStringPair
    H2Frame = _H2Frame
    H2FrameFlags = _H2FrameFlags
    H2FrameHeader = _H2FrameHeader
    H2FrameType = _H2FrameType
    encode_h2_frame = _encode_h2_frame
    parse_h2_frame = _parse_h2_frame
    hpack_decode_integer = _hpack_decode_integer
    hpack_encode_integer = _hpack_encode_integer
    H2Connection = _H2Connection
    H2Stream = _H2Stream
    H2StreamState = _H2StreamState

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    globals(),
    {
        "flare.http.proto.ascii": "ascii_eq_ignore_case ascii_lower ascii_unchecked_string",
        "flare.http.proto.chunked": "ChunkedDecoder encode_chunk encode_last_chunk",
        "flare.http.proto.cookie": """
            Cookie CookieJar SameSite parse_cookie_header parse_set_cookie_header
        """,
        "flare.http.proto.decoder": "EndOfMessage RequestDecoder ResponseDecoder",
        "flare.http.proto.encoder": "encode_request_head",
        "flare.http.proto.errors": "HttpParseError",
        "flare.http.proto.fields": "FieldBlock",
        "flare.http.proto.form": "FormData parse_form_urlencoded urldecode urlencode",
        "flare.http.proto.framing": "Framing body_framing",
        "flare.http.proto.h1_leniency": "H1LeniencyConfig",
        "flare.http.proto.header_phf": """
            StandardHeader is_standard_header lookup_standard_header_bytes
            lookup_standard_header_string standard_header_count standard_header_name
        """,
        "flare.http.proto.header_view": "HeaderMapView parse_header_view",
        "flare.http.proto.headers": "HeaderInjectionError HeaderMap",
        "flare.http.proto.heads": """
            H1Limits RequestHead ResponseHead parse_h1_request_head parse_h1_response_head
        """,
        "flare.http.proto.h2c_upgrade": "detect_h2c_upgrade",
        "flare.http.proto.hpack_fields": "HpackHeader HpackStringPair=StringPair",
        "flare.http.proto.huffman": """
            HuffmanError SIMD_HUFFMAN_THRESHOLD_BYTES huffman_decode huffman_decode_dispatch
            huffman_decode_simd huffman_decoded_length huffman_encode huffman_encoded_length
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
        "flare.http2.frame": """
            H2Frame=Frame H2FrameFlags=FrameFlags H2FrameHeader=FrameHeader
            H2FrameType=FrameType encode_h2_frame=encode_frame parse_h2_frame=parse_frame
        """,
        "flare.http2.hpack": """
            HpackDecoder HpackEncoder hpack_decode_integer=decode_integer
            hpack_encode_integer=encode_integer
        """,
        "flare.http2.state": """
            H2Connection=Connection H2Stream=Stream H2StreamState=StreamState
        """,
    },
)
