"""What a worker process cannot do any more."""

from __future__ import annotations

from pathlib import Path

from sslintercept.testing.loop import RealLoop
from sslintercept.worker.confine import readable
from tests.worker.tools import Pools, came


def test_a_process_that_was_taken_over_reaches_no_file_no_net_and_no_process(
    loop: RealLoop, pools: Pools, tmp_path: Path
) -> None:
    secret = tmp_path / "ca.key"
    secret.write_text("secret")
    pool = pools()
    items = came(loop, pool.run("sslintercept.testing.tasks:reach", {}, str(secret).encode()))
    tried = {item.meta["tried"]: item.meta["came"] for item in items}
    assert len(tried) == 11
    assert set(tried.values()) == {"PermissionError"}
    assert [path.name for path in tmp_path.iterdir()] == ["ca.key"]
    assert secret.stat().st_mode & 0o777 != 0o666


def test_what_can_be_read_is_only_python_and_libraries() -> None:
    assert not {Path("/"), Path("/etc"), Path("/home"), Path("/root"), Path("/var"), Path.cwd()} & readable()
    assert Path(__file__).parents[2] / "sslintercept" in readable()
