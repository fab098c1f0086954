drop function get_user_facts_with_relations(varchar, text, double precision, integer);
drop table bot_self_reflections;
drop table enrichment_processing_log;
