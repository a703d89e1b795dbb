"""What is said to Postgres of feedback: thousands of rows in one statement, as JSON or as arrays."""

from sqlalchemy import text

KNOWN = text("""
    SELECT kept.request, kept.row, kept.head, kept.kind, kept.value, kept.state, kept.version, kept.slot, kept.truth,
           kept.predicted, kept.at
    FROM unnest(CAST(:requests AS uuid[]), CAST(:rows AS bigint[]), CAST(:heads AS text[]), CAST(:kinds AS text[]))
        AS asked (request, "row", head, kind)
    JOIN feedback AS kept USING (request, "row", head, kind)
    WHERE kept.model = :model
""")
KEEP = text("""
    INSERT INTO feedback AS kept (
        request, "row", head, kind, model, value, sender, at, state, why, try_at, version, slot, answered_at, truth,
        predicted)
    SELECT told.request, told."row", told.head, told.kind, :model, told.value, :sender, clock.at, told.state, told.why,
           clock.at + interval '1 second', told.version, told.slot, told.answered_at, told.truth, told.predicted
    FROM (SELECT CAST(:at AS timestamptz) AS at) AS clock, jsonb_to_recordset(CAST(:told AS jsonb)) AS told (
        request uuid, "row" bigint, head text, kind text, value jsonb, state text, why text, version bigint, slot text,
        answered_at timestamptz, truth bigint, predicted bigint)
    ON CONFLICT (request, "row", head, kind) DO UPDATE SET
        model = excluded.model, value = excluded.value, sender = excluded.sender, at = excluded.at,
        state = excluded.state, why = excluded.why,
        try_at = excluded.try_at, version = excluded.version, slot = excluded.slot, answered_at = excluded.answered_at,
        truth = excluded.truth, predicted = excluded.predicted
""")
COUNT = text("""
    INSERT INTO feedback_counts AS kept (model, version, slot, head, kind, at, truth, predicted, n)
    SELECT :model, told.version, told.slot, told.head, told.kind, date_trunc('minute', told.at, 'UTC'), told.truth,
           told.predicted, sum(told.n)
    FROM jsonb_to_recordset(CAST(:told AS jsonb)) AS told (
        version bigint, slot text, head text, kind text, at timestamptz, truth bigint, predicted bigint, n bigint)
    GROUP BY 2, 3, 4, 5, 6, 7, 8
    HAVING sum(told.n) <> 0
    ON CONFLICT (model, version, slot, head, kind, at, truth, predicted) DO UPDATE SET n = kept.n + excluded.n
""")
DUE_MODELS = text("SELECT DISTINCT model FROM feedback WHERE state = 'pending' AND try_at <= clock_timestamp()")
DUE = text("""
    SELECT request, "row", head, kind, value, at FROM feedback
    WHERE state = 'pending' AND model = :model AND try_at <= clock_timestamp() ORDER BY try_at LIMIT :most
""")
# An answer comes within seconds or not at all: the next look is as far away as the first is past.
SETTLE = text("""
    UPDATE feedback SET state = told.state, why = told.why, version = told.version, slot = told.slot,
        answered_at = told.answered_at, truth = told.truth, predicted = told.predicted,
        try_at = clock_timestamp() + greatest(interval '1 second', clock_timestamp() - feedback.at)
    FROM jsonb_to_recordset(CAST(:told AS jsonb)) AS told (
        request uuid, "row" bigint, head text, kind text, state text, why text, version bigint, slot text,
        answered_at timestamptz, truth bigint, predicted bigint)
    WHERE (feedback.request, feedback."row", feedback.head, feedback.kind)
        = (told.request, told."row", told.head, told.kind)
""")
GIVE_UP = text("""
    WITH gone AS (
        UPDATE feedback SET state = 'unknown'
        WHERE state = 'pending' AND at < clock_timestamp() - interval '1 day' RETURNING model)
    SELECT model, count(*) FROM gone GROUP BY model ORDER BY model
""")
TOLD_TODAY = text("""
    SELECT 1 FROM events WHERE kind = 'feedback.unknown' AND model = :model
        AND at > clock_timestamp() - interval '1 day' LIMIT 1
""")
