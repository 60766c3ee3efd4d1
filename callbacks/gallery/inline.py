"""One HTML page that holds its modules and its data, and opens from disk without a network."""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9_]*\.js")
# The one form of import that the modules use, of another one in the same folder.
_IMPORT = re.compile(r"""(\b(?:from|import)\s*["'])\./([a-z][a-z0-9_]*\.js)(["'])""")
_PREFIX = "assay/"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<script type="importmap">{imports}</script>
</head>
<body>
<noscript>This page needs JavaScript, which is part of it: nothing is loaded from elsewhere.</noscript>
<div id="page"></div>
<script type="application/json" id="data">{data}</script>
<script type="module">{start}</script>
</body>
</html>
"""


def inlined_page(title: str, entry: str, data: Any, *, function: str = "mountReport") -> str:
    """Return an HTML page in ASCII that needs nothing but itself.

    The modules are ``data:`` URLs of an import map. The policy of the page allows its own two scripts, by their hashes,
    and these modules; it allows no request.

    Args:
        title: of the page, any text.
        entry: name of the module in ``web/`` that has the function, such as ``report.js``.
        data: what the function shows: dicts, lists, texts, finite numbers, flags and None.
        function: is called with the page's element and the data.

    Raises:
        ValueError: a number is not finite.
        FileNotFoundError: there is no such module.
    """
    imports = json.dumps({"imports": {_PREFIX + name: _data_url(code) for name, code in modules_of(entry).items()}})
    start = (
        f'import {{ {function} }} from "{_PREFIX}{entry}";\n'
        'const data = JSON.parse(document.getElementById("data").textContent);\n'
        f'{function}(document.getElementById("page"), data);\n'
    )
    policy = (
        "default-src 'none'; "
        f"script-src data: {_hash(imports)} {_hash(start)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    page = _PAGE.format(policy=policy, title=html.escape(title), imports=imports, data=embedded_json(data), start=start)
    # So that neither the encoding of a file nor a half of a character changes anything.
    return page.encode("ascii", "xmlcharrefreplace").decode()


def embedded_json(data: Any) -> str:
    """Return data as JSON in ASCII that no text in it can end, as ``</script>`` or ``<!--`` would.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def modules_of(entry: str) -> dict[str, str]:
    """Return the code of a module of ``web/`` and of all that it imports, by name; their imports name the import map's.

    Raises:
        FileNotFoundError: there is no such module.
    """
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if not _NAME.fullmatch(name):
            raise FileNotFoundError(f"no module {name!r} in the folder web.")
        code = (files(__package__) / "web" / name).read_text(encoding="utf-8")
        waiting += [imported for _, imported, _ in _IMPORT.findall(code)]
        found[name] = _IMPORT.sub(rf"\g<1>{_PREFIX}\g<2>\g<3>", code)
    return found


def _data_url(code: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(code.encode()).decode()}"


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
