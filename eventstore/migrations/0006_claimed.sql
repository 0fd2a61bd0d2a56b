-- Whether a name is taken: asked before somebody fills in a form, and told without saying whose it is
-- depends: 0003_rights

-- migrate: apply
CREATE FUNCTION crewkit.claimed(wanted_scope text, wanted_key text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT EXISTS (SELECT FROM crewkit.claim c WHERE c.scope = wanted_scope AND c.key = wanted_key)
$fn$;
REVOKE ALL ON FUNCTION crewkit.claimed(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.claimed(text, text) TO crewkit_api, crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.claimed(text, text);
