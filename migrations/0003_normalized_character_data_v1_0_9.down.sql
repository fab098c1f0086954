-- Rows that moved to character_roleplay_config and character_ai_scenarios stay there: they may have been edited since.

alter table communication_styles add column ai_identity_handling text;

drop table character_response_style_items;
drop table character_response_style;
drop table character_response_patterns;
drop table character_general_conversation;
drop table character_mode_examples;
drop table character_mode_guidance;
drop table character_conversation_modes;
drop table generic_keyword_templates;
drop table character_question_templates;
drop table character_entity_categories;
