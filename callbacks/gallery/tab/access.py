"""Who may save marks."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

FLAG = "--samples_allow_marks"
_ADDRESSES = ("Host", "X-Forwarded-Host", "Origin", "Referer")
_REMEDY = f"start TensorBoard with {FLAG} to allow it"


def why_not_mark(flags: Any, headers: Mapping[str, str]) -> str:
    """Return why marks cannot be saved; empty: they can.

    Only who works at the machine itself may, unless a flag allows all whom the server answers.

    Args:
        flags: of TensorBoard; None: not known.
        headers: of the request, which tell how the server was addressed.
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
    for name in map(_name_of, filter(None, map(headers.get, _ADDRESSES))):
        if not is_loopback(name):
            return f"marks cannot be saved, as the server is addressed as {name!r} and not as localhost: {_REMEDY}"
    return ""


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from its own machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_of_another_site(headers: Mapping[str, str]) -> bool:
    """Return whether a browser sends a request on behalf of a page that is not this server's.

    Args:
        headers: of the request.
    """
    if "Sec-Fetch-Site" in headers:
        return headers["Sec-Fetch-Site"] != "same-origin"
    # A proxy may address the server by another name than its users do; a page cannot set its header.
    known = [headers.get("Host", ""), *(part.strip() for part in headers.get("X-Forwarded-Host", "").split(","))]
    # The origin of a page in a sandbox or of a file is "null", which is no address.
    return "Origin" in headers and (urlsplit(headers["Origin"]).netloc or None) not in known


def _name_of(address: str) -> str:
    """Return the host in an address or in a header, without its port."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or address
    except ValueError:
        return address
