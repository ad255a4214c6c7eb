import multiprocessing
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from edgefl.lab.locks import locked


def count_up(path: Path, counter: Path, times: int) -> None:
    for _ in range(times):
        with locked(path):
            counter.write_text(str(int(counter.read_text()) + 1))


def hold(path: Path, held: Event, release: Event) -> None:
    with locked(path):
        held.set()
        release.wait(60)


@pytest.mark.slow
def test_threads_and_processes_never_hold_one_lock_together_and_leave_nothing(tmp_path: Path) -> None:
    lock, counter = tmp_path / "locks" / "a.lock", tmp_path / "counter"
    counter.write_text("0")
    spawn = multiprocessing.get_context("spawn")
    workers = [threading.Thread(target=count_up, args=(lock, counter, 50)) for _ in range(3)]
    workers += [spawn.Process(target=count_up, args=(lock, counter, 50)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counter.read_text() == "250"
    assert not lock.parent.exists()


def test_shared_holders_do_not_exclude_each_other(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with locked(lock, shared=True), locked(lock, shared=True):
        assert lock.exists()


def test_the_lock_of_a_holder_that_died_is_free(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=hold, args=(tmp_path / "a.lock", held, release))
    holder.start()
    assert held.wait(60)
    holder.kill()
    holder.join()
    with locked(tmp_path / "a.lock"):
        pass


def test_something_else_in_the_place_of_the_locks_directory_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(FileExistsError), locked(tmp_path / "locks" / "a.lock"):
        pass
