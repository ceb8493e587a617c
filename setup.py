"""The part of the packaging that needs Python; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["sslintercept", "sslintercept.*"]),
    package_data={"": ["py.typed"], "sslintercept.http.pages": ["*.html", "*.toml"]},
    # The plugin is named as a single module, so that the folders around it stay Twisted's own:
    # nothing but this file is installed into them, and nothing else is removed.
    py_modules=["twisted.plugins.sslintercept_plugin"],
    # Spelt out, because an editable install then puts this folder on the path, where Twisted
    # finds the plugin, instead of an import hook, which Twisted does not look into.
    package_dir={"": "."},
)
