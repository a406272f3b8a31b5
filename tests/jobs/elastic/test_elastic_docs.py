"""The script of docs/archive-elasticsearch.md reads what an export wrote."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.elastic.elastic_bed import Bed

pytestmark = pytest.mark.elasticsearch

PAGE = Path(__file__).resolve().parents[3] / "docs" / "archive-elasticsearch.md"


def test_the_documented_script_reads_an_export(bed: Bed) -> None:
    index = bed.index("one")
    bed.put(index, "a%20b", '{"n":1.0,"t":"ü"}', "routing=r")
    bed.put(index, "c", "{}")
    backup = bed.back_up()
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", script], input=backup.data, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    assert '0 a b 1 {"n":1.0,"t":"ü"}' in lines
    assert "0 c 1 {}" in lines
    assert lines[-1].startswith('Z {"records":')
