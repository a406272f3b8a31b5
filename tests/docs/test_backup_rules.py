"""The rules of backups name tests that exist and that name them, and the code names rules that exist."""

import re
from pathlib import Path

import pytest
from docs_pages import ROOT

PAGE = (ROOT / "docs" / "backup-rules.md").read_text()
ROWS = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| [1-4]", line)]
SHOWN = {row[1].strip(): [name.strip() for name in row[3].split(",")] for row in ROWS}
NUMBER = r"[1-4](?:\.\d+)?"
NAMED = re.compile(rf"\b[Rr]ules? ({NUMBER}(?:(?:,| to| and)? {NUMBER})*)")


def named(text: str) -> set[str]:
    """The rules that a text speaks of: "rule 1.2", "rules 1.3, 1.4 and 2.1", "rule 1.3 to 1.7"."""
    found: set[str] = set()
    for match in NAMED.finditer(text):
        found.update(re.findall(NUMBER, match[1]))
        for first, last in re.findall(rf"({NUMBER}) to ({NUMBER})", match[1]):
            section, low = first.split(".")
            assert last.startswith(f"{section}."), match[0]
            found.update(f"{section}.{number}" for number in range(int(low), int(last.split(".")[1]) + 1))
    return found


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("Rule 3.", {"3"}),
        ("(rule 1.2, 1.13 and 2.1)", {"1.2", "1.13", "2.1"}),
        ("rule 1.3 to 1.5", {"1.3", "1.4", "1.5"}),
        ("rule 2.1 holds; 2.2 does not", {"2.1"}),
        ("overrule 1.1", set()),
    ],
)
def test_a_text_names_rules(text: str, rules: set[str]) -> None:
    assert named(text) == rules


def test_every_section_has_its_rows() -> None:
    assert {number.partition(".")[0] for number in SHOWN} == {"1", "2", "3", "4"}
    for section, last in (("1", 13), ("2", 12)):
        assert {f"{section}.{number}" for number in range(1, last + 1)} <= SHOWN.keys()


@pytest.mark.parametrize("rule", SHOWN)
def test_each_rule_has_tests_that_exist_and_one_that_names_it(rule: str) -> None:
    files = SHOWN[rule]
    missing = [name for name in files if not (ROOT / name).is_file()]
    assert not missing, f"rule {rule} is said to be shown by {missing}"
    assert any(rule in named((ROOT / name).read_text()) for name in files), f"no test of rule {rule} names it"


def test_the_code_names_only_rules_that_there_are() -> None:
    for file in [*Path(ROOT / "operator").rglob("*.py"), *Path(ROOT / "tests").rglob("*.py")]:
        unknown = named(file.read_text()) - SHOWN.keys()
        assert not unknown, f"{file} means rules {unknown}"
