"""How a kubelet reads the text of a variable: `$(NAME)` and `$$` mean something, and a text has to be written for that.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
"""

import re
from collections.abc import Mapping

_SIGNS = re.compile(r"\$\$|\$\(([^)]*)\)")


def expanded(text: str, earlier: Mapping[str, str]) -> str:
    """`text` as the process gets it. `earlier`: what the variables before it in the container's list hold.

    `$$` is one `$`; a name that is not among them, an open bracket and any other `$` stay as they are.
    """

    def read(found: re.Match[str]) -> str:
        name = found[1]
        return "$" if name is None else earlier.get(name, found[0])

    return _SIGNS.sub(read, text)
