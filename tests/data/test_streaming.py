"""Streams: the same batches as in memory whatever the number of threads, and nothing left behind however they end."""

import gc
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.data import _reading_threads
from jaxnn.data._reading import Arrays
from jaxnn.data.dataset import DataError
from jaxnn.data.image_folder import FolderParts
from jaxnn.data.streaming import stream
from jaxnn.older_jax import enable_x64
from jaxnn.sampling import epoch_indices

pytestmark = pytest.mark.little_optimized

KEY = jax.random.key(1)


def example(index):
    return np.array([index, -index], np.float32), np.int32(index)


def unevenly_slow(index):
    time.sleep(0.002 * (index * 7 % 5))
    return example(index)


def endless(index):
    while index == 5:
        pass
    return example(index)


def dies(index):
    if index == 5:
        os._exit(3)
    return example(index)


def refuses(index):
    if index == 5:
        raise OSError("bad sector")
    return example(index)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:  # of what was forgotten nobody waits for the end
        thread.join(5)
        assert not thread.is_alive()
    assert multiprocessing.active_children() == []


def read(data, batch_size=2, **settings):
    """In order, the labels that came, and the error that ended it."""
    came = []
    try:
        for _, y in data.batches(batch_size, **({"key": KEY, "sampling": "in_order"} | settings)):
            came += y.tolist()
    except DataError as error:
        return came, error
    return came, None


@pytest.mark.parametrize(
    "threads, prefetch, sampling", [(1, 1, "shuffle"), (3, 2, "shuffle"), (4, 8, "shuffle"), (4, 4, "replacement")]
)
def test_the_order_is_that_of_fit_whatever_the_threads(threads, prefetch, sampling):
    data = stream(range(23), decode=unevenly_slow, threads=threads, prefetch=prefetch)
    batches = list(data.batches(4, key=KEY, epoch=3, sampling=sampling))
    order = np.asarray(epoch_indices(KEY, 3, 23, 4, sampling))
    np.testing.assert_array_equal([batch.y for batch in batches], order)
    np.testing.assert_array_equal([batch.x for batch in batches], np.stack([order, -order], -1))
    assert all(isinstance(part, jax.Array) for part in batches[0])


def test_what_is_left_over_comes_last_when_wanted():
    data = stream(range(23), decode=example)
    *full, rest = (y.tolist() for _, y in data.batches(4, key=KEY, drop_last=False))
    order = epoch_indices(KEY, 0, 23, 4, "shuffle").tolist()
    assert full == order
    assert set(rest) == set(range(23)) - {index for row in order for index in row}


def test_goes_on_where_another_has_stopped_without_reading_what_lies_before():
    seen = []
    data = stream(range(20), decode=lambda index: (seen.append(index), example(index))[1])
    with data.batches(4, key=KEY, epoch=1) as first:
        taken = [next(first).y.tolist() for _ in range(2)]
        assert (first.epoch, first.batch) == (1, 2)
    seen.clear()
    later = data.batches(4, key=KEY, epoch=first.epoch, start=first.batch)
    rest = [y.tolist() for _, y in later]
    order = epoch_indices(KEY, 1, 20, 4, "shuffle").tolist()
    assert taken + rest == order
    assert sorted(seen) == sorted(index for row in order[2:] for index in row)
    assert later.batch == 5
    assert list(data.batches(4, key=KEY, start=5)) == []


def test_arrays_of_a_file_that_is_not_read_into_memory(tmp_path):
    x = np.memmap(tmp_path / "x", ">f4", "w+", shape=(6, 3))  # not in this machine's order of bytes
    x[:] = np.arange(18).reshape(6, 3)
    y = np.arange(6)[::-1]
    data = stream((x, y))
    assert len(data) == 6
    for number, batch in enumerate(data.batches(2, key=KEY, sampling="in_order")):
        np.testing.assert_array_equal(batch.x, np.arange(18, dtype=np.float32).reshape(3, 2, 3)[number])
        np.testing.assert_array_equal(batch.y, y[2 * number : 2 * number + 2])
    np.testing.assert_array_equal(data.example.x, [[0, 1, 2]])


def test_no_more_batches_than_prefetch_are_in_memory():
    begun, most, lock = [], [], threading.Lock()

    def note(index):
        with lock:
            begun.append(index)
        return example(index)

    data = stream(range(40), decode=note, threads=3, prefetch=4)
    with data.batches(1, key=KEY) as batches:
        for taken in range(1, 37):
            next(batches)
            deadline = time.monotonic() + 5
            while len(begun) < taken + 4 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.002)
            most.append(len(begun) - taken)
    assert most == [4] * 36


@pytest.mark.parametrize("threads", [1, 4])
def test_a_reader_that_raises_ends_it_at_its_batch(threads):
    came, error = read(stream(range(20), decode=refuses, threads=threads))
    assert came == [0, 1, 2, 3]
    assert str(error) == "example 5 could not be read: OSError: bad sector"
    assert isinstance(error.__cause__, OSError)


def test_even_an_exit_in_a_reader_is_told():
    came, error = read(stream(range(8), decode=lambda index: sys.exit(4) if index == 5 else example(index)))
    assert came == [0, 1, 2, 3]
    assert str(error) == "example 5 could not be read: SystemExit: 4"


def test_a_reader_that_hangs_ends_it_after_the_timeout():
    let_go = threading.Event()
    before = set(threading.enumerate())

    def hang(index):
        if index == 5:
            let_go.wait()
        return example(index)

    data = stream(range(20), decode=hang, threads=3, timeout=0.4)
    came, error = read(data)
    assert came == [0, 1, 2, 3]
    sentence = (
        r"example 5 has been read for (\d\.\d) s and its batch waited for (\d\.\d) s, longer than timeout=0.4 s: "
    )
    assert min(map(float, re.match(sentence, str(error)).groups())) >= 0.4
    assert str(error).endswith("a longer timeout (what hangs in a thread cannot be ended; with workers it can)")
    (hung,) = set(threading.enumerate()) - before
    assert hung.daemon
    let_go.set()
    hung.join(5)
    assert not hung.is_alive()


def test_who_only_looks_is_told_of_a_hang_too():
    let_go = threading.Event()

    def hang(index):
        let_go.wait()
        return example(index)

    batches = stream(range(4), decode=hang, timeout=0.3).batches(2, key=KEY)
    began = time.monotonic()
    while not batches.ready(within=0):
        assert time.monotonic() < began + 30
        time.sleep(0.01)
    with pytest.raises(DataError, match=r"longer than timeout=0\.3 s"):
        next(batches)
    let_go.set()


def test_a_program_that_was_stopped_for_a_while_goes_on(monkeypatch):
    """Its clock jumps; so it does for what the readers are in the midst of."""
    stopped = [0.0]

    class Clock:
        @staticmethod
        def monotonic():
            return time.monotonic() + stopped[0]

    def decode(index):
        if index == 5:
            time.sleep(0.1)  # long enough for the batch to be waited for
            stopped[0] += 1000
            time.sleep(0.1)
        return example(index)

    monkeypatch.setattr(_reading_threads, "time", Clock)
    came, error = read(stream(range(20), decode=decode, threads=2, timeout=5))
    assert (came, error) == (list(range(20)), None)


def test_an_order_that_breaks_off_is_told_whichever_thread_asks_for_it():
    def breaking():
        yield np.array([0, 1])
        raise RuntimeError("order broke")

    for orders, sentence in (
        (breaking, "order broke"),
        (lambda: iter([np.array([0, 1])]), "the order of the examples ends after 1 batches"),
    ):
        for _ in range(5):
            batches = stream(range(8), decode=unevenly_slow, threads=4).read(orders(), 4)
            assert next(batches).y.tolist() == [0, 1]
            with pytest.raises(RuntimeError, match=sentence):
                next(batches)


@pytest.mark.parametrize(
    "order, sentence",
    [
        ([0, 6], "holds 6; there are examples 0 to 5"),
        ([-1], "holds -1; there are examples 0 to 5"),
        ([], "got float64 of shape .0,."),
        ([0.0], "must be whole numbers"),
        ([[0]], "must be whole numbers .batch_size.; got int64 of shape .1, 1."),
    ],
)
def test_an_order_of_what_is_not_there_is_refused(order, sentence, types_unchecked):
    with pytest.raises(ValueError, match=sentence):
        next(stream((np.zeros((6, 1)), np.zeros(6))).read([np.array(order)], 1))


@pytest.mark.parametrize("settings, readers", [({}, 4), ({"threads": 12}, 12), ({"threads": 12, "prefetch": 3}, 3)])
def test_as_many_batches_are_read_at_a_time_as_there_are_threads(settings, readers):
    together = threading.Barrier(readers)  # none gets on before all are there

    def decode(index):
        together.wait(30)
        return example(index)

    came, error = read(stream(range(2 * readers), decode=decode, **settings), batch_size=1)
    assert error is None and len(came) == 2 * readers


def test_ctrl_c_of_the_terminal_does_not_end_a_process_that_starts():
    for delay in (0, 0.3):
        batches = stream(range(4), decode=example, workers=1).batches(2, key=KEY, sampling="in_order")
        time.sleep(delay)
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGINT)
        assert [y for _, labels in batches for y in labels.tolist()] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of the others only what is Python's can be ended")
def test_a_process_that_hangs_in_code_of_c_ends_with_the_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, re, time\n"
        "def decode(index):\n"
        "    return re.match('(a+)+$', 'a' * 60 + 'b'), 0\n"
        "if __name__ == '__main__':\n"
        "    import jax\n"
        "    from jaxnn.data.streaming import stream\n"
        "    batches = stream(range(4), decode=decode, workers=1).batches(2, key=jax.random.key(0))\n"
        "    while not batches._reading._work or batches._reading._work[0].looked is None:\n"
        "        time.sleep(0.01)\n"
        "    time.sleep(0.2)\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as parent:
        reader = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            if Path(f"/proc/{reader}/stat").read_text().split()[2] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    os.kill(reader, signal.SIGKILL)
    pytest.fail("the reading process outlives its program")


# Where long double has no more bits than double, complex numbers of it have not either.
WIDE = np.longdouble if np.dtype(np.longdouble).itemsize > 8 else np.void


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def unspeakable(index):
    raise UnspeakableError


@pytest.mark.parametrize(
    "decode, sentence",
    [
        (unspeakable, "example 0 could not be read: UnspeakableError"),
        (lambda index: (np.zeros(2, WIDE), index), f"example 0: x must hold numbers; got dtype {np.dtype(WIDE).name}"),
        (lambda index: (np.broadcast_to(np.float32(0), (2**58,)), index), "example 0: has 1,152,921,504,606,846,984 bytes, and there is no memory for 2"),
    ],
)  # fmt: skip
def test_what_else_goes_wrong_with_an_example_names_it(decode, sentence):
    _, error = read(stream(range(4), decode=decode))
    assert str(error).startswith(sentence)


def test_what_was_closed_is_let_go():
    gc.disable()
    try:
        batches = stream(range(4), decode=example).batches(2, key=KEY)
        closed = weakref.ref(batches._reading)
        list(batches)
        del batches
        for _ in range(100):  # the threads end by themselves
            if closed() is None:
                break
            time.sleep(0.05)
        assert closed() is None
    finally:
        gc.enable()


def test_a_process_that_may_have_no_children_is_told(monkeypatch):
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {"daemon": True})
    with pytest.raises(ValueError, match="workers=1: this process, a worker itself, may start no others"):
        stream(range(4), decode=example, workers=1)


def test_a_masked_array_is_refused():
    with pytest.raises(TypeError, match="source holds a masked array"):
        stream((np.ma.masked_equal(np.arange(4.0), 2), np.arange(4)))


def test_a_reader_that_hangs_does_not_keep_the_program_from_ending():
    program = (
        "import time, jax\n"
        "from jaxnn.data.streaming import stream\n"
        "data = stream(range(4), decode=lambda index: (time.sleep(1000), index), timeout=0.1)\n"
        "next(data.batches(2, key=jax.random.key(0)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "longer than timeout=0.1 s" in ended.stderr


def test_processes_read_the_same_and_can_be_ended():
    data = stream(range(12), decode=endless, workers=2, timeout=1)
    came, error = read(data)
    assert came == [0, 1, 2, 3]
    assert re.match(
        r"example 5 has been read for [\d.]+ s and its batch waited for [\d.]+ s, longer than timeout=1 s", str(error)
    )
    assert str(error).endswith("or needs a longer timeout")
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    "decode, sentence, cause",
    [
        (refuses, "example 5 could not be read: OSError: bad sector", 'raise OSError("bad sector")'),
        pytest.param(
            dies,
            "example 5 could not be read: the process that read it ended with code 3",
            None,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_happens_in_a_process_is_told(decode, sentence, cause):
    came, error = read(stream(range(12), decode=decode, workers=1))
    assert came == [0, 1, 2, 3]
    assert str(error) == sentence
    assert cause is None or cause in str(error.__cause__)


def test_what_cannot_be_sent_to_a_process_is_refused():
    with pytest.raises(ValueError, match=r"^decode cannot be sent to a reading process \(.*local.*\); use functions"):
        stream(range(3), decode=lambda index: example(index), workers=1)


def test_large_arrays_can_be_sent_to_a_process():
    x = np.arange(1024.0)[:, None] * np.ones(128)  # from 64 KiB on, pickle writes them in another way
    data = stream((x, np.arange(1024)), workers=1)
    assert len(data) == 1024
    batch, labels = next(data.batches(2, key=KEY, sampling="in_order", start=500))
    np.testing.assert_array_equal(batch, x[1000:1002])
    np.testing.assert_array_equal(labels, [1000, 1001])


@pytest.mark.slow
@pytest.mark.parametrize("many", [1, 100_000])  # more than a pipe holds
def test_a_program_without_a_guard_is_told(many, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import jax, numpy as np\n"
        "from jaxnn.data.streaming import stream\n"
        f"data = stream((np.zeros(({many}, 4)), np.zeros({many})), workers=1)\n"
        "next(data.batches(1, key=jax.random.key(0)))\n"
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "its own work below `if __name__ == '__main__':`" in ended.stderr.splitlines()[-1]


def test_of_a_mapped_file_a_process_gets_the_name(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    with (tmp_path / "x").open("wb") as file:
        file.write(b"some header")
        file.write(numbers.tobytes())
    settings = {"filename": tmp_path / "x", "dtype": np.float32, "offset": 11, "shape": (1000, 3)}
    whole = np.memmap(mode="r", **settings)
    changed = np.memmap(mode="c", **settings)
    changed[7] = 5
    views = [whole[100:], whole[::-1], whole[..., None], whole.reshape(10, 100, 3), whole.T.T[5:900:7, 1:]]
    for x, mapped in [(whole, True), *((view, True) for view in views), (changed, False), (whole + 0, False)]:
        sent = pickle.dumps(Arrays(np.asarray(x), np.arange(len(x))[:2]))
        assert (len(sent) < 1000) == mapped
        np.testing.assert_array_equal(pickle.loads(sent).x, x)
    columns = np.memmap(tmp_path / "x", np.float32, "r", 11, (3, 1000), "F")
    sent = pickle.dumps(Arrays(np.asarray(columns), np.zeros(3)))
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).x, numbers.T)


def test_closing_waits_for_what_jax_does_and_only_a_little_for_the_source(monkeypatch):
    monkeypatch.setattr(_reading_threads, "_END_SECONDS", 0.01)
    drawing, drawn, let_go = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def orders():
        drawing.set()
        assert drawn.wait(5)
        yield np.arange(2)

    batches = stream(range(2), decode=seen.append).read(orders(), 1)
    assert drawing.wait(5)
    closing = threading.Thread(target=batches.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    drawn.set()
    closing.join(5)
    assert not closing.is_alive()
    assert seen == []

    # A thread that was left must not bring its batch to the device later, when the interpreter may be ending.
    monkeypatch.setattr(jax, "device_put", lambda *arguments: seen.append("device"))
    batches = stream(range(1), decode=lambda index: (let_go.wait(5), example(index))[1]).read(
        iter([np.zeros(1, int)]), 1
    )
    assert not batches.ready(within=0.05)
    (thread,) = (thread for thread in threading.enumerate() if thread.name.startswith("grain"))
    batches.close()
    assert thread.is_alive()
    let_go.set()
    thread.join(5)
    assert seen == []


def test_what_is_forgotten_is_closed_at_the_end_of_the_program():
    reading, let_go = threading.Event(), threading.Event()

    def decode(index):
        reading.set()
        assert let_go.wait(5)
        return example(index)

    batches = stream(range(2), decode=decode).batches(1, key=KEY, sampling="in_order")
    assert reading.wait(5)
    end = threading.Thread(target=_reading_threads._close_all)
    del batches
    end.start()
    end.join(0.1)
    assert end.is_alive()
    let_go.set()
    end.join(5)
    assert not end.is_alive()
    assert not any(thread.name.startswith("grain") for thread in threading.enumerate())


def test_forgotten_in_one_of_its_own_threads_that_holds_the_lock(monkeypatch):
    holder = []
    begin = _reading_threads._Work.begin

    def begin_and_forget(work, index):
        begin(work, index)
        if index == 3:
            holder.clear()

    monkeypatch.setattr(_reading_threads._Work, "begin", begin_and_forget)
    before = set(threading.enumerate())
    data = stream(range(20), decode=example, threads=3, prefetch=3)
    orders = iter([np.array([index]) for index in range(20)])
    holder.append(data.read(orders, 20))
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3
    next(holder[0])
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert holder == []


def test_what_was_read_goes_with_who_forgets_it():
    data = stream(range(8), decode=example)
    batches = data.batches(1, key=KEY, sampling="in_order")
    assert batches.ready(within=5)
    batch = weakref.ref(batches._reading._work[0].batch.x)
    assert batch() is not None
    gc.disable()
    try:
        del batches
        assert batch() is None
    finally:
        gc.enable()


def test_threads_that_share_an_iterator_get_different_batches():
    shared = stream(range(64), decode=unevenly_slow).batches(1, key=KEY, sampling="in_order")
    came = [[], []]
    takers = [threading.Thread(target=lambda to=to: to.extend(int(y[0]) for _, y in shared)) for to in came]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(10)
        assert not taker.is_alive()
    assert sorted(came[0] + came[1]) == list(range(64))


def test_closed_by_another_thread_while_one_waits():
    let_go, reading = threading.Event(), threading.Event()

    def decode(index):
        reading.set()
        let_go.wait(5)
        return example(index)

    batches = stream(range(2), decode=decode).batches(1, key=KEY, sampling="in_order")
    came = []
    taker = threading.Thread(target=lambda: came.append(next(batches, "closed")))
    taker.start()
    assert reading.wait(5)
    closing = threading.Thread(target=batches.close)
    closing.start()
    taker.join(5)
    let_go.set()
    closing.join(5)
    assert came == ["closed"]


def test_closed_early_forgotten_or_left_by_an_error():
    """What the fixture sees to: no thread stays."""
    data = stream(range(100), decode=unevenly_slow)
    with data.batches(2, key=KEY) as batches:
        next(batches)
    assert list(batches) == []
    batches.close()
    batches = data.batches(2, key=KEY)
    next(batches)
    del batches
    gc.collect()
    with pytest.raises(ZeroDivisionError), data.batches(2, key=KEY):
        _ = 1 / 0
    data.batches(2, key=KEY)


def test_ready_waits_no_longer_than_told():
    let_go = threading.Event()
    data = stream(range(4), decode=lambda index: (let_go.wait(), example(index))[1])
    with data.batches(2, key=KEY) as batches:
        assert not batches.ready(within=0.01)
        let_go.set()
        assert batches.ready(within=5)
        assert len(next(batches).y) == 2


@pytest.mark.parametrize(
    "odd_one, sentence",
    [
        ((np.zeros(3), 1), "x is float64 of shape (3,), and that of example 4 is float64 of shape (2,)"),
        ((np.zeros(2, np.float32), 1), "x is float32 of shape (2,), and that of example 4 is float64 of shape (2,)"),
        ((np.array([0, np.nan]), 1), "x[1] is nan; every value must be finite"),
        ((np.array([0, 1e300]), 1), "x[1] is 1e+300; every value must be finite"),
        ((np.zeros(2), 2**40 + 2), "y is 1099511627778; expected -2147483648 to 2147483647, what int32 holds"),
        ((np.zeros(2), 1, 2), "expected a pair (x, y) of decode; got tuple"),
    ],
)
def test_an_odd_example_is_named(odd_one, sentence):
    data = stream(range(8), decode=lambda index: odd_one if index == 5 else (np.zeros(2), 1))
    came, error = read(data)
    assert came == [1, 1, 1, 1]
    assert str(error).startswith(f"example 5: {sentence}")


def test_batches_must_be_alike_too():
    came, error = read(stream(range(8), decode=lambda index: (np.zeros(2 + (index > 3)), 1)))
    assert came == [1, 1, 1, 1]
    assert str(error) == (
        "example 4: (x, y) are float32 of shape (3,) and int32 of shape (), and those of example 0 float32 of shape "
        "(2,) and int32 of shape (); all must be alike (decode can make them so)"
    )


def test_whole_numbers_that_the_device_would_cut_off():
    x = np.array([[2, 2**31 - 1], [-(2**31), 0], [2**32, 3]])
    came, error = read(stream((x, np.arange(3))), 1)
    assert came == [0, 1]
    assert str(error).startswith("example 2: x[0] is 4294967296; expected -2147483648 to 2147483647, what int32 holds")
    with enable_x64(True):
        batches = list(stream((x, np.arange(3))).batches(3, key=KEY, sampling="in_order"))
    np.testing.assert_array_equal(batches[0].x, x)
    assert batches[0].x.dtype == np.int64


def test_whole_numbers_to_predict_may_be_negative():
    assert read(stream((np.zeros((4, 1)), np.array([-1, 1, 1, -1])))) == ([-1, 1, 1, -1], None)


def test_labels_that_the_model_has_no_output_for():
    data = stream(range(8), decode=example)
    with pytest.raises(DataError, match=r"^example 6: y is 6; expected labels 0 to 5 for 6 outputs$"):
        list(data.read([np.array([4, 5]), np.array([7, 6])[::-1]], 2, labels_below=6))


def test_words_are_no_numbers():
    _, error = read(stream([("a", 0), ("b", 1)]))
    assert str(error) == "example 0: x must hold numbers; got dtype <U1"


@pytest.mark.parametrize(
    "arguments, error, sentence",
    [
        ({"source": 3}, TypeError, r"source must have len\(source\) and source\[i\].*got int"),
        ({"source": []}, ValueError, "source has no examples"),
        ({"source": "photos/"}, TypeError, r"got the path 'photos/' \(for a folder of pictures use list_image_folder"),
        ({"source": Path("photos")}, TypeError, "got the path 'photos'"),
        ({"source": nn.data.Splits(1, 2, 3)}, TypeError, r"one part of the data; got Splits \(use its .train\)"),
        ({"source": FolderParts(3)}, TypeError, r"one part of the data; got FolderParts \(use its .train\)"),
        ({"source": (np.zeros(3), np.zeros(2))}, ValueError, "source.x has 3 examples and source.y has 2"),
        ({"decode": 3}, TypeError, "decode must be a function"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"workers": -1}, ValueError, "workers must be at least 0"),
        ({"prefetch": 0}, ValueError, "prefetch must be at least 1"),
        ({"timeout": 0}, ValueError, "timeout must be finite and above 0"),
    ],
)
def test_refuses_arguments(arguments, error, sentence, types_unchecked):
    with pytest.raises(error, match=sentence):
        stream(**({"source": range(3)} | arguments))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"batch_size": 9}, "batch_size is 9, but there are only 8"),
        ({"sampling": "random"}, "unknown sampling 'random'"),
        ({"start": 5}, "start must be below 5; got 5"),
        ({"epoch": -1}, "epoch must be at least 0"),
    ],
)
def test_refuses_batches(arguments, sentence, types_unchecked):
    data = stream(range(8), decode=example)
    with pytest.raises(ValueError, match=sentence):
        data.batches(**({"batch_size": 2, "key": KEY} | arguments))


def test_says_how_to_install_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"python -m pip install grain"):
        stream(nn.data.Dataset(np.zeros((2, 1)), np.zeros(2)))
