"""Parts from other packages: denoisers, vocoders, trackers, samplers and devices that add themselves to our tables.

A package names its modules under the entry-point group "moksori", each by the stage that needs it: ``runtime`` for
every command, ``train`` for all but svc-run, ``export`` for svc-export. CONTRIBUTING.md has one of each.
"""

from __future__ import annotations

from importlib import metadata

from moksori.runtime.errors import MoksoriError

GROUP = "moksori"
STAGES = {"train": ("runtime", "train"), "export": ("runtime", "train", "export")}  # by the extra a command needs


def load(extra: str = "") -> None:
    """Import what installed packages add to a command that needs ``extra``; what is imported already stays as it is.

    Raises:
        MoksoriError: such a module cannot be imported.
    """
    stages = STAGES.get(extra, ("runtime",))
    found = [one for one in metadata.entry_points(group=GROUP) if one.name in stages]
    for one in sorted(found, key=lambda one: stages.index(one.name)):
        try:
            one.load()
        except Exception as error:  # whatever a stranger's module raises
            package = one.dist.name if one.dist else one.value
            raise MoksoriError(
                f"the package {package}, which adds to Moksori, cannot be used ({one.value}: {error}); "
                f"mend it, or run: pip uninstall {package}"
            ) from error
