"""Whether what a view is made of stays within the view's own database. Pure.

The server compares a view with the rights of who makes it, and from then on with nothing: who may read the view reads
whatever it is made of. A restore makes views with the operator's login out of what lies in an archive, an oplog or a
journal, so it makes none that names another database. A stage that is not known here may name one.

Source of the stages: the server's reference, versions 4.4 to 8.2
(https://www.mongodb.com/docs/manual/reference/mql/aggregation-stages/), without those that views may not have and
those of a whole server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_LOCAL = frozenset(
    {
        "$addFields",
        "$bucket",
        "$bucketAuto",
        "$collStats",
        "$count",
        "$densify",
        "$documents",
        "$fill",
        "$geoNear",
        "$group",
        "$indexStats",
        "$limit",
        "$listSearchIndexes",
        "$match",
        "$planCacheStats",
        "$project",
        "$redact",
        "$replaceRoot",
        "$replaceWith",
        "$sample",
        "$score",
        "$search",
        "$searchMeta",
        "$set",
        "$setWindowFields",
        "$skip",
        "$sort",
        "$sortByCount",
        "$unset",
        "$unwind",
        "$vectorSearch",
    }
)
"""They see what comes to them, or the collection that they begin with."""
_JOINS: Mapping[str, tuple[str, frozenset[str]]] = {
    "$lookup": ("from", frozenset({"from", "localField", "foreignField", "let", "pipeline", "as"})),
    "$graphLookup": (
        "from",
        frozenset(
            {
                "from",
                "startWith",
                "connectFromField",
                "connectToField",
                "as",
                "maxDepth",
                "depthField",
                "restrictSearchWithMatch",
            }
        ),
    ),
    "$unionWith": ("coll", frozenset({"coll", "pipeline"})),
}
"""Of stages that read another collection: the field that names it, and all fields. A name alone is one of the view's
own database; a document can name any.
"""
_RANKED = frozenset({"$rankFusion", "$scoreFusion"})


def beyond(pipeline: object) -> str | None:
    """What of it may read another database, in words that follow "it"; None when nothing does."""
    if not isinstance(pipeline, list | tuple):
        return "is not made of a list of stages"
    return next((found for stage in pipeline if (found := _stage(stage)) is not None), None)


def _stage(stage: object) -> str | None:
    if not isinstance(stage, Mapping) or len(stage) != 1:
        return "is not made of stages of one name each"
    ((name, asked),) = stage.items()
    if name in _LOCAL:
        return None
    if name == "$unionWith" and isinstance(asked, str):
        return None
    if name in _JOINS:
        return _join(name, asked)
    if name == "$facet" and isinstance(asked, Mapping):
        return _any(asked.values())
    if name in _RANKED and isinstance(asked, Mapping):
        given = asked.get("input")
        pipelines = given.get("pipelines") if isinstance(given, Mapping) else None
        return _any(pipelines.values()) if isinstance(pipelines, Mapping) else _unknown(name)
    return _unknown(name)


def _join(name: str, asked: object) -> str | None:
    names, known = _JOINS[name]
    if not isinstance(asked, Mapping) or not known.issuperset(asked):
        return _unknown(name)
    if names in asked and not isinstance(asked[names], str):
        return f"names another database in {name}"
    return beyond(asked["pipeline"]) if "pipeline" in asked else None


def _any(pipelines: Iterable[object]) -> str | None:
    return next((found for pipeline in pipelines if (found := beyond(pipeline)) is not None), None)


def _unknown(name: object) -> str:
    return f"uses {str(name)[:40]} in a way that may read another database"
