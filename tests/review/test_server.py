"""What the server gives, what it takes, and what it refuses."""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgclf.data.suspects import Suspect, read_suspects, write_suspects
from imgclf.errors import InputError
from imgclf.review import server as module
from imgclf.review.decisions import decide, summary
from imgclf.review.server import HEADERS, ReviewServer, review

Serve = Callable[[Path], ReviewServer]
UNDECIDED = [["", ""]] * 5


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def ask(
    server: ReviewServer, name: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send a request to an address below the secret one, or to `name` as it is where that begins with a slash."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        address = name if name.startswith("/") else server.base + name
        connection.request(method, address, body, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def post(server: ReviewServer, name: str, value: Any, **changes: str) -> Answer:
    headers = {"Content-Type": "application/json", "X-Review-Token": server.token} | {
        key.replace("_", "-"): text for key, text in changes.items()
    }
    return ask(server, name, "POST", json.dumps(value), headers)


def save(server: ReviewServer, decisions: Any, revision: str | None = None, **more: Any) -> Answer:
    return post(server, "save", {"decisions": decisions, "revision": revision or server.revision, **more})


def page_data(page: bytes) -> dict[str, Any]:
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_page_has_the_rows(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    answer = ask(server, "")
    data = page_data(answer.body)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert data["file"] == "suspects.csv"
    assert data["classes"] == ["bar", "disc", "frame"]
    assert data["rows"][0] == ["photos/disc/0.png", "disc", "frame", 0.99, "", ""]
    assert data["rows"][4] == ["photos/frame/4.png", "frame", "disc", 0.59, "keep", ""]


def test_page_finds_everything_that_it_loads(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    page = ask(server, "").body.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"page.css", "page.js", "icon.svg"} == set(loaded)
    loaded += re.findall(r'from "\./([^"]+)"', ask(server, "page.js").body.decode())
    assert {name: ask(server, name).status for name in loaded} == dict.fromkeys(loaded, 200)


def test_save_keeps_order_and_rows(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    before = read_suspects(suspects)
    answer = save(server, [["relabel", "frame"], ["", ""], ["exclude", ""], ["keep", ""], ["", ""]])
    assert answer.status == 200
    assert read_suspects(suspects) == (
        replace(before[0], action="relabel", new_label="frame"), before[1], replace(before[2], action="exclude"),
        replace(before[3], action="keep"), replace(before[4], action=""),
    )  # fmt: skip
    data = page_data(ask(server, "").body)
    assert [row[4:] for row in data["rows"]][:2] == [["relabel", "frame"], ["", ""]]
    assert data["revision"] == json.loads(answer.body)["revision"]


def test_save_does_not_overwrite_what_came_in_between(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    first = server.revision
    assert save(server, UNDECIDED, first).status == 200
    assert save(server, [["keep", ""]] * 5, first).status == 409  # another tab
    suspects.write_text(suspects.read_text().replace("disc,frame,0.99,", "disc,frame,0.99,exclude"))
    answer = save(server, [["keep", ""]] * 5)  # a spreadsheet
    assert answer.status == 409
    assert "suspects.csv has been changed" in json.loads(answer.body)["error"]
    assert read_suspects(suspects)[0].action == "exclude"
    assert save(server, [["keep", ""]] * 5, overwrite=True).status == 200
    assert {suspect.action for suspect in read_suspects(suspects)} == {"keep"}


@pytest.mark.parametrize(
    "decisions",
    [
        [], UNDECIDED[:4], None, "keep", {"0": "keep"},
        *([*UNDECIDED[:4], last] for last in (
            ["delete", ""], ["relabel", ""], ["relabel", " "], ["relabel", "a\nb"], ["relabel", "x" * 256],
            ["relabel", "\ud800"], ["relabel", 3], ["keep", "cat"], ["keep"], [["keep"], ""], None,
        )),
    ],
)  # fmt: skip
def test_what_is_no_decision_changes_nothing(suspects: Path, serve: Serve, decisions: Any) -> None:
    before = suspects.read_bytes()
    assert save(serve(suspects), decisions).status == 400
    assert suspects.read_bytes() == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b"[" * 5000])
def test_what_is_no_request_is_refused(suspects: Path, serve: Serve, body: bytes) -> None:
    server = serve(suspects)
    headers = {"Content-Type": "application/json", "X-Review-Token": server.token}
    assert ask(server, "save", "POST", body, headers).status == 400


def test_full_disk_is_said_and_loses_nothing(suspects: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise InputError("the disk is full", "free some space")

    server = serve(suspects)
    monkeypatch.setattr(module, "write_suspects", full)
    answer = save(server, [["keep", ""]] * 5)
    assert answer.status == 500
    assert json.loads(answer.body) == {"error": "Not saved: the disk is full; free some space."}
    monkeypatch.undo()
    assert save(server, [["keep", ""]] * 5).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost", "127.0.0.1:1", "[::1]:{port}", "", "x.localhost:{port}"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_hosts_are_refused(suspects: Path, serve: Serve, host: str, method: str) -> None:
    server = serve(suspects)
    headers = {"Host": host.format(port=server.server_port), "X-Review-Token": server.token}
    answer = ask(server, "", method, headers=headers)
    assert answer.status == 403
    assert b"disc" not in answer.body


def test_two_hosts_are_refused(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
        host = f"Host: 127.0.0.1:{server.server_port}\r\n"
        connection.sendall(f"GET {server.base} HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"403"


def test_both_names_of_this_computer_are_accepted(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    for name in ("127.0.0.1", "localhost"):
        assert ask(server, "", headers={"Host": f"{name}:{server.server_port}"}).status == 200


def test_listens_to_this_computer_only(suspects: Path, serve: Serve) -> None:
    assert serve(suspects).server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("token", ["", "x", "ünïcode".encode().decode("latin-1")])
@pytest.mark.parametrize("name", ["save", "stop"])
def test_change_needs_the_token(suspects: Path, serve: Serve, name: str, token: str) -> None:
    server = serve(suspects)
    assert post(server, name, {"decisions": UNDECIDED}, X_Review_Token=token).status == 403
    assert ask(server, "").status == 200  # it still runs


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_change_needs_json(suspects: Path, serve: Serve, kind: str) -> None:
    assert post(serve(suspects), "save", {}, Content_Type=kind).status == 415


def test_change_is_never_a_get(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    for name in ("save", "stop"):
        assert ask(server, name, headers={"X-Review-Token": server.token}).status == 404
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        assert ask(server, "save", method, headers={"X-Review-Token": server.token}).status == 501


@pytest.mark.parametrize(("length", "status"), [("99999999", 413), ("9" * 30, 411), ("-1", 411), ("²", 411), ("", 411)])
def test_body_is_bounded(suspects: Path, serve: Serve, length: str, status: int) -> None:
    server = serve(suspects)
    head = (
        f"POST {server.base}save HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nX-Review-Token: {server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
        connection.sendall(head.encode("latin-1"))  # and no body: the answer may not wait for it
        answer = connection.makefile("rb").read()
    assert answer.split()[1] == str(status).encode()


@pytest.mark.parametrize(
    "name",
    [
        "/", "/page.js", "/image/0", "/etc/passwd", "../suspects.csv", "suspects.csv", "page.html", "server.py",
        "save/", "image/-1", "image/5", "image/00000000000", "image/0.png", "image/%30", "image/0/../1", "image/٣",
        "image/../../photos/disc/0.png", "image//photos/disc/0.png", "thumbnail/photos/disc/0.png", "image/0?x",
        "//evil/", "image/..%2f..%2fsuspects.csv", "photos/disc/0.png", "http://evil.example/",
    ],
)  # fmt: skip
def test_nothing_else_is_served(suspects: Path, serve: Serve, name: str) -> None:
    server = serve(suspects)
    name = name.encode().decode("latin-1")  # as bytes on the wire
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
        path = name if name.startswith("/") else server.base + name
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        assert connection.makefile("rb").read().split()[1] == b"404"


@pytest.mark.parametrize(("name", "size"), [("image/0", (1600, 800)), ("thumbnail/0", (192, 96))])
def test_images_are_upright_small_jpegs_without_metadata(
    tmp_path: Path, serve: Serve, name: str, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    exif[0x010E] = "where I live"
    Image.new("RGB", (1000, 2000), "red").save(tmp_path / "a.webp", exif=exif)
    write_suspects(tmp_path / "suspects.csv", [Suspect(tmp_path / "a.webp", "cat")])
    answer = ask(serve(tmp_path / "suspects.csv"), name)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert "private" in answer.headers["Cache-Control"]
    assert b"where I live" not in answer.body
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.format, image.size) == ("JPEG", size)


@pytest.mark.parametrize(
    "content", [None, b"", b"<script>alert(1)</script>", b"<svg onload='alert(1)'/>", b"\xff\xd8\xff broken"]
)
def test_unreadable_image_is_not_found(tmp_path: Path, serve: Serve, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    write_suspects(tmp_path / "suspects.csv", [Suspect(tmp_path / "a.jpg", "cat")])
    answer = ask(serve(tmp_path / "suspects.csv"), "image/0")
    assert (answer.status, answer.body) == (404, b"the image cannot be read\n")


def test_every_answer_is_locked_in(suspects: Path, serve: Serve) -> None:
    server = serve(suspects)
    for answer in (
        ask(server, ""),
        ask(server, "page.js"),
        ask(server, "image/0"),
        ask(server, "gone"),
        save(server, []),
    ):
        assert {name: answer.headers.get_all(name) for name in HEADERS} == {k: [v] for k, v in HEADERS.items()}
    policy = ask(server, "").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert ask(server, "").headers["Cache-Control"] == "no-store"


def test_names_cannot_leave_their_place_in_the_page(tmp_path: Path, serve: Serve) -> None:
    names = ["</script><script>alert(1)</script>", "<!--<script>", "{{ data }}", "\u2028", "lone \udcff"]
    write_suspects(tmp_path / "suspects.csv", [Suspect(tmp_path / f"{n}.jpg", names[n], names[0]) for n in range(5)])
    body = ask(serve(tmp_path / "suspects.csv"), "").body
    assert body.count(b"<script") == body.count(b"</script") == 2
    assert body.isascii() or "alert(1)</script>" not in body.decode()
    assert [row[1] for row in page_data(body)["rows"]] == names


def test_decide_is_pure_and_summed_up() -> None:
    rows = tuple(Suspect(Path(f"/{n}.jpg"), "cat", "dog") for n in range(3))
    decided = decide(rows, [["relabel", "dog"], ["", ""], ["exclude", ""]])
    assert [row.action for row in rows] == ["", "", ""]
    assert summary(rows) == "0 of 3 decided"
    assert summary(decided) == "2 of 3 decided: 1 relabel, 1 exclude"


def test_taken_port_is_said(suspects: Path, serve: Serve) -> None:
    port = serve(suspects).server_port
    with pytest.raises(InputError, match=rf"port {port} cannot be used"):
        ReviewServer(suspects, port)


def test_nothing_to_review_ends_at_once(tmp_path: Path) -> None:
    write_suspects(tmp_path / "suspects.csv", [])
    said: list[str] = []
    review(tmp_path / "suspects.csv", open_browser=False, tell=said.append)
    assert said == [f"{tmp_path / 'suspects.csv'} holds no images: nothing to review"]


def start_command(path: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "imgclf", "review", path, "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    return process, process.stdout.readline().strip()


def fetch(url: str, path: str = "", **options: Any) -> bytes:
    from urllib.request import Request, urlopen

    with urlopen(Request(url + path, **options), timeout=60) as response:
        body: bytes = response.read()
        return body


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
def test_command_ends_well_with_ctrl_c(suspects: Path) -> None:
    process, url = start_command(suspects)
    assert page_data(fetch(url))["file"] == "suspects.csv"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == f"{suspects}: 1 of 5 decided: 1 keep; what the page has not saved is lost\n"


def test_command_ends_when_the_page_is_done(suspects: Path) -> None:
    process, url = start_command(suspects)
    headers = {"Content-Type": "application/json", "X-Review-Token": page_data(fetch(url))["token"]}
    assert fetch(url, "stop", data=b"{}", headers=headers, method="POST") == b"{}"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"{suspects}: 1 of 5 decided: 1 keep\n", "")
