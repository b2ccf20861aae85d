"""Which bent HTTP/1.1 a server agrees to read. By default: none."""

from __future__ import annotations

from flare._record import FrozenRecord

__all__ = ["H1LeniencyConfig"]


class H1LeniencyConfig(FrozenRecord):
    """Flags that each relax one rule of RFC 9112; every one is off by default.

    Behind a proxy that reads the same bytes differently, each of them is a way to smuggle a
    request past it. Turn one on only for a client that cannot be mended.

    ===============================================  ======================================
    ``allow_lf_only_line_endings``                   a bare LF ends a line (9112 §2.2)
    ``allow_mixed_case_method``                      ``get`` is read as ``GET`` (9110 §9.1)
    ``allow_ows_around_colon``                       blanks before the colon (9112 §5.1)
    ``allow_obs_fold``                               a folded field line is joined by one
                                                     space (9112 §5.2)
    ``allow_oversized_request_uri``                  ``max_uri_length`` does not apply
    ``allow_oversized_header_list``                  ``max_header_size`` does not apply; a
                                                     head still ends at 1 MiB
    ``allow_multiple_content_length``                equal values count once (9112 §6.3)
    ``allow_te_chunked_when_cl_present``             chunked wins, the connection is closed
                                                     after the answer (9112 §6.1)
    ``allow_leading_whitespace_before_request_line`` at most 64 bytes of it are skipped
    ``accept_empty_chunk_extensions``                ``5;`` (9112 §7.1.1)
    ``accept_invalid_chunk_extension_chars``         any byte but CR and LF
    ===============================================  ======================================
    """

    __slots__ = (
        "allow_lf_only_line_endings",
        "allow_mixed_case_method",
        "allow_ows_around_colon",
        "allow_obs_fold",
        "allow_oversized_request_uri",
        "allow_oversized_header_list",
        "allow_multiple_content_length",
        "allow_te_chunked_when_cl_present",
        "allow_leading_whitespace_before_request_line",
        "accept_empty_chunk_extensions",
        "accept_invalid_chunk_extension_chars",
    )

    allow_lf_only_line_endings: bool
    allow_mixed_case_method: bool
    allow_ows_around_colon: bool
    allow_obs_fold: bool
    allow_oversized_request_uri: bool
    allow_oversized_header_list: bool
    allow_multiple_content_length: bool
    allow_te_chunked_when_cl_present: bool
    allow_leading_whitespace_before_request_line: bool
    accept_empty_chunk_extensions: bool
    accept_invalid_chunk_extension_chars: bool

    def __init__(
        self,
        *,
        allow_lf_only_line_endings: bool = False,
        allow_mixed_case_method: bool = False,
        allow_ows_around_colon: bool = False,
        allow_obs_fold: bool = False,
        allow_oversized_request_uri: bool = False,
        allow_oversized_header_list: bool = False,
        allow_multiple_content_length: bool = False,
        allow_te_chunked_when_cl_present: bool = False,
        allow_leading_whitespace_before_request_line: bool = False,
        accept_empty_chunk_extensions: bool = False,
        accept_invalid_chunk_extension_chars: bool = False,
    ) -> None:
        self._set(
            allow_lf_only_line_endings=allow_lf_only_line_endings,
            allow_mixed_case_method=allow_mixed_case_method,
            allow_ows_around_colon=allow_ows_around_colon,
            allow_obs_fold=allow_obs_fold,
            allow_oversized_request_uri=allow_oversized_request_uri,
            allow_oversized_header_list=allow_oversized_header_list,
            allow_multiple_content_length=allow_multiple_content_length,
            allow_te_chunked_when_cl_present=allow_te_chunked_when_cl_present,
            allow_leading_whitespace_before_request_line=allow_leading_whitespace_before_request_line,
            accept_empty_chunk_extensions=accept_empty_chunk_extensions,
            accept_invalid_chunk_extension_chars=accept_invalid_chunk_extension_chars,
        )

    @classmethod
    def strict(cls) -> H1LeniencyConfig:
        """No leniency, the default."""
        return cls()

    def any_enabled(self) -> bool:
        """Whether any flag is on."""
        return any(getattr(self, name) for name in self.__slots__)


STRICT = H1LeniencyConfig()
