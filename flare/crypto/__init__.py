"""Message authentication and URL-safe text for it: HMAC-SHA256 (RFC 2104) and base64url."""

from flare.crypto.base64 import base64url_decode, base64url_encode
from flare.crypto.hmac import hmac_sha256, hmac_sha256_verify

__all__ = ["hmac_sha256", "hmac_sha256_verify", "base64url_encode", "base64url_decode"]
