"""A small Hugging Face Hub on this machine, for tests: what ``huggingface_hub`` asks a hub for, and faults on demand.

Repositories are kept in memory, commit by commit. ``.safetensors``, ``.bin`` and ``.gguf`` files are large files (LFS):
asking for one leads on to ``/cdn/SHA256``, under another name of the same machine, as the real hub leads to another server.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")
TOKEN = "hf_valid"  # of someone who may see and write everything
READER = "hf_reader"  # of someone who may see everything and write nothing
NAME = r"(?P<name>[^/]+(?:/[^/]+)?)"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Files by commit, and commits by branch and tag."""

    private: bool = False
    gated: bool = False
    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)

    def commit(self, files, branch="main"):
        """Make a commit that holds these files and return its hash."""
        told = json.dumps([len(self.commits), sorted((name, sha256(content)) for name, content in files.items())])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def find(self, revision):
        """Return the hash of a commit, or None."""
        named = {**self.tags, **self.branches}
        return named.get(revision, revision if revision in self.commits else None)


@dataclass
class Request:
    """What was asked, and how it was answered."""

    method: str
    path: str
    token: str | None
    range: str | None
    status: int = 0
    sent: int = 0  # bytes of the body


class HubServer(ThreadingHTTPServer):
    """The hub; ``with HubServer() as hub:`` starts and stops it.

    Attributes:
        repositories: by name.
        objects: large files by their SHA-256.
        requests: all that came, in order.
        break_off: name of a file to the number of bytes after which the connection is closed, once.
        answers: part of a path to the status codes that requests for it get, one after the other.
        hang: name of a file to the number of bytes after which nothing more comes, once.
        corrupt: names of files of which a byte is changed on the way.
        delay: seconds before each answer.
        ranges: whether a part of a file can be asked for.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.requests, self.objects = {}, [], {}
        self.break_off, self.hang, self.answers, self.corrupt = {}, {}, {}, set()
        self.closing = threading.Event()
        self.delay, self.ranges = 0.0, True
        self.connections = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Go away; what hangs is broken off."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request, client_address):
        """Remember a connection, since those that are kept alive outlast the server."""
        self.connections.append(request)
        super().process_request(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name, files, **kind):
        """Make a repository of a folder, or of names and their content, and return it."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        repository = self.repositories[name] = Repository(**kind)
        repository.commit(files)
        return repository

    def sent(self, end):
        """Return how many bytes were sent of files whose names have this ending."""
        return sum(request.sent for request in self.requests if request.path.endswith(end) and request.status < 300)

    def counted(self):
        """Return how often what was asked."""
        return Counter(f"{request.method} {request.path}" for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def handle_request(self):
        address = urlsplit(self.path)
        path = unquote(address.path)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        self.request_seen = Request(self.command, path, token, self.headers["Range"])
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path == "/api/agent-harnesses":  # what the library asks once a day about its surroundings, whatever one does
            self.answer_json({"standardEnvVars": [], "harnesses": {}})
            return None
        self.server.requests.append(self.request_seen)
        time.sleep(self.server.delay)
        for part, codes in self.server.answers.items():
            if part in path and codes:
                return self.refuse(codes.pop(0), None)
        for method, pattern, answer in ROUTES:
            if self.command in method and (match := re.fullmatch(pattern, address.path)):
                return answer(self, **{key: unquote(part) for key, part in match.groupdict().items() if part})
        return self.refuse(404, None)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def log_message(self, *_):
        pass

    # What an answer is

    def answer(self, status, content=b"", headers=(), *, stop=None):
        """Send an answer, of which a connection may break off after ``stop`` bytes."""
        self.request_seen.status = status
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        hang = self.server.hang.pop(self.path.rpartition("/")[2], None) if status in (200, 206) else None
        stop = hang or stop
        part = content if stop is None else content[:stop]
        self.request_seen.sent = len(part)
        self.wfile.write(part)
        if hang:
            self.server.closing.wait(60)
        self.close_connection = self.close_connection or stop is not None

    def answer_json(self, values, status=200):
        self.answer(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code, message="refused"):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer(status, json.dumps({"error": message}).encode(), headers)

    def repository(self, name):
        """Return a repository that the asking one may see, or None when it has been refused."""
        token, found = self.request_seen.token, self.server.repositories.get(name)
        if token not in (None, TOKEN, READER):
            self.refuse(401, None, "Invalid credentials in Authorization header")
        elif found is None or (found.private and token is None):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        else:
            return found
        return None

    def commit(self, name, revision):
        """Return a repository and one of its commits, or None when it has been refused."""
        repository = self.repository(name)
        commit = repository and repository.find(revision)
        if repository and not commit:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return (repository, commit) if commit else None

    # Reading

    def info(self, name, revision="main"):
        if found := self.commit(name, revision):
            repository, commit = found
            files = [{"rfilename": path} for path in repository.commits[commit]]
            kind = {"private": repository.private, "gated": "auto" if repository.gated else False}
            self.answer_json({"_id": "1", "id": name, "modelId": name, "sha": commit, "siblings": files, **kind})

    def tree(self, name, revision, folder=None):
        if found := self.commit(name, revision):
            repository, commit = found
            if folder:
                self.refuse(404, "EntryNotFound", f"{folder} does not exist on {revision}")
                return
            self.answer_json([self.entry(path, content) for path, content in repository.commits[commit].items()])

    @staticmethod
    def entry(path, content):
        values = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
        if path.endswith(LARGE):
            values["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
        return values

    def refs(self, name):
        if repository := self.repository(name):
            kinds = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
            named = {
                kind: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": at} for ref, at in refs.items()]
                for kind, (folder, refs) in kinds.items()
            }
            self.answer_json({**named, "converts": []})

    def resolve(self, name, revision, file):
        found = self.commit(name, revision)
        if not found:
            return
        repository, commit = found
        if repository.gated and self.request_seen.token is None:
            self.refuse(401, "GatedRepo", "Access to this model is restricted")
            return
        content = repository.commits[commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            self.answer(404, b"Entry not found", {**headers, "X-Error-Code": "EntryNotFound"})
        elif file.endswith(LARGE):
            self.server.objects[sha256(content)] = content
            linked = {"X-Linked-Size": len(content), "X-Linked-Etag": f'"{sha256(content)}"'}
            place = f"http://localhost:{self.server.server_port}/cdn/{sha256(content)}/{file}"
            self.answer(302, b"", {**headers, **linked, "Location": place})
        else:
            self.give(file, content, {**headers, "ETag": f'"{git_hash(content)}"'})

    def cdn(self, key, file):
        self.give(file, self.server.objects[key], {"ETag": f'"{key}"'})

    def give(self, file, content, headers):
        """Send a file, or the part that is asked for."""
        if file in self.server.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        stop = self.server.break_off.pop(file, None) if self.command == "GET" else None
        part = re.fullmatch(r"bytes=(\d+)-", self.request_seen.range or "")
        if not part or not self.server.ranges:
            self.answer(200, content, {**headers, "Accept-Ranges": "bytes"}, stop=stop)
        elif int(part[1]) >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            place = f"bytes {part[1]}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[int(part[1]) :], {**headers, "Content-Range": place}, stop=stop)

    # Writing

    def may_write(self):
        """Return whether the asking one may; if not, it has been refused."""
        if self.request_seen.token in (TOKEN, READER):
            if self.request_seen.token == READER:
                self.refuse(403, None, "Forbidden: you must use a write token to upload to a repository.")
            return self.request_seen.token == TOKEN
        self.refuse(401, None, "Invalid username or password.")
        return False

    def create(self):
        if self.may_write():
            asked = json.loads(self.body)
            name = f"{asked['organization']}/{asked['name']}" if asked["organization"] else asked["name"]
            if name in self.server.repositories:
                self.answer_json(
                    {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}, 409
                )
                return
            hidden = asked.get("visibility") == "private" or asked.get("private", False)
            self.server.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=hidden)
            self.answer_json({"url": f"{self.server.url}/{name}"})

    def branch(self, name, revision):
        if self.may_write() and (repository := self.repository(name)):
            if revision in repository.branches:
                self.refuse(409, None, "Reference already exists")
                return
            repository.branches[revision] = repository.branches["main"]
            self.answer_json({})

    def validate_card(self):
        self.answer_json({"errors": [], "warnings": []})

    def preupload(self, name, revision):
        if self.may_write() and self.commit(name, revision):
            paths = [each["path"] for each in json.loads(self.body)["files"]]
            modes = [(path, "lfs" if path.endswith(LARGE) else "regular") for path in paths]
            self.answer_json({"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]})

    def batch(self, name):  # noqa: ARG002
        if self.may_write():
            objects = json.loads(self.body)["objects"]
            for each in objects:
                if each["oid"] not in self.server.objects:
                    place = f"{self.server.url}/lfs/{each['oid']}"
                    each["actions"] = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
            self.answer_json({"transfer": "basic", "objects": objects})

    def put(self, key):
        if sha256(self.body) != key:
            self.refuse(400, None, "the SHA-256 is another one")
            return
        self.server.objects[key] = self.body
        self.answer(200)

    def verify(self, key):
        self.answer(200 if key in self.server.objects else 404)

    def write(self, name, revision):
        found = self.may_write() and self.commit(name, revision)
        if not found:
            return
        repository, commit = found
        files = dict(repository.commits[commit])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        made = repository.commit(files, branch=revision)
        place = f"{self.server.url}/{name}/commit/{made}"
        self.answer_json({"success": True, "commitOid": made, "commitUrl": place})


ROUTES = [
    ("GET", rf"/api/models/{NAME}/revision/(?P<revision>[^/]+)", Handler.info),
    ("GET", rf"/api/models/{NAME}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", Handler.tree),
    ("GET", rf"/api/models/{NAME}/refs", Handler.refs),
    ("GET", rf"/api/models/{NAME}", Handler.info),
    ("GET HEAD", rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", Handler.resolve),
    ("GET HEAD", r"/cdn/(?P<key>[0-9a-f]+)/(?P<file>.+)", Handler.cdn),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate_card),
    ("POST", rf"/api/models/{NAME}/branch/(?P<revision>[^/]+)", Handler.branch),
    ("POST", rf"/api/models/{NAME}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    ("POST", rf"/api/models/{NAME}/commit/(?P<revision>[^/]+)", Handler.write),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("POST", r"/lfs/(?P<key>[0-9a-f]+)/verify", Handler.verify),
    ("PUT", r"/lfs/(?P<key>[0-9a-f]+)", Handler.put),
]
