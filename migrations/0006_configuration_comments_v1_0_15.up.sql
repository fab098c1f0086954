comment on table character_deployment_config is 'How the container of a character runs';
comment on table character_discord_config is 'How a character appears and behaves on Discord';
comment on column character_discord_config.discord_bot_token is 'Secret, stored in plain text';
comment on table character_llm_config is 'Which language model a character uses, and its sampling parameters';
comment on column character_llm_config.llm_chat_api_key is 'Secret, stored in plain text';
