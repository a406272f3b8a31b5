"""What the pages name is there, and what is generated is current."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs_pages import ROOT, blocks, name, pages, rows, tracked
from kubernetes.aio import client

from generate import parts
from generate.__main__ import main
from generate.tables import with_region
from lucid_storage.app.leading import Leading
from lucid_storage.errors import Reason
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kube.client import Kube
from lucid_storage.models.kinds import KINDS
from lucid_storage.models.settings import Settings

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", MAKEFILE, re.MULTILINE))


def links(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    code = re.findall(r"`make ([a-z0-9-]+)`|^make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)
    named = {first or second for first, second in code}
    assert named <= TARGETS


def test_targets_of_the_readme_can_be_made() -> None:
    first = blocks((ROOT / "README.md").read_text(), "sh")[0]
    assert re.findall(r"^make (\S+)", first, re.MULTILINE) == ["demo", "test"]
    for target in ("demo", "test"):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_pages_that_the_sources_name_exist() -> None:
    sources = [path for path in tracked() if path.suffix in {".py", ".yaml", ".tpl", ".toml", ".txt"}]
    for path in sources:
        for named in re.findall(r"\bdocs/[a-z/-]+\.(?:md|txt)\b", path.read_text()):
            known = (ROOT / named).exists() or path.is_relative_to(ROOT / "tests" / "models")
            assert known, f"{name(path)} names {named}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_generated_pages_are_current() -> None:
    assert parts.problems(ROOT, helm=None) == []


def test_generated_pages_are_written_and_a_stale_or_surplus_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("crds", "docs", "helm", "manifests", "README.md"):
        subprocess.run(["cp", "-r", "--parents", part, tmp_path], check=True, cwd=ROOT)
    settings, conditions = tmp_path / "docs/settings.md", tmp_path / "docs/conditions.md"
    settings.write_text("old")
    conditions.unlink()
    (tmp_path / "crds/more.yaml").write_text("")
    parts.write(tmp_path, helm=None)
    assert settings.read_text() == (ROOT / "docs/settings.md").read_text()
    assert conditions.exists()
    assert parts.problems(tmp_path, helm=None) == []
    settings.write_text("old")
    (tmp_path / "crds/more.yaml").write_text("")
    assert main(["--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "run `make generate`: crds/more.yaml, docs/settings.md" in said


def test_a_generated_file_unknown_to_git_is_named(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "known.md").write_text("")
    subprocess.run(["git", "-C", tmp_path, "add", "known.md"], check=True)
    assert parts.untracked(tmp_path, ["known.md", "new.md"]) == ["new.md"]


def test_a_page_without_its_region_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- kinds -->"):
        with_region("no marks", "kinds", "x")
    assert with_region("a<!-- x -->old<!-- end of x -->b", "x", "new") == (
        "a<!-- x -->\nnew\n<!-- end of x -->b"
    )


def test_every_reason_and_every_setting_has_its_row() -> None:
    conditions = (ROOT / "docs/conditions.md").read_text()
    assert [row[0] for row in rows(conditions, "Reasons")] == [f"`{reason}`" for reason in Reason]
    text = (ROOT / "docs/settings.md").read_text()
    named = [row[0] for heading in ("Stores", "Operator") for row in rows(text, heading)]
    fields = Settings.model_fields.items()
    assert named == [f"`{field.alias or key.upper()}`" for key, field in fields]


async def test_every_kind_is_reconciled() -> None:
    kube = Kube(client.Configuration())
    leading = Leading(Settings.read({}), kube, lambda: None, Metrics())
    assert {info.plural for info in KINDS.values()} == set(leading.engine.plurals)
    await leading.close()
    await kube.close()


def test_the_demo_on_the_readme_is_on_one_screen() -> None:
    shown = blocks((ROOT / "README.md").read_text(), "text")[0].splitlines()
    assert shown[0] == "$ make demo"
    assert len(shown) <= 70
    assert any("it is back after" in line for line in shown)


def test_every_dependency_has_its_reason_and_its_bounds() -> None:
    page = (ROOT / "docs/decisions/dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for heading, wanted in (
        ("The operator", project["dependencies"]),
        ("Tests and checks", project["optional-dependencies"]["dev"]),
    ):
        assert sorted(row[0] + row[1] for row in rows(page, heading)) == sorted(wanted)
        assert all(">=" in dependency and ",<" in dependency for dependency in wanted)
        assert all(row[-1] for row in rows(page, heading))


def test_no_file_names_a_place_of_work_or_a_registry() -> None:
    words = ["/work" + "/", "pypi" + ".org", "proxy" + ".golang", "repo.maven" + ".apache", "deb" + ".debian"]
    for path in tracked():
        text = path.read_bytes().decode(errors="ignore")
        found = [word for word in words if word in text]
        assert not found, f"{name(path)} names {found[0]}"


def test_the_source_root_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    program = "import operator; print(operator.__file__, operator.itemgetter(0)([7]))"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    where, value = answer.stdout.split()
    assert value == "7"
    assert ROOT not in Path(where).parents
