"""A judge on the loopback interface whose answers, and faults, a test chooses."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chat(content, finish="stop", **message):
    return {"choices": [{"message": {"content": content} | message, "finish_reason": finish}]}


def verdict(correct: bool, reasoning: str = "compared") -> dict:
    return chat(json.dumps({"reasoning": reasoning, "correct": correct}))


class Server:
    """answer(request body, its number) gives (status, JSON object or bytes, *headers), or None to break off."""

    def __init__(self, url: str, requests: list) -> None:
        self.url, self.requests = url, requests


@contextmanager
def serving(answer, models=({"id": "judge", "root": "weights"},)):
    """A server; its models are of /v1/models, None for a server that has no such list."""
    requests, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                requests.append((self.path, body, {name.lower(): text for name, text in self.headers.items()}))
                number = len(requests)
            reply = answer(body, number)
            if reply is None:
                return  # the connection closes
            status, content, *headers = reply
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client timed out

        def do_GET(self):
            listed = self.path == "/v1/models" and models is not None
            data = json.dumps({"data": list(models or ())}).encode()
            self.send_response(200 if listed else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
