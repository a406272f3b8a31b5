"""What Argo CD makes of an object with our health script, by Debian's Lua."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from testbed import apt
from testbed.paths import project_root
from testbed.progress import Progress


def health(found: dict[str, Any]) -> tuple[str, str]:
    """(status, message) of an object as the API server gives it. Raises CalledProcessError where the script fails."""
    apt.ensure(["lua5.1"], Progress())
    script = (project_root() / "manifests/argocd/health.lua").read_text()
    call = f"local h = health({_lua(found)})\nprint(h.status)\nprint(h.message)"
    wrapped = f"local function health(obj)\n{script}\nend\n{call}"
    answer = subprocess.run(["lua5.1", "-"], input=wrapped, capture_output=True, text=True, check=True)
    status, message = answer.stdout.removesuffix("\n").split("\n", 1)
    return status, message


def _lua(value: Any) -> str:
    """The value as Lua writes it, which is how Argo CD hands an object over."""
    match value:
        case dict():
            return "{" + ", ".join(f"[{json.dumps(key)}] = {_lua(part)}" for key, part in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(_lua, value)) + "}"
        case None:
            return "nil"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return json.dumps(value)
