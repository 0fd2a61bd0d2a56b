-- Where is something sealed for a person?  What erasing and exporting a user's data everywhere has to know
-- depends: 0009_data_export

-- migrate: apply

-- The organizations that keep keys of people: their ids, nothing else.  One probe of the primary key per organization.
CREATE FUNCTION crewkit.sealing_organizations() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    WITH RECURSIVE found AS (
        (SELECT k.org_id FROM crewkit.subject_key k ORDER BY k.org_id LIMIT 1)
        UNION ALL
        SELECT (SELECT k.org_id FROM crewkit.subject_key k WHERE k.org_id > f.org_id ORDER BY k.org_id LIMIT 1)
          FROM found f WHERE f.org_id IS NOT NULL
    )
    SELECT f.org_id FROM found f WHERE f.org_id IS NOT NULL
$fn$;

-- Which of these subjects, each of the organization at its place, ever had a key?
CREATE FUNCTION crewkit.known_subjects(orgs uuid[], subjects uuid[]) RETURNS TABLE (org_id uuid, subject uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT k.org_id, k.subject FROM unnest(orgs, subjects) w (org_id, subject)
      JOIN crewkit.subject_key k ON k.org_id = w.org_id AND k.subject = w.subject
$fn$;

REVOKE ALL ON FUNCTION crewkit.sealing_organizations(), crewkit.known_subjects(uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.sealing_organizations(), crewkit.known_subjects(uuid[], uuid[])
    TO crewkit_api, crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.known_subjects(uuid[], uuid[]);
DROP FUNCTION crewkit.sealing_organizations();
