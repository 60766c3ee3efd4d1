"""Who may save marks."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

FLAG = "--samples_allow_marks"
_REMEDY = f"start TensorBoard with {FLAG} to allow it"


def why_not_mark(flags: Any, host: str) -> str:
    """Return why marks cannot be saved; empty: they can.

    Only who works at the machine itself may, unless a flag allows all whom the server answers.

    Args:
        flags: of TensorBoard; None: not known.
        host: by which the server was addressed.
    """
    if getattr(flags, "samples_allow_marks", False):
        return ""
    if flags is None:
        return f"marks cannot be saved, as the address of the server is not known: {_REMEDY}"
    bound = getattr(flags, "host", None) or "localhost"
    if getattr(flags, "bind_all", False) or not is_loopback(bound):
        at = "all addresses of the machine" if getattr(flags, "bind_all", False) else repr(bound)
        return f"marks cannot be saved, as the server listens to {at} and not to localhost alone: {_REMEDY}"
    # Through a proxy anybody may come, and a name of elsewhere may have been made to lead here.
    if not is_loopback(_name_of(host)):
        return (
            f"marks cannot be saved, as the server is addressed as {_name_of(host)!r} and not as localhost: {_REMEDY}"
        )
    return ""


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from its own machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_of_another_site(headers: Mapping[str, str], host: str) -> bool:
    """Return whether a browser sends a request on behalf of a page that is not this server's.

    Args:
        headers: of the request.
        host: by which the server was addressed, with its port.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site != "same-origin"
    origin = headers.get("Origin")
    # A proxy may address the server by another name than its users; a page cannot set this header.
    known = {host, *(part.strip() for part in headers.get("X-Forwarded-Host", "").split(","))}
    return origin is not None and urlsplit(origin).netloc not in known


def _name_of(host: str) -> str:
    """Return a host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
