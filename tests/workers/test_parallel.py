import importlib
import operator
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from functools import partial

import pytest

from imgclf.errors import InputError, SetupError
from imgclf.workers import crew, parallel
from imgclf.workers.worker import GRACE, Reply, Sealed, Setup, send

# The functions live in a module of their own, as those of imgclf do: the workers import it.
HOSTILE = """
import os, signal, sys, threading
from imgclf.errors import InputError

def square(x):
    return x * x

def scaled(factor, x):
    return factor * x

def process(x):
    return os.getpid()

def noisy(x):
    print("noise on stdout", x)
    os.write(1, b"more noise")
    assert sys.stdin.read() == ""
    return x

def picky(x):
    if x == "hang":
        threading.Event().wait()
    if x == "die":
        os._exit(7)
    if x == "raise":
        raise KeyError("x")
    if x == "own":
        raise InputError("bad thing", "do better")
    if x == "memory":
        bytearray(1 << 40)
    if x == "unsendable":
        return lambda: x
    return x

def talk_and_die(x):
    print("last words", flush=True)
    os._exit(x)

def add(a, b):
    return a + b

class Marked:
    def __init__(self, number):
        self.number = number

ready = []

def get_ready():
    ready.append(True)

class Late:
    def __setstate__(self, state):
        self.seen = "ready when unpickled" if ready else "too early"

    def __getstate__(self):
        return {"any": "thing"}

def remembered(late, x):
    return late.seen
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "imgclf_test_work.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("imgclf_test_work")
    del sys.modules["imgclf_test_work"]


@pytest.mark.parametrize("workers", [0, 1, 2, None])
def test_results_come_in_the_order_of_the_items(work, workers):
    items = list(range(100))
    results = parallel.map_items(work.square, items, title="squaring", workers=workers)
    assert [result.value for result in results] == [x * x for x in items]
    assert {result.error for result in results} == {None}


def test_no_items_and_partial_functions(work):
    assert parallel.map_items(work.square, [], title="nothing") == []
    assert parallel.map_items(partial(work.scaled, 3), [5], title="scaling") == [parallel.Result(15)]


def test_work_leaves_this_process_unless_told_to_stay(work):
    inside = parallel.map_items(work.process, [1, 2], title="where", workers=0)
    outside = parallel.map_items(work.process, list(range(200)), title="where", workers=2)
    assert {result.value for result in inside} == {os.getpid()}
    assert os.getpid() not in {result.value for result in outside}


def test_printing_and_reading_stdin_do_not_disturb_the_pipes(work):
    results = parallel.map_items(work.noisy, list(range(20)), title="noise", workers=1)
    assert [result.value for result in results] == list(range(20))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hostile_item_costs_itself_only(work, workers):
    items = [*range(300), "hang", *range(100), "die", "die", *range(50), "raise", "own", "memory", "unsendable", 1]
    results = parallel.map_items(work.picky, items, title="hostile", workers=workers, item_timeout=1.0)
    failed = {}
    for item, result in zip(items, results, strict=True):
        if isinstance(item, int):
            assert result == parallel.Result(item)
        else:
            failed.setdefault(item, result.error)
    assert failed["hang"] == "took longer than 1 s"
    assert failed["die"] == "the worker process died with exit code 7"
    assert failed["raise"] == "KeyError: 'x'"
    assert failed["own"] == "bad thing; do better"
    assert failed["memory"] == "MemoryError: out of memory"
    assert "cannot be sent" in failed["unsendable"]


def test_a_function_that_cannot_be_imported_is_one_error(work, monkeypatch):
    monkeypatch.setattr(work.square, "__module__", "imgclf_test_absent")
    module = type(sys)("imgclf_test_absent")
    module.square = work.square
    monkeypatch.setitem(sys.modules, "imgclf_test_absent", module)
    with pytest.raises(SetupError, match=r"could not start.*imgclf_test_absent"):
        parallel.map_items(work.square, [1], title="absent")


def test_what_an_item_is_made_of_is_the_workers_business(work, monkeypatch):
    sealed = Sealed(pickle.dumps(work.Marked(7)))
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "imgclf_test_work")  # as on a machine that only passes it on
        results = parallel.map_items(operator.attrgetter("number"), [sealed, Sealed(b"no pickle")], title="sealed")
        assert "imgclf_test_work" not in sys.modules
    assert pickle.loads(results[0].value.content) == 7, "and so is what is made of it"
    assert results[1].value is None and results[1].error == "invalid load key, 'n'."


def test_a_worker_is_made_ready_before_it_knows_the_function(work):
    function = partial(work.remembered, work.Late())
    ((_, result),) = parallel.each_item(function, [0], title="", prepare=work.get_ready)
    assert result.value == "ready when unpickled"


def test_progress_is_told_of_every_item(work, monkeypatch):
    told = []

    class Bar:
        def update(self, n=1):
            told.append(n)

    class Step:
        def __init__(self, title, total, unit):
            told.append((title, total, unit))

        def __enter__(self):
            return Bar()

        def __exit__(self, *exc):
            return None

    monkeypatch.setattr(parallel.progress, "step", Step)
    parallel.map_items(work.square, [1, 2, 3], title="squaring", unit="numbers")
    assert told == [("squaring", 3, "numbers"), 1, 1, 1]


def test_a_script_without_main_guard_works(tmp_path):
    script = tmp_path / "plain.py"
    script.write_text(
        "import math\nfrom imgclf.workers.parallel import map_items\n"
        "print([r.value for r in map_items(math.sqrt, [1, 4, 9], title='roots', workers=2)])\n"
    )
    (tmp_path / "queue.py").write_text("raise RuntimeError('a file of the user took the place of a library')")
    search = os.pathsep.join(path for path in sys.path if path)
    # -P is Python 3.11; a console script does not have its folder in sys.path either
    code = f"import sys; sys.path = [p for p in sys.path if p]; exec(open({str(script)!r}).read())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[1.0, 2.0, 3.0]\n", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_kills_the_workers_and_propagates(tmp_path):
    (tmp_path / "hanging.py").write_text(
        textwrap.dedent(
            """
            import os, sys, threading
            def hang(folder):
                open(os.path.join(folder, str(os.getpid())), "w").close()
                os.kill(os.getppid(), 2)   # as if the user pressed Ctrl-C now
                threading.Event().wait()
            if __name__ == "__main__":
                from imgclf.workers.parallel import map_items
                import hanging
                try:
                    map_items(hanging.hang, [sys.argv[1]], title="hanging")
                except KeyboardInterrupt:
                    sys.exit(130)
            """
        )
    )
    pids = tmp_path / "pids"
    pids.mkdir()
    search = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, tmp_path / "hanging.py", pids], env={**os.environ, "PYTHONPATH": search}, timeout=60
    )
    assert done.returncode == 130
    (worker,) = pids.iterdir()
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker.name), 0)


def start_worker(function, limit):
    setup = Setup(pickle.dumps(function), limit, None)
    return crew.Worker(setup, dict(os.environ), subprocess.DEVNULL)


def test_a_worker_whose_parent_is_gone_ends(work):
    worker = start_worker(work.square, 60.0)
    assert worker.receive() == Reply()
    worker.requests.close()  # what the kernel does for a killed parent
    assert worker.process.wait(timeout=30) == 0
    worker.end()


def test_a_hanging_worker_whose_parent_is_gone_ends(work):
    worker = start_worker(work.picky, 0.5 - GRACE)
    assert worker.receive() == Reply()
    send(worker.requests, ["hang"])
    worker.requests.close()
    assert worker.process.wait(timeout=30) != 0
    worker.end()


def test_run_isolated_returns_the_value(work):
    assert parallel.run_isolated(work.add, 2, 3) == 5
    assert parallel.run_isolated(work.process, 0) != os.getpid()


def test_run_isolated_raises_own_errors_as_they_are(work):
    with pytest.raises(InputError) as caught:
        parallel.run_isolated(work.picky, "own")
    assert (caught.value.what, caught.value.fix) == ("bad thing", "do better")


@pytest.mark.parametrize(
    "item, timeout, expected",
    [
        ("raise", 60.0, "picky failed in its process: KeyError: 'x'"),
        ("die", 60.0, "picky failed in its process: the worker process died with exit code 7"),
        ("hang", 0.5, "picky failed in its process: took longer than 0.5 s"),
    ],
)
def test_run_isolated_says_what_happened(work, item, timeout, expected):
    with pytest.raises(parallel.ChildFailed) as caught:
        parallel.run_isolated(work.picky, item, timeout=timeout)
    assert str(caught.value) == expected


def test_run_isolated_keeps_what_was_printed_away_from_the_terminal(work, capfd):
    with pytest.raises(parallel.ChildFailed, match="exit code 3") as caught:
        parallel.run_isolated(work.talk_and_die, 3)
    assert caught.value.output.strip() == "last words"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_signal_is_named():
    with pytest.raises(parallel.ChildFailed, match=r"died with signal 9"):
        parallel.run_isolated(signal.raise_signal, signal.SIGKILL)


def test_cpu_count_is_positive():
    assert 1 <= parallel.cpu_count() <= (os.cpu_count() or 1)
