drop table bot_deployments;
drop table character_llm_config;
drop table character_discord_config;
drop table character_deployment_config;
