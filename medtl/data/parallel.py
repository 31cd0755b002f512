"""Work on many files on all cores: results in order, few in flight, and a dead worker costs one task only.

Decoders are foreign machine code, and a damaged file may take the process down with it. loky's workers start
afresh (no fork of a program that has threads) and do not need the caller's `__main__` to be importable.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered_map(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int | None = None
) -> Iterator[tuple[Task, Result | None]]:
    """Each task with its result, in the order of the tasks; None where the process working on it died.

    Args:
        work: a module's function.
        tasks: taken only as fast as results are consumed.
        workers: how many processes, all cores by default.
    """
    import joblib

    count = workers or joblib.cpu_count()
    waiting = iter(tasks)
    flying: deque[tuple[Task, Future[Result]]] = deque()
    done = False
    try:
        while True:
            while len(flying) < 2 * count and (task := next(waiting, _END)) is not _END:
                flying.append((task, _submit(work, task, count)))
            if not flying:
                done = True
                return
            task, future = flying.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # One of the tasks in flight did it: do them one by one to learn which.
                again = [task, *(each for each, _ in flying)]
                flying.clear()
                for each in again:
                    yield each, _alone(work, each)
                continue
            yield task, result
    finally:
        if not done:  # interrupted, or an error: what still runs is of no use
            _pool(count).shutdown(wait=True, kill_workers=True)


_END: Any = object()


def _submit(work: Callable[[Task], Result], task: Task, workers: int) -> Future[Result]:
    try:
        submitted: Future[Result] = _pool(workers).submit(work, task)
    except BrokenProcessPool as problem:  # an earlier task has just broken the pool
        submitted = Future()
        submitted.set_exception(problem)
    return submitted


def _alone(work: Callable[[Task], Result], task: Task) -> Result | None:
    try:
        return _submit(work, task, 1).result()
    except BrokenProcessPool:
        return None


def _pool(workers: int) -> Any:
    """The running processes, started anew where there are none, or they broke; idle ones end after a while."""
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(max_workers=workers, timeout=60)
