-- Databases that began with v1.0.33 or v1.0.34 do not have the first of these.
drop table if exists character_emotional_states;
drop table character_learning_timeline;
drop table character_insight_relationships;
drop table character_insights;
