"""A local server that answers as Hugging Face's does, as far as downloads need it."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import re
import threading

_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/?]+).*")


@dataclasses.dataclass
class Repository:
    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    token: str | None = None
    gated: bool = False


class HubStub:
    """Serves repositories, and keeps a record of what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.failure: int | None = None
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            # A connection that were kept open would go on being answered after `stop`.
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                stub._answer(self, with_body=True)

            def do_HEAD(self):
                stub._answer(self, with_body=False)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubStub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *args) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, files: dict[str, bytes], branch: str = "main", **options) -> str:
        """Commits files to a branch, and gives the commit's hash."""
        repository = self.repositories.setdefault(repo_id, Repository({}, {}, **options))
        commit = hashlib.sha1(f"{repo_id} {branch} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.branches[branch] = commit
        return commit

    def downloaded(self) -> list[str]:
        return [path.split("/resolve/")[1].split("/", 1)[1] for method, path, _ in self.requests if method == "GET"]

    def _answer(self, handler, with_body: bool) -> None:
        authorization = handler.headers.get("Authorization")
        self.requests.append((handler.command, handler.path, authorization))
        status, headers, body = self._response(handler.path, authorization)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if with_body:
            handler.wfile.write(body)

    def _response(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        if self.failure is not None:
            return self.failure, {}, b""
        match = _RESOLVE.fullmatch(path) or _TREE.fullmatch(path)
        repository = self.repositories.get(match["repo"]) if match else None
        if repository is None:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repository.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repository.token is not None and authorization != f"Bearer {repository.token}":
            if authorization is None:
                return 401, {"X-Error-Code": "RepoNotFound"}, b""
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        commit = repository.branches.get(match["revision"], match["revision"])
        if commit not in repository.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = repository.commits[commit]
        if "file" not in match.groupdict():
            tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
            return 200, {}, json.dumps(tree).encode()
        headers = {"X-Repo-Commit": commit}
        if match["file"] not in files:
            return 404, {**headers, "X-Error-Code": "EntryNotFound"}, b""
        body = files[match["file"]]
        return 200, {**headers, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body
