"""Plugins: put a module beside this one, in any installed distribution (see L{sslintercept.interfaces})."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
