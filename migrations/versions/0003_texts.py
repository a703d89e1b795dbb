"""what became of rows that say the same, who labelled them, and jobs that only take a data version"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
COLUMNS = {
    "data_versions": [
        sa.Column(
            "texts",
            JSONB,
            nullable=True,
            comment="rows merged, contradictory, near_duplicates, retired, moved; see app/data/duplicates.py",
        ),
        sa.Column(
            "labelling",
            JSONB,
            nullable=True,
            comment="who gave the labels, and how far they agree with those before; see app/data/labelling.py",
        ),
    ],
    "training_jobs": [
        sa.Column(
            "stages",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="null: all; snapshot, label: only a data version is made",
        ),
        sa.Column("labelling", JSONB, nullable=True, comment="LabelOptions, where the rows are labelled first"),
    ],
}

# (column, comment, comment before)
COMMENTS = [
    (
        "dropped",
        "rows left out, by what they lack: label, key, time, text",
        "rows left out, by what they lack: label, key, time",
    ),
    ("labels", "[{column, label, rows}], the most frequent first", "[{label, rows}], the most frequent first"),
]


def upgrade() -> None:
    for column, comment, before in COMMENTS:
        op.alter_column("data_versions", column, comment=comment, existing_comment=before)
    for table, added in COLUMNS.items():
        for new in added:
            op.add_column(table, new)


def downgrade() -> None:
    for column, comment, before in COMMENTS:
        op.alter_column("data_versions", column, comment=before, existing_comment=comment)
    for table, added in COLUMNS.items():
        for new in added:
            op.drop_column(table, new.name)
