WITH ns AS MATERIALIZED (
    SELECT oid, nspname::text, nspowner, nspacl, nspname = ANY ({managed}) AS managed FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', {ledger})
), member AS MATERIALIZED (
    SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
), rel AS MATERIALIZED (
    SELECT c.oid, c.relname::text, c.relkind, c.relowner, c.relacl, n.nspname, n.managed
    FROM pg_class c JOIN ns n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
), part AS (
    SELECT 'pg_class'::regclass::oid AS class, i.indexrelid AS oid, i.indrelid AS relation, 'index' AS kind, x.relname::text AS name, true AS modelled, NULL::bigint AS print
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid, 'constraint', conname, true, NULL FROM pg_constraint
        WHERE conrelid <> 0 AND contype NOT IN ('n', 't')
    UNION ALL SELECT 'pg_trigger'::regclass, oid, tgrelid, 'trigger', tgname, true,
        hash_record_extended(ROW(tgfoid, tgtype, tgattr::text, tgqual::text, tgargs), 0) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'pg_policy'::regclass, oid, polrelid, 'policy', polname, true, NULL FROM pg_policy
    UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, d.adrelid, 'default', a.attname, false, a.attnum
        FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum) AND a.attgenerated = ''
    UNION ALL SELECT 'pg_rewrite'::regclass, oid, ev_class, 'rule', rulename, false,
        hash_record_extended(ROW(ev_type, is_instead, ev_qual::text, ev_action::text), 0) FROM pg_rewrite WHERE rulename <> '_RETURN'
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxrelid, 'statistics', stxname, false, NULL FROM pg_statistic_ext
    UNION ALL SELECT 'pg_publication_rel'::regclass, r.oid, r.prrelid, 'publication', p.pubname, false, NULL
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
), other AS (
    SELECT DISTINCT d.classid, d.objid FROM pg_depend d
    WHERE d.objid >= 16384 AND d.classid <> ALL (ARRAY['pg_class', 'pg_constraint', 'pg_trigger', 'pg_policy', 'pg_attrdef', 'pg_rewrite',
            'pg_statistic_ext', 'pg_publication_rel', 'pg_type', 'pg_proc', 'pg_namespace', 'pg_extension', 'pg_amop', 'pg_amproc', 'pg_default_acl']::regclass[])
        AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = d.classid AND i.objid = d.objid AND i.deptype IN ('e', 'i'))
    UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE contypid <> 0 AND contype <> 'n' AND oid >= 16384
)
SELECT 'pg_namespace'::regclass::oid, n.oid, 0, 'schema', n.nspname, '', '', false, pg_get_userbyid(n.nspowner)::text,
    {acl n.nspacl}, obj_description(n.oid, 'pg_namespace'), NULL::bigint
FROM ns n WHERE n.oid >= 16384
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid)
UNION ALL
SELECT 'pg_class'::regclass, r.oid, 0,
    CASE r.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
    r.nspname, r.relname, '', r.managed, pg_get_userbyid(r.relowner)::text, {acl r.relacl}, d.description,
    (SELECT hash_record_extended(ROW(w.ev_action::text), 0) FROM pg_rewrite w WHERE r.relkind IN ('v', 'm') AND w.ev_class = r.oid AND w.rulename = '_RETURN')
FROM rel r LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid AND d.objsubid = 0
WHERE r.relkind <> 'S' OR NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_class'::regclass AND i.objid = r.oid AND i.deptype IN ('a', 'i'))
UNION ALL
SELECT 'pg_attribute'::regclass, a.attrelid, a.attnum, CASE WHEN a.attisdropped THEN 'dropped column' ELSE 'column' END,
    r.nspname, r.relname, a.attname, r.managed, '', {acl a.attacl}, d.description, NULL
FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid AND d.objsubid = a.attnum
WHERE a.attisdropped OR a.attacl IS NOT NULL OR d.description IS NOT NULL
UNION ALL
SELECT 'pg_proc'::regclass, p.oid, 0, CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
    n.nspname, p.oid::regprocedure::text, '', n.managed, pg_get_userbyid(p.proowner)::text, {acl p.proacl}, d.description,
    hash_record_extended(ROW(p.prosrc, p.prosqlbody::text, p.prorettype, p.proretset, p.proargnames, p.prolang), 0)
FROM pg_proc p JOIN ns n ON n.oid = p.pronamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid AND d.objsubid = 0
WHERE NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype IN ('e', 'i'))
UNION ALL
SELECT 'pg_type'::regclass, t.oid, 0, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END,
    n.nspname, t.typname, '', n.managed, pg_get_userbyid(t.typowner)::text, {acl t.typacl}, d.description, NULL
FROM pg_type t JOIN ns n ON n.oid = t.typnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_type'::regclass AND d.objoid = t.oid AND d.objsubid = 0
WHERE (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_type'::regclass AND i.objid = t.oid AND i.deptype IN ('e', 'i'))
UNION ALL
SELECT p.class, p.oid, 0, p.kind, r.nspname, r.relname, p.name, r.managed, '', '', NULL, p.print
FROM part p JOIN rel r ON r.oid = p.relation WHERE NOT (r.managed AND p.modelled)
UNION ALL
SELECT o.classid, o.objid, 0, i.type, coalesce(i.schema, ''), '', i.identity, coalesce(i.schema = ANY ({managed}), false), '', '', NULL, NULL
FROM other o CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i
WHERE coalesce(i.schema, '') !~ '^pg_' AND coalesce(i.schema, '') <> {ledger}
