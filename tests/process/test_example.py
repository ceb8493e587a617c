"""The example of a transform in a distribution of its own, installed as anybody would install it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.origins import BodyOrigin, Nginx
from tests.process.running import Proxy
from tests.process.tools import ROOT, ours, run

EXAMPLE = ROOT / "docs" / "examples" / "sslintercept-redact"
NUMBERS = b"4111 1111 1111 1111, 5555555555554444, 4111111111111112"
MASKED = b"**** **** **** 1111, ************4444, 4111111111111112"
SECTION = "[transform:cards]\nuse = redact\nmatch = direction:response type:text/plain\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has put the example into."""
    folder = tmp_path_factory.mktemp("example")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dropin.cache")
    shutil.copytree(EXAMPLE, folder / "source", ignore=ignored)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    done = run(sys.executable, "-m", "pip", "install", *offline, "--target", "site", "./source", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def environment(installed: Path) -> dict[str, str]:
    """Of programs that find it."""
    return {"PYTHONPATH": str(installed)}


@pytest.fixture
def masking(tmp_path: Path, environment: dict[str, str], ini: Callable[[str], str]) -> Iterator[Proxy]:
    """A proxy that uses it."""
    proxy = Proxy(tmp_path, ini(SECTION), environment)
    try:
        yield proxy
        proxy.stop()
    finally:
        proxy.kill()


def test_it_is_listed_by_the_name_that_the_ini_file_uses(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(ours("sslintercept"), "plugins", folder=tmp_path, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("Redact  ITransformPlugin ")
    assert "  use = redact  " in line
    assert line.endswith(os.path.join(environment["PYTHONPATH"], "sslintercept_redact.py"))


def test_nothing_of_it_is_found_where_it_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "x.ini").write_text(SECTION)
    done = run(ours("sslintercept"), "check-config", "x.ini", folder=tmp_path)
    assert done.returncode == 1
    assert "x.ini:2: [transform:cards] use = redact: there is no such transform; " in done.stderr


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ("keep = 2\n", ""),
        ("keep = 5\n", "x.ini:4: [transform:cards] keep = 5: "),
        ("kept = 4\n", "x.ini:4: [transform:cards] kept: unknown key; the nearest is keep"),
    ],
)
def test_its_options_are_checked_like_any_key(
    environment: dict[str, str], tmp_path: Path, options: str, mistake: str
) -> None:
    (tmp_path / "x.ini").write_text(SECTION + options)
    done = run(ours("sslintercept"), "check-config", "x.ini", folder=tmp_path, environment=environment)
    assert (done.returncode, mistake in done.stderr) == (1 if mistake else 0, True), done.stderr


def test_its_own_tests_pass_with_what_was_installed(environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("-q", "-W", "error", "-p", "no:cacheprovider")
    done = run(sys.executable, "-m", "pytest", *options, "tests", folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_proxy_masks_what_comes_inside_tls(masking: Proxy, origin: BodyOrigin) -> None:
    done = masking.curl(origin.url("/echo"), "--data-binary", NUMBERS.decode())
    assert (done.status, done.body) == (200, MASKED)
    line = masking.logged(lambda line: line["type"] == "transaction")
    assert line["notes"] == {"redact": "2 numbers in the response"}


def test_content_that_an_origin_compresses_is_masked_too(masking: Proxy, nginx: Nginx) -> None:
    (nginx.root / "numbers.txt").write_bytes(NUMBERS)
    done = masking.curl(nginx.url("/numbers.txt"), "--compressed")
    assert (done.status, done.body) == (200, MASKED)
    assert "content-encoding: gzip" in done.head.lower()


# the page that leads from an empty folder to such a distribution

PAGE = (ROOT / "docs" / "write-a-transform.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Reading:
    """Somebody who does what the page says, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PYTHONPATH": str(folder)}
        self.done: list[str] = []

    def follow(self, *kept: str) -> None:
        """Write each file, and run the commands that begin with one of C{kept}."""
        for language, text in BLOCK.findall(PAGE):
            if language == "console":
                for line in text.splitlines():
                    if line.startswith(tuple(f"$ {command}" for command in kept)):
                        self.run(*line.removeprefix("$ ").split())
            else:
                first = text.partition("\n")[0]
                assert first.startswith("# "), f"a file without a name: {first}"
                file = self.folder / first.removeprefix("# ")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)

    def run(self, program: str, *arguments: str) -> str:
        """Run a command; it has to end well."""
        path = sys.executable if program == "python" else ours(program)
        done = run(path, *arguments, folder=self.folder, environment=self.environment)
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout}{done.stderr}"
        self.done.append(" ".join((program, *arguments)))
        return done.stdout


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


def test_every_step_of_the_page_works(reading: Reading) -> None:
    reading.follow("python -m pytest", "sslintercept check-config")
    assert reading.done.count("python -m pytest -q") == 3
    assert reading.done.count("sslintercept check-config proxy.ini") == 2
    assert "  use = shout  " in reading.run("sslintercept", "plugins")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    reading.run("python", "-m", "pip", "install", *offline, "--target", "site", ".")
    assert (reading.folder / "site" / "sslintercept" / "plugins" / "shout.py").exists()
    assert (reading.folder / "site" / "shout.py").exists()
    assert not list((reading.folder / "site").rglob("__init__.py"))


def test_a_proxy_runs_what_the_page_writes(reading: Reading, ini: Callable[[str], str], origin: BodyOrigin) -> None:
    reading.follow()
    written = (reading.folder / "proxy.ini").read_text()
    sections = written[written.index("[transform:loud]") :]
    sections += "[transform:lines]\nuse = count:Count\nmatch = direction:response\n"
    sections += "[transform:moved]\nuse = elsewhere:Elsewhere\nmatch = direction:request\n"
    proxy = Proxy(reading.folder, ini(sections), reading.environment)
    try:
        done = proxy.curl(origin.url("/echo"), "--data-binary", "hello\nworld\n")
        assert (done.status, done.body) == (200, b"HELLO\nWORLD\n!!!")
        assert "x-shouted: yes" in done.head.lower()
        line = proxy.logged(lambda line: line["type"] == "transaction")
        assert line["notes"] == {"shout": "text/plain", "lines": "2"}
        done = proxy.curl(origin.url("/old/a?b"))
        assert done.status == 308
        assert "location: https://new.example/a?b" in done.head.lower()
        proxy.stop()
    finally:
        proxy.kill()
