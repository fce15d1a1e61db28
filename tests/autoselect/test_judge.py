"""The judge, against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from relann.autoselect.judge import JudgeError, asked

TOLD: list[dict[str, object]] = [{"template": "dfs"}, {"template": "sage"}]


@contextmanager
def server(said: str, status: int = 200) -> Iterator[tuple[str, list[dict]]]:
    """An address at which every question gets one answer, and the questions."""
    heard: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            heard[-1]["path"] = self.path
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", heard
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def test_a_choice_with_its_reason() -> None:
    with server('Well: {"choice": 1, "reason": "flatter"}') as (address, heard):
        assert asked(address, "small", TOLD, {"metric": "auroc"}) == (1, "flatter")
    (question,) = heard
    assert question["path"] == "/v1/chat/completions"
    assert question["model"] == "small"
    content = json.loads(question["messages"][1]["content"])
    assert content["candidates"][1] == {"number": 1, "template": "sage"}
    assert content["task"] == {"metric": "auroc"}


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        ("I like both", 200, "names no candidate"),
        ('{"choice": "the first"}', 200, "names no candidate"),
        ('{"choice": 2}', 200, "chose candidate 2; there are 2"),
        ("", 500, "no answer"),
    ],
)
def test_answers_that_do_not_count(said: str, status: int, why: str) -> None:
    with server(said, status) as (address, _), pytest.raises(JudgeError, match=why):
        asked(address, "m", TOLD, {})


def test_nobody_there() -> None:
    with pytest.raises(JudgeError, match="no answer from"):
        asked("http://127.0.0.1:9", "m", TOLD, {})
    with pytest.raises(JudgeError, match="no address"):
        asked("file:///etc/passwd", "m", TOLD, {})
