"""The rules of backups name tests that exist, and the code names rules that exist."""

import re
from pathlib import Path

from docs_pages import ROOT

PAGE = (ROOT / "docs" / "backup-rules.md").read_text()
ROWS = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| [123]", line)]


def test_each_rule_names_tests_that_exist() -> None:
    for row in ROWS:
        shown = [name.strip() for name in row[3].split(",")]
        assert shown, row
        for name in shown:
            assert (ROOT / name).is_file(), f"rule {row[1]} is said to be shown by {name}"


def test_the_code_names_only_rules_that_there_are() -> None:
    known = {row[1].strip() for row in ROWS}
    for file in [*Path(ROOT / "operator").rglob("*.py"), *Path(ROOT / "tests").rglob("*.py")]:
        for found in re.findall(r"[Rr]ule ([12]\.\d+)", file.read_text()):
            assert found in known, f"{file} means a rule {found}"
