"""The cache under real clients: what curl and a browser get from it, and how often the origin is asked."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import ProxyMaker
from tests.process.kept import FRESH, MODIFIED, STALE, KeptOrigin, client, recovered, said, stat, words
from tests.process.origins import BODY_NAME, Certificates, serving
from tests.process.running import Proxy
from tests.process.test_browser import chromium
from tests.process.tools import ENVIRONMENT, run, tool, wait_for

LARGE = 3_000_000
"""Bytes of what is in fragments on the disk."""
SMALL = 1000
"""Bytes of what fits into memory."""
MANY = 50
NEVER = "another-name.test"
"""a host of which nothing is kept"""


@pytest.fixture(scope="module")
def gateway(module_proxy: ProxyMaker, tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """A proxy with a cache on disk and little memory before it."""
    folder = tmp_path_factory.mktemp("cache")
    rule = f"[rule:never]\nmatch = host:{NEVER}\naction = intercept\ncache = off\n"
    cache = f"[cache]\npath = {folder}\nsize = 128MiB\nmemory = 2MiB\ndecrypted = yes\n"
    return recovered(module_proxy(f"{cache}[http]\npool_size = 0\n{rule}"))


@pytest.fixture
def origin() -> Iterator[KeptOrigin]:
    """An origin in the clear."""
    with serving(KeptOrigin(None)) as server:
        assert isinstance(server, KeptOrigin)
        yield server


@pytest.fixture
def secure_origin(certificates: Certificates) -> Iterator[KeptOrigin]:
    """The same in TLS."""
    with serving(KeptOrigin(certificates.files[BODY_NAME])) as server:
        assert isinstance(server, KeptOrigin)
        yield server


# what is fresh


def test_what_is_fresh_comes_from_memory(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "small")
    first, second = gateway.curl(url), gateway.curl(url)
    assert first.body == second.body == origin.content(url)
    assert said(first) == "sslintercept; fwd=uri-miss; stored"
    assert said(second).startswith("sslintercept; hit; ttl=")
    assert words(gateway, url, 2) == ["TCP_MISS", "TCP_MEM_HIT"]
    assert len(origin.asked) == 1


def test_what_is_large_comes_from_the_disk(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(LARGE, "large")
    first, second = gateway.curl(url), gateway.curl(url)
    assert first.body == second.body == origin.content(url)
    assert words(gateway, url, 2) == ["TCP_MISS", "TCP_HIT"]
    assert len(origin.asked) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_head_is_answered_with_the_fields_alone(gateway: Proxy, origin: KeptOrigin, size: int) -> None:
    url = origin.made(size, "head")
    gateway.curl(url)
    found = gateway.curl(url, "-I")
    assert (found.status, found.facts[0]["size_download"]) == (200, 0)
    assert f"content-length: {size}" in found.head.lower()
    assert len(origin.asked) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    ("asked", "span"), [("10-19", slice(10, 20)), ("-5", slice(-5, None)), ("100-", slice(100, None))]
)
def test_a_range_is_cut_from_what_is_kept(
    gateway: Proxy, origin: KeptOrigin, size: int, asked: str, span: slice
) -> None:
    url = origin.made(size, "range")
    gateway.curl(url)
    found = gateway.curl(url, "-r", asked)
    assert (found.status, found.body) == (206, origin.content(url)[span])
    start, end, _ = span.indices(size)
    assert f"content-range: bytes {start}-{end - 1}/{size}" in found.head.lower()
    assert len(origin.asked) == 1


def test_several_ranges_are_answered_with_the_whole(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(LARGE, "ranges")
    gateway.curl(url)
    found = gateway.curl(url, "-r", "0-9,2000000-2000009")
    assert (found.status, found.body) == (200, origin.content(url))
    assert len(origin.asked) == 1


def test_a_range_that_is_behind_the_end_is_refused(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "behind")
    gateway.curl(url)
    found = gateway.curl(url, "-r", "2000-")
    assert (found.status, f"content-range: bytes */{SMALL}" in found.head.lower()) == (416, True)


def test_a_download_is_resumed_from_the_cache(gateway: Proxy, origin: KeptOrigin, tmp_path: Path) -> None:
    url = origin.made(LARGE, "resumed", FRESH, "tag")
    gateway.curl(url)
    file = tmp_path / "download"
    file.write_bytes(origin.content(url)[:1_234_567])
    by = ("--proxy", f"http://{gateway.ports[0]}")
    done = run(tool("curl"), "-q", "-sS", "-f", "-C", "-", "-o", file, *by, url, folder=tmp_path)
    assert (done.returncode, done.stderr, file.read_bytes() == origin.content(url)) == (0, "", True)
    assert len(origin.asked) == 1


def test_who_has_it_already_is_told_so_by_the_cache(gateway: Proxy, origin: KeptOrigin, tmp_path: Path) -> None:
    url, tag = origin.made(LARGE, "known", FRESH, "tag"), tmp_path / "tag"
    assert gateway.curl(url, "--etag-save", tag).body == origin.content(url)
    assert tag.read_text().strip() == '"v1"'
    for asked in (("--etag-compare", tag), ("-z", MODIFIED), ("-H", 'If-None-Match: W/"v1", "v0"')):
        assert (gateway.curl(url, *asked).status, len(origin.asked)) == (304, 1)
    found = gateway.curl(url, "-H", 'If-None-Match: "v0"')
    assert (found.status, found.body, len(origin.asked)) == (200, origin.content(url), 1)


def test_who_wants_gzip_gets_gzip_and_others_do_not(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "vary", FRESH, "gzip")
    for _ in range(2):
        plain, packed = gateway.curl(url), gateway.curl(url, "-H", "Accept-Encoding: gzip")
        unpacked = gateway.curl(url, "-H", "Accept-Encoding: gzip", "--compressed")
        assert plain.body == gzip.decompress(packed.body) == unpacked.body == origin.content(url)
    assert len(origin.asked) == 2


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_came_in_chunks_goes_to_clients_of_1_0_with_a_length(
    gateway: Proxy, origin: KeptOrigin, size: int
) -> None:
    url = origin.made(size, "chunked", FRESH, "chunked")
    assert gateway.curl(url).body == origin.content(url)
    found = gateway.curl(url, "--http1.0")
    assert (found.status, found.body) == (200, origin.content(url))
    assert f"content-length: {size}" in found.head.lower()
    assert len(origin.asked) == 1


def test_a_slow_client_gets_all_of_what_memory_has_long_forgotten(gateway: Proxy, origin: KeptOrigin) -> None:
    size = 30 * 2**20
    url, others = origin.made(size, "slow"), [origin.made(50_000, f"other-{number}") for number in range(60)]
    expected = origin.content(url)
    assert gateway.curl(url).body == expected
    command = [tool("curl"), "-q", "-sS", "--limit-rate", "20M", "--proxy", f"http://{gateway.ports[0]}", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as slow:
        assert slow.stdout is not None
        begin = slow.stdout.read(1 << 20)
        with client(gateway) as other:
            assert all(other.get(one).content == origin.content(one) for one in others)
        assert begin + slow.stdout.read() == expected
    assert len(origin.asked) == 1 + len(others)
    assert stat(gateway)["memory"] <= 2 * 2**20


# what is not fresh, or may not be


def test_what_was_posted_to_is_asked_for_again(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "posted")
    gateway.curl(url)
    assert gateway.curl(url, "-d", "news").status == 200
    origin.version = 2
    assert gateway.curl(url).body == origin.content(url)
    assert [line.split(" ")[0] for line in origin.asked] == ["GET", "POST", "GET"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_stale_is_validated(gateway: Proxy, origin: KeptOrigin, size: int) -> None:
    url = origin.made(size, "stale", STALE, "tag")
    before = origin.content(url)
    assert [gateway.curl(url).body for _ in range(2)] == [before, before]
    origin.version = 2
    assert gateway.curl(url).body == origin.content(url) != before
    assert words(gateway, url, 3) == ["TCP_MISS", "TCP_REFRESH_UNMODIFIED", "TCP_REFRESH_MODIFIED"]


def test_a_reload_asks_the_origin(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "reload", FRESH, "tag")
    gateway.curl(url)
    assert gateway.curl(url, "-H", "Cache-Control: no-cache").body == origin.content(url)
    assert len(origin.asked) == 2


def test_what_is_stale_may_serve_while_the_origin_is_asked(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "meanwhile", STALE + ",stale-while-revalidate=600", "tag")
    before = origin.content(url)
    gateway.curl(url)
    origin.version = 2
    assert gateway.curl(url).body == before
    wait_for("the new version", lambda: gateway.curl(url).body == origin.content(url))
    assert words(gateway, url, 3)[:2] == ["TCP_MISS", "TCP_STALE_HIT"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_stale_stands_in_for_an_origin_that_fails(gateway: Proxy, origin: KeptOrigin, size: int) -> None:
    url = origin.made(size, "failing", STALE + ",stale-if-error=600", "tag")
    expected = origin.content(url)
    gateway.curl(url)
    origin.failing = True
    found = gateway.curl(url)
    assert (found.status, found.body, "fwd-status=503" in said(found)) == (200, expected, True)
    assert words(gateway, url, 2) == ["TCP_MISS", "TCP_REFRESH_FAIL_OLD"]


def test_what_is_stale_stands_in_for_an_origin_that_is_gone(gateway: Proxy) -> None:
    with serving(KeptOrigin(None)) as origin:
        assert isinstance(origin, KeptOrigin)
        kept, other = origin.made(SMALL, "gone", STALE + ",stale-if-error=600"), origin.made(SMALL, "never", STALE)
        assert gateway.curl(kept).body == gateway.curl(kept).body == origin.content(kept)
    assert gateway.curl(kept).body == origin.content(kept)
    assert gateway.curl(other).status == 502
    assert words(gateway, kept, 3)[-1] == "TCP_REFRESH_FAIL_OLD"


def test_who_wants_it_from_the_cache_only_is_refused_what_is_not_there(gateway: Proxy, origin: KeptOrigin) -> None:
    url, only = origin.made(SMALL, "only"), ("-H", "Cache-Control: only-if-cached")
    assert (gateway.curl(url, *only).status, origin.asked) == (504, [])
    gateway.curl(url)
    assert (gateway.curl(url, *only).body, len(origin.asked)) == (origin.content(url), 1)


def test_a_rule_keeps_a_site_out_of_the_cache(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(SMALL, "ruled").replace(BODY_NAME, NEVER)
    assert [gateway.curl(url).body for _ in range(2)] == [origin.content(url)] * 2
    assert len(origin.asked) == 2


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_came_out_of_tls_is_kept_if_that_is_wanted(gateway: Proxy, secure_origin: KeptOrigin, size: int) -> None:
    url = secure_origin.made(size, "secret")
    assert [gateway.curl(url).body for _ in range(2)] == [secure_origin.content(url)] * 2
    assert len(secure_origin.asked) == 1


def test_what_came_out_of_tls_is_not_kept_otherwise(
    proxy: ProxyMaker, secure_origin: KeptOrigin, tmp_path: Path
) -> None:
    made = recovered(proxy(f"[cache]\npath = {tmp_path}\nsize = 16MiB\n"))
    url = secure_origin.made(SMALL, "secret")
    assert [made.curl(url).body for _ in range(2)] == [secure_origin.content(url)] * 2
    assert (len(secure_origin.asked), stat(made)["documents"]) == (2, 0)


# many at once


def test_fifty_clients_cost_the_origin_one_request(gateway: Proxy, origin: KeptOrigin, tmp_path: Path) -> None:
    url = origin.made(LARGE, "crowd", FRESH, "held")
    (tmp_path / "all").write_text("".join(f'url = "{url}"\noutput = "{number}"\n' for number in range(MANY)))
    base = gateway.descriptors()
    command = [tool("curl"), "-q", "-sS", "-Z", "--parallel-immediate", "--parallel-max", str(MANY)]
    command += ["--proxy", f"http://{gateway.ports[0]}", "-K", "all"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT) as crowd:
        wait_for("half of it", origin.holding.is_set)
        wait_for("all of them connected", lambda: gateway.descriptors() >= base + MANY)
        origin.release.set()
        assert crowd.wait(60) == 0
    expected = origin.content(url)
    assert all((tmp_path / str(number)).read_bytes() == expected for number in range(MANY))
    assert len(origin.asked) == 1


def test_who_comes_later_reads_what_has_come_so_far(gateway: Proxy, origin: KeptOrigin) -> None:
    url = origin.made(LARGE, "both", FRESH, "held")
    expected, half = origin.content(url), LARGE // 2
    with (
        client(gateway) as one,
        client(gateway) as other,
        one.stream("GET", url) as first,
        other.stream("GET", url) as second,
    ):
        pieces = second.iter_raw(10_000)
        got = b"".join(next(pieces) for _ in range(half // 10_000))
        origin.release.set()
        assert got + b"".join(pieces) == first.read() == expected
        assert "collapsed" in second.headers["Cache-Status"]
    assert len(origin.asked) == 1
    assert sorted(words(gateway, url, 2)) == ["TCP_CF_HIT", "TCP_MISS"]


# a browser


def test_a_browser_that_loads_reloads_and_loads_again_asks_the_origin_once(
    gateway: Proxy, origin: KeptOrigin, tmp_path: Path
) -> None:
    for query, expected in (("", "reloaded=1"), ("?again", "width=1")):
        origin.report.clear()
        with chromium(gateway, tmp_path, origin.url(f"/kept.html{query}")) as process:
            wait_for("the browser's report", lambda: origin.report.is_set() or process.poll() is not None, 60)
        assert origin.reported == expected, (tmp_path / "chromium.txt").read_text(errors="replace")
    assert origin.asked.count("GET /image.gif") == 1
