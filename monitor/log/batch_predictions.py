"""What one version says of many media, and the rule by which the log takes it over.

The rule: a media's current prediction that says the same species is renewed, which changes one row;
one that says another becomes history, and the new word is a row of its own. Many words are one JSON
text, so that each step is one statement for all of them: while the write lock is held SQLite works,
and Python's threads need not take turns for every row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from monitor.core.domain import Prediction
from monitor.log.species import fold, species_id_for_class
from monitor.log.tables import SpeciesName


@dataclass(frozen=True, slots=True)
class Said:
    """Words of one version about n media, a column each.

    Attributes:
        names: species names, in any order.
        media_ids: n of them, each once.
        species: for each media the place of its species in `names`.
        probabilities: of that species, or of the best one where it is `unknown`.
        alternatives: JSON text, [[name, probability] …], best first.
    """

    names: Sequence[str]
    media_ids: Sequence[int]
    species: Sequence[int]
    probabilities: Sequence[float]
    alternatives: Sequence[str]

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> Said:
        """The same of predictions that are values."""
        names = {name: place for place, name in enumerate({p.species: None for p in predictions})}
        return cls(
            tuple(names),
            [p.media_id for p in predictions],
            [names[p.species] for p in predictions],
            [p.probability for p in predictions],
            [json.dumps([[n, round(v, 5)] for n, v in p.alternatives]) for p in predictions],
        )

    def words(self) -> list[str]:
        """JSON text of [media id, place of the species, probability, alternatives] for each."""
        columns = zip(
            self.media_ids, self.species, self.probabilities, self.alternatives, strict=True
        )
        return [f"[{m},{s},{p!r},{a}]" for m, s, p, a in columns]


def as_page(words: Iterable[str]) -> str:
    """Words as `take_over` wants them."""
    return f"[{','.join(words)}]"


def take_over(
    connection: Connection,
    version_id: int,
    species_ids: Sequence[int],
    at: str,
    same: str,
    other: str,
) -> None:
    """Apply the rule, inside a write transaction.

    Args:
        species_ids: of `Said.names`.
        same: page of words, of which those are renewed that say what is current, and no others.
        other: page of words, of which all are taken over that `same` left; a word may be in both.
    """
    facts = {"version": version_id, "species": json.dumps(list(species_ids)), "at": at}
    if connection.execute(_HAS_HISTORY, {"version": version_id}).scalar():
        for words in {same, other}:
            connection.execute(_FORGET_ITS_OWN, {"words": words, "version": version_id})
    connection.execute(_RENEW, {"words": same, **facts})
    connection.execute(_SUPERSEDE, {"words": other, "version": version_id})
    connection.execute(_SAY, {"words": other, **facts})


def labelled_among(connection: Connection, media_ids: Sequence[int]) -> Collection[int]:
    """Which of these media have a label."""
    ids = {"media": json.dumps(list(media_ids))}
    return frozenset(json.loads(connection.execute(_LABELLED, ids).scalar_one()))


def known_ids(connection: Connection, names: Sequence[str]) -> list[int | None]:
    """The species that answer to these names of a model's classes; None where none does."""
    folded = [fold(name) for name in names]
    query = select(SpeciesName.folded, SpeciesName.species_id).where(SpeciesName.folded.in_(folded))
    known = {row.folded: row.species_id for row in connection.execute(query)}
    return [known.get(one) for one in folded]


def species_ids_of(connection: Connection, names: Sequence[str]) -> list[int]:
    """The same; a species that the list lost is added."""
    found = zip(names, known_ids(connection, names), strict=True)
    return [one or species_id_for_class(connection, name) for name, one in found]


_MEDIA = "(SELECT value->>0 FROM json_each(:words))"
_SAID = (
    "(SELECT value->>0 AS media, :species->>(value->>1) AS species, value->>2 AS probability,"
    " value->3 AS alternatives FROM json_each(:words)) AS said"
)
_LABELLED = text(
    "SELECT json_group_array(id) FROM media"
    " WHERE id IN (SELECT value FROM json_each(:media)) AND +label_id IS NOT NULL"
)
_HAS_HISTORY = text(
    "SELECT EXISTS (SELECT 1 FROM prediction WHERE model_version_id = :version AND current = 0)"
)
_FORGET_ITS_OWN = text(  # a version that speaks again, as after a roll-back, has one word only
    f"DELETE FROM prediction WHERE media_id IN {_MEDIA} AND +model_version_id = :version"
    " AND +current = 0"
)
_RENEW = text(
    "UPDATE prediction INDEXED BY prediction_current SET model_version_id = :version,"
    " species_id = said.species, probability = said.probability,"
    f" alternatives = said.alternatives, at = :at FROM {_SAID}"
    " WHERE media_id = said.media AND current = 1"
    " AND (species_id = said.species OR model_version_id = :version)"
)
_SUPERSEDE = text(
    "UPDATE prediction INDEXED BY prediction_current SET current = 0"
    f" WHERE media_id IN {_MEDIA} AND current = 1 AND model_version_id <> :version"
)
_SAY = text(
    "INSERT INTO prediction (media_id, model_version_id, deployment_id, species_id, probability,"
    " alternatives, at, captured_at, current) SELECT media.id, :version, media.deployment_id,"
    " said.species, said.probability, said.alternatives, :at, media.captured_at, 1"
    f" FROM {_SAID} CROSS JOIN media ON media.id = said.media WHERE NOT EXISTS"
    " (SELECT 1 FROM prediction WHERE media_id = media.id AND current = 1)"
)
