"""`imgclf serve` as a person or a program meets it: a server process, asked over 127.0.0.1."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.browser import Browser, needs_chromium
from tests.conftest import imgclf, imgclf_here

TIMEOUT = 1.0  # seconds that a body may take
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
BOUNDARY = "x-boundary-x"


@dataclass
class Served:
    """A server that runs."""

    host: str
    port: int
    process: subprocess.Popen[str]

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = NO_HEADERS, chunked: bool = False
    ) -> tuple[int, dict[str, str], bytes]:
        line = http.client.HTTPConnection(self.host, self.port, timeout=60)
        line.request(method, path, body, dict(headers), encode_chunked=chunked)
        answer = line.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def predict(self, data: bytes, query: str = "", kind: str = "image/png") -> tuple[int, Any]:
        status, _, body = self.ask("POST", f"/predict{query}", data, {"Content-Type": kind})
        return status, json.loads(body)

    def say(self, text: bytes) -> tuple[int, bytes]:
        """Send bytes as they are; returns the status and the body of the answer."""
        with socket.create_connection((self.host, self.port), timeout=60) as line:
            line.sendall(text)
            answer = http.client.HTTPResponse(line)
            answer.begin()
            return answer.status, answer.read()


@contextmanager
def serving(model: Path, *options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "imgclf", "serve", str(model), "--port", "0", "--timeout", str(TIMEOUT), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"http://(.+):(\d+)/\n", process.stdout.readline())
            assert found, process.communicate(timeout=60)[1]
            yield Served(found[1], int(found[2]), process)
        finally:
            process.kill()


def model_of(run: Path) -> Path:
    return run / "exports" / "model_float32.tflite"


@pytest.fixture(scope="module")
def served(training: tuple[Path, Any]) -> Iterator[Served]:
    with serving(model_of(training[0]), "--max-upload", "1MB") as server:
        yield server


@pytest.fixture(scope="module")
def pictures(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))[::4]


def expected(model: Path, pictures: list[Path], top: int) -> list[Any]:
    done = imgclf_here("predict", model, *pictures, "--top", top, "--format", "json")
    assert done.returncode == 0, done.stderr
    return [row["classes"] for row in json.loads(done.stdout)]


def form(pictures: list[tuple[str, bytes]], field: str = "image") -> tuple[bytes, str]:
    head = '--{}\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
    parts = [head.format(BOUNDARY, field, name).encode() + data + b"\r\n" for name, data in pictures]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def test_answers_are_those_of_predict_alone_together_and_in_a_form(
    run: Path, served: Served, pictures: list[Path]
) -> None:
    right = expected(model_of(run), pictures, 3)
    contents = [path.read_bytes() for path in pictures]
    alone = [served.predict(data, "?top=3") for data in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: served.predict(data, "?top=3", "application/octet-stream"), contents * 3))
    assert [status for status, _ in alone + together] == [200] * 4 * len(pictures)
    assert [answer["images"][0]["classes"] for _, answer in alone] == right
    assert [answer["images"][0]["classes"] for _, answer in together] == right * 3
    body, kind = form([(path.name, data) for path, data in zip(pictures, contents, strict=True)])
    status, answer = served.predict(body, "?top=3", kind)
    assert status == 200
    assert [(row["name"], row["classes"]) for row in answer["images"]] == [
        (path.name, row) for path, row in zip(pictures, right, strict=True)
    ]


def test_one_of_several_that_cannot_be_read_does_not_cost_the_others(served: Served, pictures: list[Path]) -> None:
    body, kind = form([("<b>é.png", b"hello"), ("a.png", pictures[0].read_bytes())])
    status, answer = served.predict(body, "", kind)
    assert status == 200
    bad, good = answer["images"]
    assert bad["name"] == "<b>é.png"
    assert "not an image" in bad["error"]
    assert len(good["classes"]) == 1


def test_bad_requests_are_refused_with_a_reason(served: Served, pictures: list[Path]) -> None:
    photo = pictures[0].read_bytes()
    bomb = io.BytesIO()
    Image.new("1", (20_000, 10_100)).save(bomb, "PNG", compress_level=1)
    cases: list[tuple[bytes, str, str, int, str]] = [
        (b"hello", "", "image/jpeg", 422, "not an image"),
        (photo[:99], "", "image/png", 422, "truncated"),
        (b"", "", "image/png", 422, "empty"),
        (bomb.getvalue(), "", "image/png", 422, "million pixels"),
        (photo, "", "text/plain", 415, "text/plain"),
        (photo, "?top=0", "image/png", 400, "top"),
        (photo, "?top=many", "image/png", 400, "top"),
        (form([("a.png", photo)], "picture")[0], "", form([])[1], 400, "'image'"),
        (form([("a.png", b"hello")])[0], "", form([])[1], 422, "not an image"),
        (b"--nonsense", "", form([])[1], 400, "multipart"),
        (photo, "", "multipart/form-data", 400, "boundary"),
        (b"x" * (1 << 20) + b"x", "", "image/png", 413, "1 MB"),
    ]
    for data, query, kind, status, words in cases:
        found, answer = served.predict(data, query, kind)
        assert (found, set(answer)) == (status, {"error", "fix"}), (kind, words, answer)
        assert words in answer["error"]
        assert answer["fix"]
    assert served.ask("GET", "/nothing")[0] == 404
    assert served.ask("GET", "/predict")[0] == 405
    assert served.predict(photo)[0] == 200


def test_a_body_without_a_length_is_cut_off_and_its_sender_reads_why(served: Served) -> None:
    endless = (bytes(1 << 16) for _ in range(1600))  # 100 MB
    status, _, body = served.ask(
        "POST", "/predict", endless, {"Content-Type": "image/png", "Transfer-Encoding": "chunked"}, chunked=True
    )
    assert status == 413
    assert "1 MB" in json.loads(body)["error"]


def test_who_is_too_slow_is_told(served: Served) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n".encode()
    slow_head = head
    slow_body = head + b"Content-Type: image/png\r\nContent-Length: 100\r\n\r\nfew"
    for answer in ThreadPoolExecutor(2).map(served.say, (slow_head, slow_body)):
        assert answer[0] == 408
        assert "longer than 1 s" in json.loads(answer[1])["error"]
    assert served.say(b"hello there\r\n\r\n")[0] == 400


def test_only_this_computer_under_its_own_name(served: Served) -> None:
    own, foreign = f"localhost:{served.port}", f"evil.example:{served.port}"
    assert served.ask("GET", "/health", headers={"Host": own})[0] == 200
    assert served.ask("GET", "/health", headers={"Host": own, "Origin": f"http://{own}"})[0] == 200
    assert served.ask("GET", "/health", headers={"Host": foreign})[0] == 403
    assert served.ask("GET", "/health", headers={"Host": own, "Origin": "https://evil.example"})[0] == 403
    assert served.ask("GET", "/health", headers={"Host": "localhost"})[0] == 403


def test_what_a_server_says_of_itself(served: Served, pictures: list[Path], run: Path) -> None:
    served.predict(pictures[0].read_bytes())
    health = json.loads(served.ask("GET", "/health")[2])
    assert health["ready"] is True
    assert health["model"] == "model_float32.tflite"
    assert health["classes"] == (run / "classes.txt").read_text().split("\n")[:-1]
    assert health["input"] == {"height": 32, "width": 32, "channels": 3}
    status, headers, body = served.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    answered = float(lines['imgclf_requests_total{path="/predict",status="200"}'])
    assert answered >= 1
    assert float(lines["imgclf_request_seconds_count"]) == answered
    assert float(lines["imgclf_batch_images_sum"]) == float(lines['imgclf_images_total{result="classified"}'])
    assert float(lines["imgclf_waiting_images"]) == float(lines["imgclf_held_bytes"]) == 0


def test_the_page_needs_nothing_from_elsewhere(served: Served) -> None:
    _, headers, page = served.ask("GET", "/docs")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    links = re.findall(r'(?:src|href)="(.+?)"', page.decode())
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/")
        status, _, content = served.ask("GET", link)
        assert status == 200
        assert b"://" not in content
    assert b"innerHTML" not in served.ask("GET", "/docs/page.js")[2]
    paths = json.loads(served.ask("GET", "/openapi.json")[2])["paths"]
    assert set(paths) == {"/predict", "/health", "/metrics"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_who_is_in_flight_is_answered_before_the_end(
    run: Path, pictures: list[Path], number: signal.Signals, code: int
) -> None:
    with serving(model_of(run), "--verbose") as server:
        process = psutil.Process(server.process.pid)
        photo = pictures[0].read_bytes()
        assert server.predict(photo)[0] == 200
        children = process.children()
        assert children
        line = http.client.HTTPConnection(server.host, server.port, timeout=60)
        line.putrequest("POST", "/predict")
        line.putheader("Content-Type", "image/png")
        line.putheader("Content-Length", str(len(photo)))
        line.endheaders(photo[:100])
        assert server.ask("GET", "/health")[0] == 200  # by now the server has read that head
        server.process.send_signal(number)
        line.send(photo[100:])
        answer = line.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["images"][0]["classes"]
        _, err = server.process.communicate(timeout=60)
    assert server.process.returncode == code
    assert "stopping" in err
    assert "POST /predict 200" in err
    assert "Traceback" not in err
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_an_address_that_is_not_free_is_one_line(run: Path, served: Served) -> None:
    for options in (["--port", served.port], ["--host", "192.0.2.1", "--port", "0"]):  # an address of documentation
        done = imgclf("serve", model_of(run), *options)
        assert (done.returncode, done.stdout) == (3, "")
        assert re.fullmatch(r"error: .+ port \d+ cannot be used \(.+\); choose another --port or --host\n", done.stderr)


def test_a_server_for_others_says_that_it_has_no_password_and_answers_to_any_name(run: Path) -> None:
    with serving(model_of(run), "--host", "0.0.0.0") as server:
        assert server.ask("GET", "/health", headers={"Host": "classifier.example"})[0] == 200
        server.process.terminate()
        _, err = server.process.communicate(timeout=60)
    assert re.search(r"warning: anyone who can reach 0\.0\.0\.0:\d+ can use this server: it asks for no password", err)


def test_nothing_is_imported_without_the_extra_and_the_error_names_it(run: Path) -> None:
    code = """
import sys
from importlib.abc import MetaPathFinder

ABSENT = ("fastapi", "starlette", "uvicorn", "python_multipart", "multipart", "prometheus_client", "pydantic", "h11")

class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ABSENT:
            if sys._getframe(1).f_code.co_filename.endswith("util.py"):
                raise ModuleNotFoundError(name)
            raise AssertionError(f"{name} is imported")
        return None

sys.meta_path.insert(0, Blocker())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ABSENT else find(name, package)
from imgclf.cli.main import run
try:
    run(sys.argv[1:])
finally:
    assert not {"tensorflow", "fastapi", "uvicorn"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(model_of(run))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.endswith("; pip install 'imgclf[serve]'\n")
    assert "fastapi, uvicorn, python-multipart, prometheus-client" in done.stderr


def test_a_tflite_file_is_served_without_tensorflow_and_help_without_anything(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from imgclf.serving import app, connections, limits;"
        "from imgclf.serving.model import open_model; open_model(Path(sys.argv[1]));"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, model_of(run)], check=True)
    code = (
        "import sys; from imgclf.cli.main import run\ntry: run(['serve', '--help'])\n"
        "except SystemExit: assert not {'tensorflow', 'numpy', 'PIL', 'fastapi', 'uvicorn'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.browser
@needs_chromium
def test_the_page_classifies(served: Served, pictures: list[Path], browser: Browser) -> None:
    with browser.page(f"http://{served.host}:{served.port}/docs") as page:
        page.wait("document.querySelectorAll('.operation').length === 3")
        page.choose_file("#files", pictures[0])
        page.click("button")
        page.wait("document.querySelector('#answer').textContent.startsWith('200')")
        assert page.text("#answer").count('"probability"') == 3
        page.wait("document.querySelector('#shown img').naturalWidth === 48")


@pytest.mark.slow
def test_a_run_is_served_as_predict_reads_it(run: Path, pictures: list[Path]) -> None:
    with serving(run) as server:
        found = [server.predict(path.read_bytes(), "?top=3")[1]["images"][0]["classes"] for path in pictures[:4]]
        assert json.loads(server.ask("GET", "/health")[2])["model"] == "model.keras"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert found == expected(run, pictures[:4], 3)
