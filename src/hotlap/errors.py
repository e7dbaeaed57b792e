"""The errors hotlap raises: each is a HotlapError and the builtin error that fits.

A message gives the value, the rule it broke, and the fix.
"""

from __future__ import annotations


class HotlapError(Exception):
    """Base of every error that hotlap raises on purpose."""


class OptionError(HotlapError, ValueError):
    """An option has a value, or a name, that is not allowed."""


class OptionTypeError(HotlapError, TypeError):
    """An option has a value of the wrong type."""


class CoreError(HotlapError, ImportError):
    """The core that was asked for (HOTLAP_CORE) cannot be used."""


class LayoutError(HotlapError, RuntimeError):
    """Records have another layout than this version of hotlap reads."""


class MissingExtraError(HotlapError, ImportError):
    """An optional dependency is needed and not installed."""
