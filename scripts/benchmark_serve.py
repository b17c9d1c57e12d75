"""How fast `imgclf serve` is beside bare LiteRT, whether it answers alike, and what bad requests do to it.

    python scripts/benchmark_serve.py MODEL.tflite PHOTOS [--requests 2000] [--at-once 16] [--rounds 5] [--bad 500]
                                      [--odd FOLDER] [--only speed|bad] [-- OPTIONS OF imgclf serve]

The server is a process of its own; this one asks it. `speed`: rounds of bare LiteRT (what `imgclf predict` does with
the same photos: decoded in threads, computed by all cores) and of the server take turns, so that a busy minute hits
both. On a busy machine the server has more processes than bare LiteRT and so gets more of it: there the ratio of
processor time says more. Every answer is compared with predict's. `bad`: garbage, damaged files, decompression bombs,
bodies of 100 MB, bodies that stop coming, wrong types, taking turns; each has to be refused with a reason. Good
requests go on in between, and memory (of the server and its processes) is measured all along.
"""

import argparse
import collections
import http.client
import io
import itertools
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from PIL import Image

from imgclf import predict

MB = 1 << 20
SLOW_SECONDS = 2.0  # --timeout of the server that gets the bad requests
GOOD_EVERY = 10  # bad requests for a good one


@contextmanager
def server(model: Path, *options: str) -> Iterator[tuple[str, int, psutil.Process]]:
    """Start a server; ends it with SIGTERM, as whatever runs it would."""
    command = [sys.executable, "-m", "imgclf", "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            assert address.hostname, "the server did not start"
            assert address.port, "the server did not start"
            ask(http.client.HTTPConnection(address.hostname, address.port), b"", {}, "/health", "GET")
            yield address.hostname, address.port, psutil.Process(process.pid)
        finally:
            process.terminate()
            print(f"exit code of the server after SIGTERM: {process.wait(60)}")


def ask(
    connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str], path: str, method: str = "POST"
) -> tuple[int, dict]:
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def rounded(prediction: predict.Prediction, classes: tuple[str, ...]) -> list[dict]:
    return [{"label": name, "probability": round(p, 6)} for name, p in prediction.top(len(classes), classes)]


def speed(arguments: argparse.Namespace, photos: list[Path]) -> dict:
    """Rounds of both, in turns."""
    predictor = predict.load(arguments.model)
    per_round = arguments.requests // arguments.rounds
    contents = {path: path.read_bytes() for path in photos}
    order = list(itertools.islice(itertools.cycle(photos), arguments.requests))
    expected = {
        result.path: rounded(result, predictor.classes)
        for result in predictor.each(photos)
        if isinstance(result, predict.Prediction)
    }
    order = [path for path in order if path in expected]
    bare, served, seconds, wrong, apart = [], [], [], collections.Counter(), 0.0
    lone: list[float] = []
    bare_processor, served_processor = 0.0, 0.0
    query = f"/predict?top={len(predictor.classes)}"
    with server(arguments.model, *arguments.options) as (host, port, process):
        local = threading.local()

        def one(path: Path) -> tuple[float, Path, int, dict]:
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(host, port)
            begun = time.perf_counter()
            status, answer = ask(local.connection, contents[path], {"Content-Type": "image/jpeg"}, query)
            return time.perf_counter() - begun, path, status, answer

        with ThreadPoolExecutor(arguments.at_once) as pool:
            list(pool.map(one, order[: 4 * arguments.at_once]))  # warm, and every connection made
            for number in range(arguments.rounds):
                paths = order[number * per_round : (number + 1) * per_round]
                begun, used = time.perf_counter(), time.process_time()
                done = sum(isinstance(result, predict.Prediction) for result in predictor.each(paths))
                bare.append(done / (time.perf_counter() - begun))
                bare_processor += time.process_time() - used
                begun, used = time.perf_counter(), processor(process)
                answers = list(pool.map(one, paths))
                served.append(len(paths) / (time.perf_counter() - begun))
                served_processor += processor(process) - used
                for took, path, status, answer in answers:
                    seconds.append(took)
                    if status != 200:
                        wrong[f"status {status}"] += 1
                        continue
                    found = answer["images"][0]["classes"]
                    if found != expected[path]:
                        wrong["other figures"] += 1
                        names = {row["label"]: row["probability"] for row in expected[path]}
                        apart = max(apart, *(abs(row["probability"] - names[row["label"]]) for row in found))
                        wrong["another class"] += found[0]["label"] != expected[path][0]["label"]
            for path in order[:100]:
                lone.append(one(path)[0])
        metrics = http.client.HTTPConnection(host, port)
        metrics.request("GET", "/metrics")
        text = metrics.getresponse().read().decode()
    sizes = {
        line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("imgclf_batch_images")
    }
    seconds.sort()
    return {
        "requests": len(seconds),
        "at once": arguments.at_once,
        "errors and differences": dict(wrong),
        "largest difference of a probability": apart,
        "p50 ms": round(1000 * statistics.median(seconds), 1),
        "p95 ms": round(1000 * seconds[int(0.95 * len(seconds))], 1),
        "p99 ms": round(1000 * seconds[int(0.99 * len(seconds))], 1),
        "p50 ms of a request alone": round(1000 * statistics.median(lone), 1),
        "requests/s of each round": [round(rate, 1) for rate in served],
        "bare LiteRT images/s of each round": [round(rate, 1) for rate in bare],
        "ratio of the medians": round(statistics.median(served) / statistics.median(bare), 3),
        "processor ms an image: bare, served (server and its processes)": [
            round(1000 * seconds_of / len(seconds), 2) for seconds_of in (bare_processor, served_processor)
        ],
        "ratio of processor time": round(bare_processor / served_processor, 3),
        "images a batch": round(sizes["imgclf_batch_images_sum"] / sizes["imgclf_batch_images_count"], 2),
    }


@dataclass(frozen=True)
class Bad:
    """A kind of bad request: how it is sent, and the statuses that are an answer to it."""

    send: Callable[[str, int], tuple[int, dict]]
    statuses: tuple[int, ...]


def posting(body: bytes, kind: str = "image/png") -> Callable[[str, int], tuple[int, dict]]:
    def send(host: str, port: int) -> tuple[int, dict]:
        return ask(http.client.HTTPConnection(host, port, timeout=60), body, {"Content-Type": kind}, "/predict")

    return send


def raw(head: str, pieces: Callable[[], Iterator[bytes]]) -> Callable[[str, int], tuple[int, dict]]:
    """Send a head and pieces until the server has had enough, then read its answer."""

    def send(host: str, port: int) -> tuple[int, dict]:
        with socket.create_connection((host, port), timeout=60) as line:
            line.sendall(f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n\r\n".encode())
            try:
                for piece in pieces():
                    line.sendall(piece)
            except OSError:
                pass  # it stopped listening; the answer is there all the same
            answer = http.client.HTTPResponse(line)
            answer.begin()
            return answer.status, json.loads(answer.read())

    return send


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels, all of them black, in a few hundred kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    data = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    size = side.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + size + b"\x08\x02\0\0\0")
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def hundred_megabytes() -> Iterator[bytes]:
    for _ in range(100):
        yield f"{MB:x}\r\n".encode() + bytes(MB) + b"\r\n"
    yield b"0\r\n\r\n"


def kinds(photo: bytes, odd: Path | None) -> dict[str, Bad]:
    picture = io.BytesIO()
    Image.effect_noise((400, 400), 50).save(picture, "PNG")
    named = {
        "garbage": posting(bytes(range(256)) * 40),
        "a photo cut off": posting(photo[: len(photo) // 2], "image/jpeg"),
        "a damaged PNG": posting(picture.getvalue()[:2000] + b"\0" * 3000 + picture.getvalue()[5000:]),
        "an HTML page": posting(b"<!doctype html><p>hello", "image/jpeg"),
        "a bomb of 20,000 x 20,000": posting(bomb(20_000)),
        "nothing": posting(b"", "image/png"),
    }
    found = {name: Bad(send, (422,)) for name, send in named.items()}
    if odd is not None:
        for path in sorted(odd.glob("decompression_bomb*")) + sorted(odd.glob("crash-*"))[:8]:
            if isinstance(next(iter(predict_one(path))), predict.Skipped):
                found[path.name] = Bad(posting(path.read_bytes(), "application/octet-stream"), (422,))
    length = "Content-Type: image/png\r\nContent-Length: "
    chunked = "Content-Type: image/png\r\nTransfer-Encoding: chunked"
    return found | {
        "100 MB, said so": Bad(raw(f"{length}{100 * MB}", lambda: (bytes(MB) for _ in range(100))), (413,)),
        "100 MB, in chunks": Bad(raw(chunked, hundred_megabytes), (413,)),
        "a body that stops": Bad(raw(f"{length}1000", lambda: iter([b"x" * 10])), (408,)),
        "text": Bad(posting(b"hello", "text/plain"), (415,)),
        "JSON": Bad(posting(b"{}", "application/json"), (415,)),
        "a form without an image": Bad(
            posting(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
                    "multipart/form-data; boundary=x"), (400,)),
        "a broken form": Bad(posting(b"--y nonsense", "multipart/form-data; boundary=x"), (400,)),
        "not HTTP": Bad(raw("nonsense", lambda: iter(())), (400,)),
    }  # fmt: skip


def predict_one(path: Path) -> Iterator[predict.Prediction | predict.Skipped]:
    """Whether predict can read a file; no model is needed for that."""
    import numpy as np

    nothing = predict.Predictor(path, ("a", "b"), (32, 32, 3), lambda images: np.zeros((len(images), 2), np.float32))
    return nothing.each([path])


def bad(arguments: argparse.Namespace, photos: list[Path]) -> dict:
    """Bad requests of all kinds, four at once."""
    photo = photos[0].read_bytes()
    table = kinds(photo, arguments.odd)
    order = list(itertools.islice(itertools.cycle(table), arguments.bad))
    statuses: dict[str, collections.Counter] = {name: collections.Counter() for name in table}
    unexpected, memory = [], []
    options = ["--timeout", str(SLOW_SECONDS), *arguments.options]
    with server(arguments.model, *options) as (host, port, process):
        good = posting(photo, "image/jpeg")
        first = good(host, port)
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                memory.append(usage(process))

        def one(name: str) -> None:
            try:
                status, answer = table[name].send(host, port)
                well = status in table[name].statuses and answer["error"] and answer["fix"]
            except Exception as error:
                status, answer, well = type(error).__name__, {}, False
            statuses[name][status] += 1
            if not well:
                unexpected.append((name, status, answer))

        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(4) as pool:
            halves = []
            for part in (order[: len(order) // 2], order[len(order) // 2 :]):
                for at in range(0, len(part), GOOD_EVERY):
                    list(pool.map(one, part[at : at + GOOD_EVERY]))
                    if good(host, port) != first:
                        unexpected.append(("a good photo in between", 0, {}))
                halves.append(usage(process))
        ended.set()
        watching.join()
        workers = len(process.children())
    return {
        "bad requests": len(order),
        "answers": {name: dict(count) for name, count in statuses.items()},
        "not as expected": unexpected,
        "memory MB: at first, after half, at the end, most": [
            round(value / MB) for value in (memory[0], *halves, max(memory))
        ],
        "processes that decode, at the end": workers,
        "a good photo after each 10": "answered as before" if not unexpected else "see above",
    }


def processor(process: psutil.Process) -> float:
    """Seconds that a process and its children have computed."""
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children()])


def usage(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for one in [process, *process.children()]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bad", type=int, default=500)
    parser.add_argument("--odd", type=Path, help="a folder of odd image files")
    parser.add_argument("--only", choices=("speed", "bad"))
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:end])
    arguments.options = words[end + 1 :]
    photos = predict.find_images([arguments.photos])
    for name, measure in (("speed", speed), ("bad", bad)):
        if arguments.only in (None, name):
            print(json.dumps({name: measure(arguments, photos)}, indent=2))


if __name__ == "__main__":
    main()
