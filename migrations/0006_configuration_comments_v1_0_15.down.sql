comment on table character_deployment_config is null;
comment on table character_discord_config is null;
comment on column character_discord_config.discord_bot_token is null;
comment on table character_llm_config is null;
comment on column character_llm_config.llm_chat_api_key is null;
