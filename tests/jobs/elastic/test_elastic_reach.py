"""A manifest in a bucket of the tenant's own names nothing of others: no snapshot, no index in one, no template."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from jobs.elastic.elastic_bed import Backup, Bed
from lucid_storage.archive.elastic_export import ExportWriter
from lucid_storage.archive.manifest import ElasticIndexRecord
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.elastic_reach import check_in_snapshot
from lucid_storage.jobs.elastic_restore import ElasticRestoreRun, plan, prove, restore
from lucid_storage.models.backup import ElasticMethod, ElasticSelection
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, Template

pytestmark = pytest.mark.elasticsearch

ACTS: dict[str, Callable[[ElasticRestoreRun], object]] = {"plan": plan, "restore": restore, "prove": prove}


@pytest.fixture
def repository(bed: Bed) -> Iterator[str]:
    name = bed.name("repository")
    location = str(bed.server.snapshots / name)
    bed.call("PUT", f"/_snapshot/{name}", {"type": "fs", "settings": {"location": location}})
    yield name
    for one in bed.call("GET", f"/_snapshot/{name}/_all")["snapshots"]:
        bed.call("DELETE", f"/_snapshot/{name}/{one['snapshot']}")
    bed.call("DELETE", f"/_snapshot/{name}")


def snapshot_of(bed: Bed, repository: str, *indices: str) -> Backup:
    chosen = ElasticSelection(
        indices=list(indices), method=ElasticMethod.SNAPSHOT, repository=repository, allow_unencrypted=True
    )
    return bed.back_up(chosen)


def forged(backup: Backup, *held: Definition, templates: Sequence[Template] = ()) -> Backup:
    """With an archive that the tenant wrote, and a manifest that goes with it."""
    sink = io.BytesIO()
    writer = ExportWriter(sink, {"cluster": "c", "version": "8", "method": backup.record.method})
    for template in templates:
        writer.template(template.text())
    for number, one in enumerate(held):
        writer.index(number, one.text())
        writer.end_index(number)
    writer.end()
    records = tuple(ElasticIndexRecord(name=one.target, documents=0) for one in held)
    record = backup.record.model_copy(update={"indices": records})
    engine = backup.taken.record.model_copy(update={"elasticsearch": record})
    return Backup(replace(backup.taken, record=engine), sink.getvalue(), backup.id)


def described(name: str, target: str) -> Definition:
    return Definition(name, target, "x", "{}", {}, {})


async def test_no_index_of_others_comes_out_of_a_snapshot_under_a_name_of_ones_own(
    bed: Bed, repository: str
) -> None:
    secret, mine = bed.index("theirs-secret"), bed.name("mine-1")
    bed.fill(secret, 25)
    theirs = snapshot_of(bed, repository, secret)
    for held, named in (
        (described(secret, mine), "which no backup writes"),
        (described(secret, secret), "may not use the index"),
        (described(bed.name("*"), bed.name("mine-*")), "which no backup writes"),
    ):
        rename = {"rename_to": mine} if held.target != mine else {}
        with pytest.raises(LucidError, match=named):
            restore(bed.restore_run(forged(theirs, held), index_patterns=(bed.name("mine-*"),), **rename))
    assert bed.indices() == {secret}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
async def test_a_snapshot_that_another_backup_or_somebody_else_made_is_not_read(
    bed: Bed, repository: str, act: Callable[[ElasticRestoreRun], object]
) -> None:
    index = bed.index("mine-1")
    bed.fill(index, 10)
    backup = snapshot_of(bed, repository, index)
    others = []
    for field in ("backup", "cluster", "namespace", "chain"):
        run = bed.restore_run(backup, drop_existing=True)
        run.origin = {**run.origin, field: "another"}
        others.append(run)
    path = f"/_snapshot/{repository}/nightly"
    bed.call("PUT", f"{path}?wait_for_completion=true", {"indices": [index], "include_global_state": False})
    run = bed.restore_run(backup, drop_existing=True)
    run.record = backup.record.model_copy(update={"snapshot": "nightly"})
    for other in (*others, run):
        with pytest.raises(LucidError, match="does not say that this backup made it") as refused:
            act(other)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
    assert bed.indices() == {index}


async def test_a_namespace_of_some_indices_restores_its_own_snapshots_of_them_alone(
    bed: Bed, repository: str
) -> None:
    index = bed.index("mine-1")
    bed.fill(index, 10)
    backup = snapshot_of(bed, repository, index)
    mine, other = (bed.name("mine-*"),), (bed.name("other-*"),)
    for act in (plan, restore):
        with pytest.raises(LucidError, match="have it restored in the operator's namespace") as refused:
            act(bed.restore_run(backup, namespace="other", index_patterns=mine))
        assert refused.value.reason is Reason.INDEX_NOT_ALLOWED
        with pytest.raises(LucidError, match="may not use the index"):
            act(bed.restore_run(backup, index_patterns=other, rename_to=bed.name("other-1")))
    restore(bed.restore_run(backup, drop_existing=True, index_patterns=mine))
    again = snapshot_of(bed, repository, index)  # of an index that lies under the name of a restore
    bed.call("DELETE", f"/{next(iter(bed.call('GET', f'/{index}')))}")
    assert restore(bed.restore_run(again, index_patterns=mine)).documents == 10
    elsewhere = bed.restore_run(backup, namespace="other", rename_to=bed.name("copy"))
    assert restore(elsewhere).documents == 10, "by whoever may use all indices, as in a cold start"


def templates_there(bed: Bed) -> dict[str, list[str]]:
    return {
        kind: [
            one["name"]
            for one in bed.call("GET", f"/_{kind}_template")[f"{kind}_templates"]
            if one["name"].startswith(bed.prefix)
        ]
        for kind in ("index", "component")
    }


@pytest.fixture
def no_templates(bed: Bed) -> Iterator[None]:
    yield
    for kind, names in templates_there(bed).items():
        for name in names:
            bed.call("DELETE", f"/_{kind}_template/{name}")


@pytest.mark.usefixtures("no_templates")
async def test_a_template_that_others_are_made_of_or_that_gives_their_alias_is_not_made(bed: Bed) -> None:
    index = bed.index("mine-1")
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    part, custom, alias = bed.name("mine-part"), bed.name("theirs@custom"), bed.name("theirs")
    patterns = f'"index_patterns":["{bed.name("mine-*")}"],"priority"'
    templates = (
        Template(True, part, '{"template":{}}'),
        Template(True, custom, '{"template":{}}'),
        Template(False, bed.name("own"), f'{{{patterns}:701,"composed_of":["{part}"]}}'),
        Template(False, bed.name("half"), f'{{{patterns}:702,"composed_of":["{part}","{custom}"]}}'),
        Template(False, bed.name("wide"), f'{{{patterns}:703,"template":{{"aliases":{{"{alias}":{{}}}}}}}}'),
    )
    notes = restore(
        bed.restore_run(
            forged(backup, described(index, index), templates=templates), index_patterns=(bed.name("mine-*"),)
        )
    ).notes
    assert f"The component template {custom} was left out: templates of others may be made of it." in notes
    assert f"The template {bed.name('wide')} was left out: it reaches indices of others." in notes
    assert [n for n in notes if n.startswith(f"The template {bed.name('half')} was not created")]
    assert templates_there(bed) == {"index": [bed.name("own")], "component": [part]}


@pytest.mark.parametrize("name", ["kept", "kept-r-abcdef012345", "kept-2026.11", "ünïcode"])
def test_an_index_lies_in_a_snapshot_under_its_name_or_that_of_a_restore(name: str) -> None:
    check_in_snapshot(described(name, "kept" if "-r-" in name else name))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("secret", "kept"),
        ("kept-r-ABC", "kept"),
        ("kept-r-abc*", "kept"),
        ("kept-2", "kept"),
        ("kept-*", "kept-*"),
        ("kept,secret", "kept,secret"),
        ("-kept", "-kept"),
        (".security-7", ".security-7"),
    ],
)
def test_under_another_name_it_is_not_looked_for(name: str, target: str) -> None:
    with pytest.raises(LucidError):
        check_in_snapshot(described(name, target))
