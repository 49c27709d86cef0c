"""The server under test: started here or already there, the few requests the evaluation needs, and the memory it took."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np

from common.data import REPOSITORY

MAIN = REPOSITORY / "dist" / "cli" / "main.js"
CACHE = "512m"
"""--runner-cache-bytes of a server started here. Every scan has its session, and the runner would else keep up to 2 GiB of
scans that are done with, which says nothing of what a model needs."""


class Server:
    """A server at `url`; `pid` is None where it was not started here."""

    def __init__(self, url: str, pid: int | None = None) -> None:
        self.url, self.pid = url.rstrip("/"), pid
        self.seconds: list[float] = []
        """Duration of every request to a model, from its first byte sent to its last received."""

    def send(self, method: str, path: str, params: dict | None = None, file: Path | None = None) -> bytes:
        """One multipart request; the reply's body."""
        boundary = uuid.uuid4().hex
        parts = []
        if params is not None:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n'.encode())
        if file is not None:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n'
            parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + file.read_bytes() + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        request = urllib.request.Request(self.url + path, body if parts else None, method=method)
        if parts:
            request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def models(self) -> list[str]:
        """Names of the models that the server lists."""
        return [model["name"] for model in json.loads(self.send("GET", "/v1/models"))]

    def ask(self, path: str, params: dict, file: Path | None = None) -> bytes:
        """A request to a model; its duration is added to `seconds`."""
        begun = time.perf_counter()
        content = self.send("POST", path, params, file)
        self.seconds.append(time.perf_counter() - begun)
        return content

    def labels(self, kind: str, model: str, params: dict, file: Path | None = None, session: str | None = None) -> np.ndarray:
        """The label map that a request gives, (X, Y, Z) in RAS+ as read_volume gives it; of a picture (rows, columns)."""
        where = f"&session_id={session}" if session else ""
        content = self.ask(f"/v1/{kind}?model={model}&output=image{where}", params, file)
        if content[:4] == b"\x89PNG":
            return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return np.asarray(nib.as_closest_canonical(nib.Nifti1Image.from_bytes(plain)).dataobj)

    @contextmanager
    def session(self, file: Path) -> Iterator[str]:
        """A session that holds `file` for as long as the block runs."""
        name = str(json.loads(self.send("PUT", "/session/?expiry=3600", {}, file))["session_id"])
        try:
            yield name
        finally:
            self.send("DELETE", f"/session/{name}")

    def peak_memory(self) -> tuple[int, int] | None:
        """Most bytes that the server held so far, and the sum of that of its child processes; None where unknown."""
        if self.pid is None or not Path("/proc").is_dir():
            return None
        return peak_of(self.pid), sum(peak_of(child) for child in descendants(self.pid))


def status_of(pid: int, field: str) -> int:
    """A number of /proc/<pid>/status; 0 when the process or the field is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def peak_of(pid: int) -> int:
    """Most bytes that a process held so far."""
    return status_of(pid, "VmHWM") * 1024


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(status_of(int(entry.name), "PPid"), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


@contextmanager
def serving(url: str | None) -> Iterator[Server]:
    """The server at `url`; without one a fresh server on a free port and an empty workspace, stopped after the block."""
    if url:
        yield Server(url)
        return
    if not MAIN.exists():
        raise SystemExit("run `npm run build` first, or name a running server with --url")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIDANT_")}
    with tempfile.TemporaryDirectory(prefix="aidant-quality-", ignore_cleanup_errors=True) as workspace:
        command = ["node", str(MAIN), "serve", "--port", "0", "--workspace", workspace, "--runner-cache-bytes", CACHE]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            yield Server(address_of(process), process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a server that is starting says it listens; what it says later is read and dropped, lest it block."""
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"listens on (\S+)", line)
        if found:
            threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
            return found[1]
    raise SystemExit("the server did not start:\n" + "".join(said))
