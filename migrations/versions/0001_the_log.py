"""The log as first published: every table, index, the append-only triggers, the view `sightings`."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = [
    """
CREATE TABLE act (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at VARCHAR NOT NULL,
    "by" VARCHAR NOT NULL,
    how VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    scope VARCHAR,
    details JSON
)
""",
    """
CREATE TABLE deployment (
    id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    latitude DOUBLE,
    longitude DOUBLE,
    start_at VARCHAR,
    end_at VARCHAR,
    clock_shift_seconds DOUBLE DEFAULT '0' NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name)
)
""",
    """
CREATE TABLE model_version (
    id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    created_at VARCHAR NOT NULL,
    went_live_at VARCHAR,
    backbone VARCHAR NOT NULL,
    layout VARCHAR NOT NULL,
    weights_sha256 VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    figures JSON NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name)
)
""",
    """
CREATE UNIQUE INDEX model_version_live ON model_version (state) WHERE state = 'live'
""",
    """
CREATE TABLE species (
    id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    scientific_name VARCHAR,
    taxon_key VARCHAR,
    names JSON NOT NULL,
    merged_into INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(merged_into) REFERENCES species (id)
)
""",
    """
CREATE UNIQUE INDEX species_by_name ON species (name) WHERE merged_into IS NULL
""",
    """
CREATE TABLE state (
    "key" VARCHAR NOT NULL,
    value JSON NOT NULL,
    updated_at VARCHAR NOT NULL,
    PRIMARY KEY ("key")
)
""",
    """
CREATE TABLE media (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sha256 VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    size BIGINT NOT NULL,
    width INTEGER,
    height INTEGER,
    status VARCHAR NOT NULL,
    rejected_reason VARCHAR,
    deployment_id INTEGER NOT NULL,
    event_id INTEGER,
    captured_wall VARCHAR NOT NULL,
    utc_offset_seconds INTEGER NOT NULL,
    captured_at_source VARCHAR NOT NULL,
    utc_offset_source VARCHAR NOT NULL,
    captured_at VARCHAR NOT NULL,
    captured_local VARCHAR NOT NULL,
    camera_make VARCHAR,
    camera_model VARCHAR,
    camera_serial VARCHAR,
    temperature_celsius DOUBLE,
    taken_in_at VARCHAR NOT NULL,
    classified_at VARCHAR,
    absent_since VARCHAR,
    label_id INTEGER,
    UNIQUE (sha256),
    FOREIGN KEY(deployment_id) REFERENCES deployment (id)
)
""",
    """
CREATE INDEX media_by_deployment ON media (deployment_id, captured_at, label_id, status)
""",
    """
CREATE INDEX media_by_event ON media (event_id)
""",
    """
CREATE INDEX media_by_status ON media (status, absent_since)
""",
    """
CREATE INDEX media_by_time ON media (captured_at, label_id, status)
""",
    """
CREATE INDEX media_labelled ON media (captured_at, label_id) WHERE label_id IS NOT NULL
""",
    """
CREATE INDEX media_pending ON media (captured_at, id) WHERE status = 'pending' AND absent_since IS NULL
""",
    """
CREATE TABLE species_name (
    folded VARCHAR NOT NULL,
    species_id INTEGER NOT NULL,
    PRIMARY KEY (folded),
    FOREIGN KEY(species_id) REFERENCES species (id)
)
""",
    """
CREATE TABLE training_run (
    id INTEGER NOT NULL,
    started_at VARCHAR NOT NULL,
    finished_at VARCHAR,
    state VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    "trigger" VARCHAR NOT NULL,
    pid INTEGER NOT NULL,
    stage VARCHAR NOT NULL,
    progress DOUBLE NOT NULL,
    last_label_id INTEGER NOT NULL,
    model_version_id INTEGER,
    message VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(model_version_id) REFERENCES model_version (id)
)
""",
    """
CREATE TABLE file (
    path_bytes BLOB NOT NULL,
    path VARCHAR NOT NULL,
    size BIGINT NOT NULL,
    mtime_ns BIGINT NOT NULL,
    media_id INTEGER,
    problem VARCHAR,
    PRIMARY KEY (path_bytes),
    FOREIGN KEY(media_id) REFERENCES media (id)
)
 WITHOUT ROWID
""",
    """
CREATE INDEX file_by_path ON file (path)
""",
    """
CREATE INDEX file_problem ON file (problem) WHERE problem IS NOT NULL
""",
    """
CREATE INDEX ix_file_media_id ON file (media_id)
""",
    """
CREATE TABLE label (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    act_id INTEGER NOT NULL,
    media_id INTEGER NOT NULL,
    withdraws_id INTEGER,
    FOREIGN KEY(act_id) REFERENCES act (id),
    FOREIGN KEY(media_id) REFERENCES media (id),
    UNIQUE (withdraws_id),
    FOREIGN KEY(withdraws_id) REFERENCES label (id)
)
""",
    """
CREATE INDEX ix_label_act_id ON label (act_id)
""",
    """
CREATE INDEX ix_label_media_id ON label (media_id)
""",
    """
CREATE TABLE prediction (
    id INTEGER NOT NULL,
    media_id INTEGER NOT NULL,
    model_version_id INTEGER NOT NULL,
    deployment_id INTEGER NOT NULL,
    species_id INTEGER NOT NULL,
    probability DOUBLE NOT NULL,
    alternatives JSON NOT NULL,
    at VARCHAR NOT NULL,
    captured_at VARCHAR NOT NULL,
    current BOOLEAN NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (media_id, model_version_id),
    FOREIGN KEY(media_id) REFERENCES media (id),
    FOREIGN KEY(model_version_id) REFERENCES model_version (id),
    FOREIGN KEY(deployment_id) REFERENCES deployment (id),
    FOREIGN KEY(species_id) REFERENCES species (id)
)
""",
    """
CREATE INDEX prediction_by_deployment ON prediction (deployment_id, captured_at, species_id, probability, media_id) WHERE current = 1
""",
    """
CREATE INDEX prediction_by_species ON prediction (species_id, captured_at, probability, media_id) WHERE current = 1
""",
    """
CREATE INDEX prediction_by_version ON prediction (model_version_id, current)
""",
    """
CREATE INDEX prediction_by_probability ON prediction (probability, media_id) WHERE current = 1
""",
    """
CREATE UNIQUE INDEX prediction_current ON prediction (media_id) WHERE current = 1
""",
    """
CREATE INDEX prediction_search ON prediction (captured_at, species_id, probability, media_id) WHERE current = 1
""",
    """
CREATE TABLE split (
    media_id INTEGER NOT NULL,
    side VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    unit_key INTEGER NOT NULL,
    PRIMARY KEY (media_id),
    FOREIGN KEY(media_id) REFERENCES media (id)
)
""",
    """
CREATE INDEX split_by_unit ON split (unit, unit_key)
""",
    """
CREATE TABLE observation (
    label_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    species_id INTEGER NOT NULL,
    count INTEGER,
    sex VARCHAR,
    life_stage VARCHAR,
    behaviour VARCHAR,
    PRIMARY KEY (label_id, position),
    FOREIGN KEY(label_id) REFERENCES label (id),
    FOREIGN KEY(species_id) REFERENCES species (id)
)
 WITHOUT ROWID
""",
    """
CREATE INDEX observation_by_species ON observation (species_id, position, label_id)
""",
    """
CREATE VIEW sightings AS
SELECT
    m.id AS media_id,
    m.path AS path,
    m.sha256 AS sha256,
    m.captured_at AS captured_at,
    m.captured_local AS captured_local,
    d.name AS deployment,
    CASE WHEN m.label_id IS NOT NULL THEN ls.name ELSE ps.name END AS species,
    CASE WHEN m.label_id IS NULL THEN p.probability END AS probability,
    CASE WHEN m.label_id IS NOT NULL THEN 'label'
         WHEN p.id IS NOT NULL THEN 'prediction' ELSE 'none' END AS source,
    v.name AS model_version,
    a.by AS labelled_by,
    p.alternatives AS alternatives,
    (SELECT json_group_array(json_object(
        'species', s.name, 'count', o.count, 'sex', o.sex,
        'life_stage', o.life_stage, 'behaviour', o.behaviour))
     FROM (SELECT * FROM observation WHERE label_id = m.label_id ORDER BY position) o
     JOIN species s0 ON s0.id = o.species_id
     JOIN species s ON s.id = COALESCE(s0.merged_into, s0.id)) AS observations,
    m.event_id AS event_id,
    m.status AS status,
    m.rejected_reason AS rejected_reason,
    NULL AS novelty,
    NULL AS box
FROM media m
JOIN deployment d ON d.id = m.deployment_id
LEFT JOIN prediction p ON p.media_id = m.id AND p.current = 1
LEFT JOIN species ps0 ON ps0.id = p.species_id
LEFT JOIN species ps ON ps.id = COALESCE(ps0.merged_into, ps0.id)
LEFT JOIN model_version v ON v.id = p.model_version_id
LEFT JOIN label l ON l.id = m.label_id
LEFT JOIN act a ON a.id = l.act_id
LEFT JOIN observation lo ON lo.label_id = m.label_id AND lo.position = 0
LEFT JOIN species ls0 ON ls0.id = lo.species_id
LEFT JOIN species ls ON ls.id = COALESCE(ls0.merged_into, ls0.id)
""",
]


# What a person said is never changed. INSERT OR REPLACE deletes without asking the delete trigger
# (unless recursive_triggers is on), so a key that is taken is refused too.
APPEND_ONLY = {
    "act": "id = NEW.id",
    "label": "id = NEW.id OR withdraws_id = NEW.withdraws_id",
    "observation": "label_id = NEW.label_id AND position = NEW.position",
}
TRIGGERS = [
    ("changed", "BEFORE UPDATE ON {table}"),
    ("deleted", "BEFORE DELETE ON {table}"),
    ("replaced", "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken})"),
]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table, taken in APPEND_ONLY.items():
        for name, when in TRIGGERS:
            op.execute(
                f"CREATE TRIGGER {table}_is_never_{name} {when.format(table=table, taken=taken)} "
                "BEGIN SELECT RAISE(ABORT, 'labels are append-only'); END"
            )
