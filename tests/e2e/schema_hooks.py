"""What schemathesis has to know for `test_service_schema`."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """A body of lines is described as a text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
