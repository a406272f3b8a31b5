"""What indices, templates and component templates are, as the server says it, ready for the archive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.listing import each_of, named
from lucid_storage.stores.elasticsearch.backup.marks import HIDDEN, mark_of, unfinished, with_meta
from lucid_storage.stores.elasticsearch.backup.names import live_alias, stage_of, staged_name
from lucid_storage.stores.elasticsearch.backup.rawjson import (
    NotJsonError,
    elements,
    joined,
    member,
    members,
)
from lucid_storage.stores.elasticsearch.backup.strictness import LIMITS
from lucid_storage.stores.elasticsearch.settings import declared
from lucid_storage.stores.mongodb.types import JsonValue

_TEMPLATE_DATES = {"created_date", "created_date_millis", "modified_date", "modified_date_millis"}
# What the server keeps for itself and refuses in a new index.
_PRIVATE = ("index.store.snapshot.", "index.version.")
_PIPELINES, _NO_PIPELINE = ("index.default_pipeline", "index.final_pipeline"), "_none"


@dataclass(frozen=True, slots=True)
class Definition:
    """One index. Mappings and aliases are JSON texts exactly as the server sent them."""

    name: str
    """Of the index on the server."""
    target: str
    """The name that users know it by: another one after a restore, when it is an alias of the index."""
    uuid: str
    mappings: str
    settings: dict[str, JsonValue]
    """Flat, only those that were set."""
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def hidden(self) -> bool:
        """Whether somebody wants wildcards to pass it by."""
        return str(self.settings.get(HIDDEN)).lower() == "true"

    def text(self) -> str:
        """For the archive."""
        return joined(
            {
                "name": json.dumps(self.name),
                "target": json.dumps(self.target),
                "uuid": json.dumps(self.uuid),
                "settings": json.dumps(self.settings),
                "mappings": self.mappings,
                "aliases": joined(self.aliases),
            }
        )

    @classmethod
    def parse(cls, text: str) -> Definition:
        """From the archive. Raises NotJsonError."""
        found = members(text)
        try:
            return cls(
                name=json.loads(found["name"]),
                target=json.loads(found["target"]),
                uuid=json.loads(found["uuid"]),
                settings=json.loads(found["settings"]),
                mappings=found["mappings"],
                aliases=members(found["aliases"]),
            )
        except (KeyError, ValueError) as error:
            raise NotJsonError from error


@dataclass(frozen=True, slots=True)
class Template:
    """An index template or component template."""

    component: bool
    name: str
    body: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """Of an index template."""
        found = json.loads(member(self.body, "index_patterns"))
        return tuple(found) if isinstance(found, list) else (str(found),)

    @property
    def components(self) -> tuple[str, ...]:
        """Component templates that it is made of."""
        return tuple(json.loads(members(self.body).get("composed_of", "[]")))

    def text(self) -> str:
        """For the archive."""
        return joined(
            {"component": json.dumps(self.component), "name": json.dumps(self.name), "body": self.body}
        )

    @classmethod
    def parse(cls, text: str) -> Template:
        """From the archive. Raises NotJsonError."""
        found = members(text)
        try:
            return cls(json.loads(found["component"]), json.loads(found["name"]), found["body"])
        except (KeyError, ValueError) as error:
            raise NotJsonError from error


def definitions(
    http: ElasticHttp, names: Sequence[str], *, passing: Collection[str] = ()
) -> dict[str, Definition]:
    """The indices of these names that are there, none of them an alias. Raises LucidError, but for none of `passing`
    that cannot be read.

    The aliases of all are of one moment: of two, an alias could have two write indices.
    """
    aliases = _aliases(http)
    carriers = Counter(alias for each in aliases.values() for alias in each)
    found: dict[str, Definition] = {}
    for name, text in named(http, names, parameters={"flat_settings": True}, passing=passing).items():
        if name in names:
            own = aliases.get(name, {})
            sole = {alias: body for alias, body in own.items() if carriers[alias] == 1}
            found[name] = _definition(http, name, text, own, sole)
    return found


def _aliases(http: ElasticHttp) -> dict[str, dict[str, str]]:
    try:
        return {
            name: members(member(text, "aliases")) for name, text in each_of(http, "*", "/_alias", {}).items()
        }
    except ValueError as error:
        raise ServerRefusedError(f"{http.subject} described its aliases in an unknown form.") from error


def _definition(
    http: ElasticHttp, name: str, text: str, aliases: Mapping[str, str], sole: Mapping[str, str]
) -> Definition:
    try:
        parts = members(text)
        settings: dict[str, JsonValue] = json.loads(parts["settings"])
        mark = mark_of(parts["mappings"])
        target = stood_for(name, mark, aliases, sole) or name
        if target != name and mark is not None and unfinished(mark, settings):
            settings = _finished(settings, mark)
        return Definition(
            name=name,
            target=target,
            uuid=str(settings.get("index.uuid")),
            mappings=parts["mappings"] if mark is None else with_meta(parts["mappings"], None),
            settings={
                key: value
                for key, value in declared(settings).items()
                if not key.startswith(_PRIVATE) and (key, value) != ("index.store.type", "snapshot")
            },
            aliases={
                alias: body for alias, body in aliases.items() if alias not in (target, live_alias(name))
            },
        )
    except (ValueError, KeyError) as error:
        raise ServerRefusedError(f"{http.subject} described the index {name} in an unknown form.") from error


def stood_for(
    name: str,
    mark: Mapping[str, JsonValue] | None,
    aliases: Mapping[str, str],
    sole: Mapping[str, str],
) -> str | None:
    """The name that users know a restored index by, as long as that is an alias of it; None for every other index.

    Where an application wrote over the mark, an alias that a restore would have given tells it: `sole` are those of no
    other index. A mark that somebody copied or made up, or whose alias went on to another index, gives no name.
    """
    if mark is not None:
        target = str(mark.get("target"))
        return target if target in aliases and staged_name(target, str(mark.get("run"))) == name else None
    stage = stage_of(name)
    return stage if stage is not None and sole.get(stage) == "{}" else None


def _finished(settings: Mapping[str, JsonValue], mark: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Of an index that is live, and that its restore left before it had its last settings."""
    last = mark.get("last")
    kept = {key: value for key, value in settings.items() if key != HIDDEN and key not in LIMITS}
    return {**kept, **(last if isinstance(last, dict) else {})}


def unfit(found: Definition) -> str | None:
    """Why documents of the index cannot be exported, or None."""
    source = members(member(found.mappings, "_source"))
    if source.get("enabled") == "false":
        return "keeps no _source"
    if "includes" in source or "excludes" in source:
        return "keeps only part of _source"
    if found.settings.get("index.mode") == "time_series":
        return "is a time series index, whose ids cannot be given"
    return None


def matching_templates(http: ElasticHttp, names: Iterable[str]) -> tuple[list[Template], str | None]:
    """Templates that match one of the index names, with the component templates that they are made of.

    The second is a note when the login may not read them. The server's own ones are left out.
    """
    wanted = tuple(names)
    try:
        composable = _templates(http, "index_template")
        found = [
            t
            for t in composable
            if any(fnmatchcase(name, pattern) for name in wanted for pattern in t.patterns)
        ]
        used = {name for t in found for name in t.components}
        components = [t for t in _templates(http, "component_template") if t.name in used]
    except AccessDeniedError as error:
        return [], f"Index templates are left out: {error.message}"
    return components + found, None


def _templates(http: ElasticHttp, kind: str) -> list[Template]:
    answer = http.must("GET", f"/_{kind}", parameters={"flat_settings": True})
    found: list[Template] = []
    try:
        for entry in elements(members(answer.body.decode()).get(f"{kind}s", "[]")):
            name = json.loads(members(entry)["name"])
            body = {k: v for k, v in members(members(entry)[kind]).items() if k not in _TEMPLATE_DATES}
            managed = members(body.get("_meta", "{}")).get("managed") == "true"
            if not managed and not name.startswith("."):
                found.append(Template(kind == "component_template", name, joined(body)))
    except (ValueError, KeyError) as error:
        raise ServerRefusedError(f"{http.subject} described its templates in an unknown form.") from error
    return found


def put_missing(http: ElasticHttp, templates: Sequence[Template]) -> list[str]:
    """Creates templates that are not there; returns notes on those that were left as they are."""
    notes: list[str] = []
    for template in templates:
        kind = "_component_template" if template.component else "_index_template"
        path = f"/{kind}/{encoded(template.name)}"
        try:
            there = http.ask("GET", path)
            if there.ok:
                continue
            if there.status != 404:
                raise http.refused(there)
            http.must("PUT", path, template.body.encode(), {"create": True})
        except LucidError as error:
            if error.reason is Reason.STORE_UNAVAILABLE:
                raise
            notes.append(f"The template {template.name} was not created: {error.message}")
    return notes


def missing_pipelines(http: ElasticHttp, restored: Iterable[tuple[str, Definition]]) -> list[str]:
    """Notes on ingest pipelines that indices name, by the names that they have now, and that the server does not have.

    A login that may not read pipelines gets none.
    """
    users: dict[str, list[str]] = {}
    for target, one in restored:
        for setting in _PIPELINES:
            if (pipeline := str(one.settings.get(setting, _NO_PIPELINE))) != _NO_PIPELINE:
                users.setdefault(pipeline, []).append(target)
    return [
        f"The ingest pipeline {pipeline} is not on this server, and no backup holds it: writes to"
        f" {', '.join(names[:3])} fail until you put it there."
        for pipeline, names in sorted(users.items())
        if http.ask("GET", f"/_ingest/pipeline/{encoded(pipeline)}").status == 404
    ]
