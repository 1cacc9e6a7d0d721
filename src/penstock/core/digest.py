"""Digests: how bytes and plain values are named by their content (BLAKE3, 256 bits, hex)."""

import msgspec
from blake3 import blake3

_encoder = msgspec.json.Encoder(order="deterministic")


def digest_bytes(data: bytes | memoryview) -> str:
    """Return the hex BLAKE3 digest of `data`."""
    return str(blake3(data).hexdigest())


def canonical_json(value: object) -> bytes:
    """Encode a plain value as JSON with sorted keys, so equal values give equal bytes."""
    return _encoder.encode(value)


def digest_value(value: object) -> str:
    """Return the digest of a plain value (anything `msgspec` can encode as JSON)."""
    return digest_bytes(canonical_json(value))
