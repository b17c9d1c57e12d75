"""The page that runs the file to ship in a browser: the same answers as in Python, names as text."""

import http.client
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgclf import pixels, predict, runs
from imgclf.errors import InputError
from imgclf.export import web
from imgclf.export.results import RESULTS
from imgclf.export.web import FACTS, WEB, find_package, refresh_web, write_web
from imgclf.models import tflite_metadata
from tests.browser import Browser, needs_chromium
from tests.conftest import imgclf_here
from tests.export.demo_page import ask, serving

needs_package = pytest.mark.skipif(find_package() is None, reason=f"needs {web.PACKAGE} where Node.js would find it")


@pytest.fixture(scope="module")
def site(training: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the tiny run, to be read only."""
    copy = Path(shutil.copytree(training[0], tmp_path_factory.mktemp("web") / "my <b>run"))
    return write_web(runs.Run.open(copy))


@needs_chromium
@needs_package
@pytest.mark.browser
def test_the_browser_gives_the_answers_of_python(site: Path, photos: Path, browser: Browser) -> None:
    facts = json.loads((site / FACTS).read_text())
    predictor = predict.load(site.parent / facts["file"])
    files = [path for folder in sorted(photos.iterdir()) for path in sorted(folder.glob("*.png"))[::4]]
    files.append(photos / "disc" / "sideways.jpg")
    assert len(files) > 10
    with serving(site) as server, browser.page(f"{server.address}/") as page:
        page.wait("document.body.dataset.check")
        assert page.value("document.body.dataset.check") == "good", page.text("#check")
        assert float(page.value("document.body.dataset.off")) < 0.02
        for result in predictor.each(files):
            assert isinstance(result, predict.Prediction)
            found = ask(page, result.path)
            assert next(iter(found)) == result.label, result.path
            assert found[result.label] == pytest.approx(100 * result.probability, abs=3)
        assert not page.errors
        assert page.text("#title") == "my <b>run"


@needs_chromium
@needs_package
@pytest.mark.browser
def test_a_phone_sees_all_of_it_and_a_broken_photo_is_said(
    site: Path, photos: Path, tmp_path: Path, browser: Browser
) -> None:
    with serving(site) as server, browser.page(f"{server.address}/", width=360, height=740, dark=True) as page:
        page.wait("document.body.dataset.state === 'ready'")
        page.choose_file("#file", photos / "disc" / "broken.jpg")
        page.wait("!document.querySelector('#problem').hidden")
        assert "broken.jpg is not an image" in page.text("#problem")
        page.click("#list li:last-child button")
        page.wait("document.querySelector('.row')")
        assert page.value("document.querySelector('#problem').hidden")
        assert page.value("document.documentElement.scrollWidth <= innerWidth")


@needs_chromium
@needs_package
@pytest.mark.browser
def test_a_browser_that_answers_otherwise_says_so(site: Path, tmp_path: Path, browser: Browser) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "web"))
    facts = json.loads((copy / FACTS).read_text())
    for example in facts["examples"]:
        example["scores"].reverse()
        example["scores"].append(example["scores"].pop(0))
    (copy / FACTS).write_text(json.dumps(facts))
    with serving(copy) as server, browser.page(f"{server.address}/") as page:
        page.wait("document.body.dataset.check")
        assert page.value("document.body.dataset.check") == "bad" and "do not rely on it" in page.text("#check")


@needs_chromium
@needs_package
@pytest.mark.browser
def test_the_page_works_without_its_examples(site: Path, tmp_path: Path, photos: Path, browser: Browser) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "web", ignore=shutil.ignore_patterns("examples")))
    with serving(copy) as server, browser.page(f"{server.address}/") as page:
        page.wait("document.body.dataset.state === 'ready' && document.querySelector('#examples').hidden")
        assert ask(page, sorted((photos / "frame").glob("*.png"))[0])
        assert page.text("#check") == "" and page.value("document.querySelector('#problem').hidden")


@needs_chromium
@needs_package
@pytest.mark.browser
def test_names_are_text_on_the_page(site: Path, photos: Path, tmp_path: Path, browser: Browser) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "web"))
    facts = json.loads((copy / FACTS).read_text())
    names = ("<img src=x onerror=document.title=1>", 'a "quoted" & \u202eright to left', "🦊 " + "long" * 60)
    model = copy / facts["file"]
    model.write_bytes(tflite_metadata.write(model.read_bytes(), tflite_metadata.Metadata(names, (0.0,), (1.0,))))
    for example in facts["examples"]:
        example["label"] = names[0]
    (copy / FACTS).write_text(json.dumps({**facts, "classes": names}))
    with serving(copy) as server, browser.page(f"{server.address}/", width=360, height=740) as page:
        page.wait("document.body.dataset.state === 'ready'")
        assert set(ask(page, sorted((photos / "disc").glob("*.png"))[0])) == set(names)
        assert page.value("document.querySelector('#list .name').textContent") == names[0]
        assert page.value("document.title") == "my <b>run"
        assert page.value("document.documentElement.scrollWidth <= innerWidth")


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(("size", "side", "most", "mean"), [
    ((32, 32), 32, 1, 0.3), ((37, 53), 32, 1, 0.3), ((20, 90), 64, 1, 0.3), ((128, 129), 32, 1, 0.3),
    ((301, 200), 32, 3, 0.5), ((1400, 900), 64, 3, 0.5),
])  # fmt: skip
def test_pixels_are_those_of_python(
    size: tuple[int, int], side: int, most: int, mean: float, site: Path, tmp_path: Path, browser: Browser
) -> None:
    """The last two are shrunk first, as phone photos are; the others are stretched only."""
    rng = np.random.default_rng(size)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 7, 4), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    values = np.asarray(smooth).copy()
    values[::5, ::3, :3] = 255 - values[::5, ::3, :3]
    copy = Path(shutil.copytree(site, tmp_path / "web"))
    Image.fromarray(values).save(copy / "photo.png")  # with transparency
    with serving(copy) as server, browser.page(f"{server.address}/icon.svg") as page:
        found = page.value(f"""(async () => {{
            document.documentElement.remove();
            const {{ decode, forModel }} = await import("/pixels.js");
            document.createElement = (name) => document.createElementNS("http://www.w3.org/1999/xhtml", name);
            const file = await (await fetch("/photo.png")).blob();
            return [...forModel(await decode(file), {side}, {side}).data];
        }})()""")
    ours = np.array(found, np.float32).reshape(side, side, 4)[..., :3]
    off = np.abs(ours - pixels.load_for_model(copy / "photo.png", side, side))
    assert off.max() <= most and off.mean() <= mean


def test_what_is_written_is_the_file_to_ship(site: Path) -> None:
    facts = json.loads((site / FACTS).read_text())
    results = runs.read_json(site.parent / RESULTS)
    row = results["files"][results["recommended"]]
    assert facts["file"] == row["path"] and facts["accuracy"] == row["litert"]["accuracy"]
    assert (site / facts["file"]).read_bytes() == (site.parent / facts["file"]).read_bytes()
    assert len(facts["examples"]) > 6 and all((site / entry["image"]).is_file() for entry in facts["examples"])
    page = (site / "index.html").read_text()
    assert "my &lt;b&gt;run" in page and "{{" not in page
    assert not [path for path in site.parent.iterdir() if "partial" in path.name]


def test_without_the_package_the_page_names_a_fixed_address(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "find_package", lambda: None)
    folder = write_web(runs.Run.open(run_copy))
    runtime = json.loads((folder / FACTS).read_text())["runtime"]
    assert f"@{web.VERSION}/" in runtime["bundle"] and not (folder / "mediapipe").exists()
    assert f"'wasm-unsafe-eval' {web.CDN};" in (folder / "index.html").read_text()


def test_the_package_is_found_where_node_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "node_modules" / web.PACKAGE
    (package / "wasm").mkdir(parents=True)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    monkeypatch.setenv("PATH", "")  # no npm
    monkeypatch.setenv("NODE_PATH", "")
    assert find_package() is None
    for name in (web.BUNDLE, *(f"wasm/{name}" for name in web.WASM)):
        (package / name).touch()
    assert find_package() == package


def test_the_page_keeps_step_with_the_exports(run_copy: Path) -> None:
    run = runs.Run.open(run_copy)
    refresh_web(run)
    assert not (run_copy / "exports" / WEB).exists()  # nobody has asked for one
    folder = write_web(run)
    results = runs.read_json(run_copy / "exports" / RESULTS)
    other = next(name for name in results["files"] if name != results["recommended"])
    runs.write_json(run_copy / "exports" / RESULTS, {**results, "recommended": other})
    refresh_web(run)
    assert json.loads((folder / FACTS).read_text())["file"] == results["files"][other]["path"]
    assert not (folder / results["files"][results["recommended"]]["path"]).exists()
    runs.write_json(run_copy / "exports" / RESULTS, {**results, "recommended": None})
    refresh_web(run)
    assert not folder.exists()
    with pytest.raises(InputError, match="no file that may be shipped"):
        write_web(run)


def test_the_command_line_writes_the_page_and_nothing_else(run_copy: Path) -> None:
    before = (run_copy / "exports" / "model_int8.tflite").stat().st_mtime_ns
    done = imgclf_here("export", run_copy, "--formats", "web")
    assert done.returncode == 0, done.stderr
    assert "imgclf demo" in done.stdout and (run_copy / "exports" / WEB / "index.html").is_file()
    assert (run_copy / "exports" / "model_int8.tflite").stat().st_mtime_ns == before


def test_the_server_gives_the_page_only_and_to_this_computer_only(site: Path) -> None:
    with serving(site) as server:

        def get(path: str, host: str = "", method: str = "GET") -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert get("/")[0] == get("/model.json")[0] == 200
        assert get("/", method="HEAD") == (200, b"")
        for path in ("/../verify.json", "/%2e%2e/verify.json", "/..%2fverify.json", "//etc/passwd", "/examples"):
            assert get(path)[0] == 404, path
        assert get("/", "example.org")[0] == 403
        assert get("/", method="POST")[0] == 501


def test_a_grey_network_has_no_page(tmp_path: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgclf.models.litert.LiteModel", lambda *_, **__: type("", (), {"input_shape": (32, 32, 1)}))
    with pytest.raises(InputError, match="grey"):
        write_web(runs.Run.open(run_copy))
