"""What can go wrong with an export.

MobError (runtime.errors)
+-- ExtraMissing            a package is not installed that only this needs
+-- ExportRefused           what was asked for cannot be written so
+-- NoSuchTable             (mob.export.columns) there is no such table
"""

from __future__ import annotations

from runtime.errors import MobError


class ExtraMissing(MobError):
    """A package of an extra is not installed; nothing was done."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs the package {package}: pip install 'trio-mob[{extra}]'")
        self.extra = extra


class ExportRefused(MobError):
    """A format or a place that this cannot be written in; nothing was written."""
