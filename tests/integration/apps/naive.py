"""Speech services as people write them on an afternoon: no frames, no problem details, nothing beyond the obvious."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from flask import Flask, jsonify, request
from pydantic import BaseModel

from tests.support.service import audio_of
from tests.support.waiting import GENEROUS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Response

fast = FastAPI()
flask = Flask(__name__)


class Batch(BaseModel):
    """What FastAPI is to read; it passes over all else."""

    texts: list[str]


@fast.post("/batch")
def batch(wanted: Batch) -> dict[str, Any]:
    """Answer as one does who has read no definition."""
    return {"audios": [{"text": text, "audio": b64encode(audio_of(text))} for text in wanted.texts]}


@flask.post("/batch")
def flask_batch() -> Response:
    """Answer with a list of base64, and nothing else."""
    return jsonify([b64encode(audio_of(text)).decode() for text in request.get_json()["texts"]])


class Plain(BaseHTTPRequestHandler):
    """Answer with the standard library alone, in HTTP/1.0, with no media type."""

    def do_POST(self) -> None:
        """Read as many bytes as are announced, and call them JSON."""
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
        body = json.dumps({"code": 0, "data": [{"audio": b64encode(audio_of(text)).decode()} for text in texts]})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing on standard error."""


@contextmanager
def fastapi_service() -> Iterator[str]:
    """Serve `fast` with uvicorn, as its manual has it."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(fast, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(GENEROUS)


@contextmanager
def flask_service() -> Iterator[str]:
    """Serve `flask` with the server that ``flask run`` starts."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, flask, threaded=True, request_handler=Quiet)
    with _in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def plain_service() -> Iterator[str]:
    """Serve `Plain`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    with _in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _in_thread(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(GENEROUS)
        server.server_close()


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {behind}; }} }}
}}
"""


@contextmanager
def nginx_before(behind: str, folder: Path) -> Iterator[str]:
    """Serve what nginx, with nothing set that need not be, makes of the service *behind* it."""
    import os

    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    assert program is not None, "nginx is missing; install it, as with: apt-get install nginx-light"
    user = "user root;" if os.geteuid() == 0 else ""
    # The socket is made here and inherited, as from an nginx before it: no free port to guess, no wait for it.
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, behind=behind, user=user))
        process = subprocess.Popen(
            [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)],
            pass_fds=[listener.fileno()],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            stdin=subprocess.DEVNULL,
        )
    try:
        eventually(lambda: (folder / "pid").exists(), "nginx runs")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(GENEROUS)
