"""The calls of the Hugging Face hub that a snapshot needs, for one repository, served from a folder."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import orjson
import pytest


class Hub:
    """`refit/tiny` is the folder, `refit/gated` is gated, whatever else is asked for is not found."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commit, self.sent = "c" * 40, 0
        hub = self

        class Answers(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, folder, with_body=False)

            def do_GET(self) -> None:
                hub.answer(self, folder, with_body=True)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        url = f"http://127.0.0.1:{self._server.server_port}"
        for place in ("huggingface_hub.constants.ENDPOINT", "huggingface_hub.hf_api.ENDPOINT"):
            monkeypatch.setattr(place, url, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )

    def answer(self, asked: BaseHTTPRequestHandler, folder: Path, *, with_body: bool) -> None:
        path = asked.path.partition("?")[0]
        if path.startswith("/api/models/refit/tiny/tree/"):
            listed = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0"} for f in folder.iterdir()]
            self._say(asked, orjson.dumps(listed), "json")
        elif path.startswith("/api/models/refit/tiny"):
            files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
            self._say(asked, orjson.dumps({"id": "refit/tiny", "sha": self.commit, "siblings": files}), "json")
        elif path.startswith("/refit/tiny/resolve/"):
            self.sent += with_body
            self._say(asked, (folder / path.rpartition("/")[2]).read_bytes(), "file", with_body=with_body)
        else:
            asked.send_response(403 if "gated" in path else 404)
            asked.send_header("X-Error-Code", "GatedRepo" if "gated" in path else "RepoNotFound")
            asked.send_header("Content-Length", "0")
            asked.end_headers()

    def _say(self, asked: BaseHTTPRequestHandler, body: bytes, what: str, *, with_body: bool = True) -> None:
        asked.send_response(200)
        asked.send_header("Content-Type", "application/json" if what == "json" else "application/octet-stream")
        asked.send_header("Content-Length", str(len(body)))
        asked.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        asked.send_header("X-Repo-Commit", self.commit)
        asked.end_headers()
        if with_body:
            asked.wfile.write(body)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
