"""What C{pip install .} brings: the package whole, the plugin file, and nothing that is Twisted's own."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import sslintercept

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "requirements.txt", "requirements-dev.txt")
PLUGIN = "twisted/plugins/sslintercept_plugin.py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the sources, so that building leaves nothing behind in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in ("sslintercept", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, "dist"], cwd=source, check=True, capture_output=True)
    (file,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def metadata(wheel: zipfile.ZipFile, name: str) -> bytes:
    (path,) = (entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))
    return wheel.read(path)


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    ours = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "sslintercept").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "sslintercept/py.typed" in ours
    assert ours - set(wheel.namelist()) == set()


def test_the_plugin_file_is_the_only_thing_put_into_twisted(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if name.startswith("twisted/")] == [PLUGIN]


def test_nothing_else_is_installed_beside_the_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"sslintercept", "twisted", f"sslintercept-{sslintercept.__version__}.dist-info"}


def test_the_plugin_names_the_module_that_makes_the_service(wheel: zipfile.ZipFile) -> None:
    assignment = ast.parse(wheel.read(PLUGIN)).body[-1]
    assert isinstance(assignment, ast.Assign)
    assert isinstance(assignment.value, ast.Call)
    module, name = (ast.literal_eval(argument) for argument in assignment.value.args[1::2])
    assert (module, name) == ("sslintercept.tap", "sslintercept")


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    assert b"sslintercept = sslintercept.command:main" in metadata(wheel, "entry_points.txt")


def test_every_dependency_is_pinned_to_one_version(wheel: zipfile.ZipFile) -> None:
    required = message_from_bytes(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    assert any(line.startswith("Twisted==") for line in required)
    assert [line for line in required if "==" not in line] == []


def test_the_wheel_is_built_with_the_setuptools_that_lint_and_tests_install() -> None:
    (pin,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert pin in (ROOT / "requirements-dev.txt").read_text().split()
