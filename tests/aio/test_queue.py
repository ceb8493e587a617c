"""Who begins next, against a sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from sslintercept.aio.queue import WaitQueue
from sslintercept.aio.request import read


@given(st.lists(st.one_of(st.integers(0, 4), st.none())))
def test_the_queue_gives_what_a_stable_sort_would(pushed: list[int | None]) -> None:
    """T7.3; C{None} stands for taking one."""
    queue = WaitQueue()
    model: list[tuple[int, int]] = []
    for n, priority in enumerate(pushed):
        if priority is None:
            first, taken = queue.first(), queue.pop()
            assert first is taken
            expected = model.pop(0) if model else None
            assert (taken.priority, taken.offset) == expected if taken else expected is None
        else:
            queue.push(read(3, n, 1, priority=priority))
            model.append((priority, n))
            model.sort(key=lambda entry: -entry[0])
        assert len(queue) == len(model)
