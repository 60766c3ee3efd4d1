"""Samples that cannot be read.

Source: truncated files and wrong paths; "broken data" of N. Humbatova et al., 2020.
Cost: none, as samples are read anyway.
Risk: a data set that cannot be read outside of its loader fails for every sample; that is no fault of the files, and
is left to the loader.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count

_LONGEST = 300


@rule("broken-images", at="data")
def broken_images(probe: Probe) -> Iterator[Finding]:
    """Find samples whose reading fails, beside others that can be read."""
    by_flag = " by --on-bad-image skip" if probe.settings.of_experiment else ""
    for loader in probe.loaders.values():
        if loader.errors and loader.samples:
            index, message = next(iter(loader.errors.items()))
            name = loader.ids[index] if len(loader.ids) == loader.length and index < loader.length else str(index)
            read = len(loader.errors) + len(loader.samples)
            yield Finding(
                "error",
                f"{count(len(loader.errors), 'sample')} of {read:,} of {loader.key} cannot be read"
                f" ({name}: {_short(message)}), so an epoch breaks off there",
                f"repair these files, or leave them out{by_flag}",
                Where(loader.key, samples=tuple(str(one) for one in list(loader.errors)[:8])),
                {"errors": len(loader.errors), "read": read},
            )


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
