"""Requests whose frame is wrong: lengths, chunks and lines. The HTTP server answers most of them before Refit does.

What follows a wrong frame on the same connection could be taken for a request of somebody else, so it must be closed.
"""

from collections.abc import Iterator

from benchmarks.bad_input.case import CLOSED, Case, only, takes_body

BAD, CUT = frozenset({400}), frozenset({CLOSED, 400})
SOME = only("POST /model/hold", "POST /predict/batch", "POST /data/samples", "GET /models", "GET /health/live")
WITH_BODY = only("POST /model/hold", "POST /predict/batch", "POST /data/samples", "PUT /models/{model}")

JSON = b"Content-Type: application/json\r\n"
SMUGGLED = b"GET /keys HTTP/1.1\r\nHost: refit\r\nX: @mark@\r\n\r\n"

HEADS = {
    "a header without a name": b": @mark@\r\n\r\n",
    "a space before the colon": b"X-Spaced : @mark@\r\n\r\n",
    "a header without a colon": b"@mark@\r\n\r\n",
    "a NUL in the name of a header": b"X-\0@mark@: 1\r\n\r\n",
    "a NUL in a header": b"X-Nul: @mark@\0\r\n\r\n",
    "a lone CR in a header": b"X-CR: @mark@\rY: 1\r\n\r\n",
    "a control character in a header": b"X-Control: @mark@\x01\r\n\r\n",
    "DEL in a header": b"X-Del: @mark@\x7f\r\n\r\n",
    "a folded header": b"X-Folded: a\r\n @mark@\r\n\r\n",
    "brackets in the name of a header": b"X[@mark@]: 1\r\n\r\n",
    "UTF-8 in the name of a header": "X-é@mark@: 1\r\n\r\n".encode(),
}
LENGTHS = {
    "a length that is a word": b"Content-Length: @mark@\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length with a plus": b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": b"Content-Length: 0x2\r\n\r\n{}",
    "a length with a fraction": b"Content-Length: 2.0\r\n\r\n{}",
    "an empty length": b"Content-Length: \r\n\r\n",
    "a length of 30 digits": b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "two lengths that differ": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "two lengths in one": b"Content-Length: 2, 3\r\n\r\n{} ",
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks of something else": b"Transfer-Encoding: @mark@\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks that are none at last": b"Transfer-Encoding: chunked, @mark@\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks of identity": b"Transfer-Encoding: identity\r\n\r\n{}",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked behind a tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = {
    "a chunk whose size is a word": b"@mark@\r\n{}\r\n0\r\n\r\n",
    "a chunk of negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "a chunk of 2^68 bytes": b"1" + b"0" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk without a size": b"\r\n{}\r\n0\r\n\r\n",
    "a chunk with a hexadecimal prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": b"2\r\n{} @mark@\r\n0\r\n\r\n",
}
LINES = {
    "a request line of one word": b"GET",
    "HTTP/9.9": b"GET /health/live HTTP/9.9",
    "a version that is none": b"GET /health/live @mark@/1.1",
    "HTTP/2's preface": b"PRI * HTTP/2.0",
    "a method that nobody knows": b"@mark@ /health/live HTTP/1.1",
    "a method in small letters": b"get /health/live HTTP/1.1",
    "a method of 10,000 letters": b"G" * 10_000 + b" /health/live HTTP/1.1",
    "a tab for a space": b"GET\t/health/live\tHTTP/1.1",
    "a NUL in the path": b"GET /health/\0live HTTP/1.1",
    "a space in the path": b"GET /health/ live HTTP/1.1",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03@mark@",
    "a line of Redis": b"*1\r\n$8\r\nFLUSHALL",
    "a path that does not begin with a slash": b"GET health/live HTTP/1.1",
}
# Wrong, and read all the same by the HTTP server.
FINE_LINES = {
    "a request line without a version": b"GET /health/live",
    "two spaces": b"GET  /health/live  HTTP/1.1",
}
CUT_OFF = {
    "a head that is cut off": b"Content-Type: applica",
    "a body shorter than its length": JSON + b'Content-Length: 1000\r\n\r\n{"model": "@mark@"',
    "a body of which nothing comes": JSON + b"Content-Length: 1000\r\n\r\n",
    "chunks that do not end": CHUNKED + b'8\r\n{"model"\r\n',
    "a chunk that is cut off": CHUNKED + b'ff\r\n{"model"',
    "chunks without the last line": CHUNKED + b"2\r\n{}\r\n0\r\n",
}


def cases() -> Iterator[Case]:
    for name, tail in HEADS.items():
        yield Case(name, BAD, on=SOME, tail=tail, by_server=True)
    for name, tail in LENGTHS.items():
        yield Case(name, BAD, on=WITH_BODY, tail=JSON + tail, by_server=True)
    for name, tail in CHUNKS.items():
        yield Case(name, BAD, on=WITH_BODY, tail=CHUNKED + tail, by_server=True)
    for name, line in LINES.items():
        yield Case(name, BAD, on=only("GET /health/live"), line=line, by_server=True)
    for name, line in FINE_LINES.items():
        yield Case(name, on=only("GET /health/live"), line=line)
    for name, tail in CUT_OFF.items():
        yield Case(f"{name}, then silence", CUT, on=WITH_BODY, tail=tail, hangs_up=True, by_server=True)
    refused, invalid = frozenset({422}), frozenset({"invalid", "invalid_json"})
    odd = CHUNKED + b'5;@mark@="x"\r\n{"a":\r\n2\r\n1}\r\n0\r\nAuthorization: Bearer x\r\n@mark@: 1\r\n\r\n'
    yield Case("chunks with extensions and trailers", refused, invalid, WITH_BODY, tail=odd)
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"nobody": "knows"}') + b"0\r\n\r\n"
    yield Case("chunks of one byte", refused, invalid | {"invalid_instances"}, takes_body, tail=CHUNKED + small)
