"""What makes two asked things the same: the digest of their JSON."""

import hashlib
from typing import Any

import orjson


def digest_of(body: Any) -> str:
    """sha256 in hex; the order of keys does not matter."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
