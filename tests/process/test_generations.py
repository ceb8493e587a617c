"""Inspectors of settings that are not in force any more, in a process."""

from __future__ import annotations

from collections.abc import Callable

from tests.process.conftest import ProxyMaker
from tests.process.origins import Nginx
from tests.process.tools import wait_for

SAYING = "[inspect:one]\nuse = tests.inspect.stubs:Saying\n"
GONE = "an inspector was let go"


def test_inspectors_go_behind_a_reload_and_with_the_process(
    proxy: ProxyMaker, nginx: Nginx, ini: Callable[[str], str]
) -> None:
    made = proxy(SAYING)
    assert made.curl(nginx.url()).status == 200
    made.reload(ini(SAYING + "match = direction:download\n"))
    wait_for("the end of the first", lambda: GONE in made.said())
    assert made.curl(nginx.url()).status == 200
    assert made.said().count(GONE) == 1
    made.stop()
    assert made.said().count(GONE) == 2
