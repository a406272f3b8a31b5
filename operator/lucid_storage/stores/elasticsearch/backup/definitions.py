"""What indices, templates and component templates are, as the server says it, ready for the archive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lucid_storage.errors import AccessDeniedError, LucidError, Reason, ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.names import MARK, staged_name
from lucid_storage.stores.elasticsearch.backup.rawjson import (
    NotJsonError,
    elements,
    joined,
    member,
    members,
)
from lucid_storage.stores.elasticsearch.settings import declared
from lucid_storage.stores.mongodb.types import JsonValue

_TEMPLATE_DATES = {"created_date", "created_date_millis", "modified_date", "modified_date_millis"}
# What the server keeps for itself and refuses in a new index.
_PRIVATE = ("index.store.snapshot.", "index.version.")


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


def definition(http: ElasticHttp, name: str) -> Definition | None:
    """The index of that name; None when there is none, or an alias. Raises LucidError."""
    answer = http.ask("GET", f"/{encoded(name)}", parameters={"flat_settings": True})
    if answer.status == 404:
        return None
    if not answer.ok:
        raise http.refused(answer)
    try:
        found = members(answer.body.decode()).get(name)
        if found is None:
            return None
        parts = members(found)
        settings = json.loads(parts["settings"])
        target, mappings = _without_mark(name, parts["mappings"])
        return Definition(
            name=name,
            target=target,
            uuid=str(settings.get("index.uuid")),
            mappings=mappings,
            settings={
                key: value
                for key, value in declared(settings).items()
                if not key.startswith(_PRIVATE) and (key, value) != ("index.store.type", "snapshot")
            },
            aliases={alias: body for alias, body in members(parts["aliases"]).items() if alias != target},
        )
    except (ValueError, KeyError) as error:
        raise ServerRefusedError(f"{http.subject} described the index {name} in an unknown form.") from error


def mark_of(mappings: str) -> dict[str, JsonValue] | None:
    """What a restore wrote into the mapping, or None."""
    found = members(member(mappings, "_meta")).get(MARK)
    return dict(json.loads(found)) if found else None


def with_meta(mappings: str, mark: str | None) -> str:
    """The mapping with our mark (a JSON text) in its `_meta`, or without it."""
    meta = {name: text for name, text in members(member(mappings, "_meta")).items() if name != MARK}
    rest = {name: text for name, text in members(mappings).items() if name != "_meta"}
    if mark is not None:
        meta[MARK] = mark
    return joined({**rest, **({"_meta": joined(meta)} if meta else {})})


def _without_mark(name: str, mappings: str) -> tuple[str, str]:
    mark = mark_of(mappings)
    if mark is None:
        return name, mappings
    target, run = str(mark.get("target")), str(mark.get("run"))
    # A mark that somebody copied or made up gives nobody another name.
    return (target if staged_name(target, run) == name else name), with_meta(mappings, None)


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
