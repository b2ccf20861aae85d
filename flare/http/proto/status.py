"""Status codes by name (RFC 9110 section 15 and the registry it began)."""

from __future__ import annotations

from typing import Final

__all__ = ["Status"]


class Status:
    """Status codes, as plain integers, under the names of the current registry.

    Their phrases come from ``flare.errors.http_reason_phrase``.
    """

    CONTINUE: Final = 100
    SWITCHING_PROTOCOLS: Final = 101
    PROCESSING: Final = 102
    EARLY_HINTS: Final = 103

    OK: Final = 200
    CREATED: Final = 201
    ACCEPTED: Final = 202
    NON_AUTHORITATIVE_INFORMATION: Final = 203
    NO_CONTENT: Final = 204
    RESET_CONTENT: Final = 205
    PARTIAL_CONTENT: Final = 206
    MULTI_STATUS: Final = 207
    ALREADY_REPORTED: Final = 208
    IM_USED: Final = 226

    MULTIPLE_CHOICES: Final = 300
    MOVED_PERMANENTLY: Final = 301
    FOUND: Final = 302
    SEE_OTHER: Final = 303
    NOT_MODIFIED: Final = 304
    USE_PROXY: Final = 305
    TEMPORARY_REDIRECT: Final = 307
    PERMANENT_REDIRECT: Final = 308

    BAD_REQUEST: Final = 400
    UNAUTHORIZED: Final = 401
    PAYMENT_REQUIRED: Final = 402
    FORBIDDEN: Final = 403
    NOT_FOUND: Final = 404
    METHOD_NOT_ALLOWED: Final = 405
    NOT_ACCEPTABLE: Final = 406
    PROXY_AUTHENTICATION_REQUIRED: Final = 407
    REQUEST_TIMEOUT: Final = 408
    CONFLICT: Final = 409
    GONE: Final = 410
    LENGTH_REQUIRED: Final = 411
    PRECONDITION_FAILED: Final = 412
    CONTENT_TOO_LARGE: Final = 413
    URI_TOO_LONG: Final = 414
    UNSUPPORTED_MEDIA_TYPE: Final = 415
    RANGE_NOT_SATISFIABLE: Final = 416
    EXPECTATION_FAILED: Final = 417
    IM_A_TEAPOT: Final = 418
    MISDIRECTED_REQUEST: Final = 421
    UNPROCESSABLE_CONTENT: Final = 422
    LOCKED: Final = 423
    FAILED_DEPENDENCY: Final = 424
    TOO_EARLY: Final = 425
    UPGRADE_REQUIRED: Final = 426
    PRECONDITION_REQUIRED: Final = 428
    TOO_MANY_REQUESTS: Final = 429
    HEADER_FIELDS_TOO_LARGE: Final = 431
    UNAVAILABLE_FOR_LEGAL_REASONS: Final = 451

    INTERNAL_SERVER_ERROR: Final = 500
    NOT_IMPLEMENTED: Final = 501
    BAD_GATEWAY: Final = 502
    SERVICE_UNAVAILABLE: Final = 503
    GATEWAY_TIMEOUT: Final = 504
    HTTP_VERSION_NOT_SUPPORTED: Final = 505
    VARIANT_ALSO_NEGOTIATES: Final = 506
    INSUFFICIENT_STORAGE: Final = 507
    LOOP_DETECTED: Final = 508
    NOT_EXTENDED: Final = 510
    NETWORK_AUTHENTICATION_REQUIRED: Final = 511
