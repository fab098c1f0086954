create table character_deployment_config (
    id                    serial      primary key,
    character_id          integer     not null references characters (id) on delete cascade,
    container_port        integer,
    health_check_port     integer,
    memory_limit          varchar(20) default '512m',
    cpu_limit             varchar(20) default '0.5',
    restart_policy        varchar(50) default 'unless-stopped',
    environment_variables json,
    volume_mounts         json,
    network_mode          varchar(50) default 'whisperengine-multi_default',
    deployment_status     varchar(50) default 'stopped',
    auto_deploy           boolean     default false,
    last_deployed_at      timestamptz,
    is_active             boolean     default true,
    created_at            timestamptz default current_timestamp,
    updated_at            timestamptz default current_timestamp,
    constraint uq_character_deployment_config_active unique (character_id, is_active)
);
create index idx_character_deployment_config_active on character_deployment_config (is_active);
create index idx_character_deployment_config_character_id on character_deployment_config (character_id);
create index idx_character_deployment_config_status on character_deployment_config (deployment_status);

create table character_discord_config (
    id                           serial       primary key,
    character_id                 integer      not null references characters (id) on delete cascade,
    discord_bot_token            text,
    discord_application_id       varchar(100),
    discord_guild_id             varchar(100),
    discord_status_message       varchar(200),
    discord_activity_type        varchar(50)  default 'playing',
    max_message_length           integer      default 2000,
    typing_delay_seconds         numeric(3,1) default 2.0,
    enable_reactions             boolean      default true,
    enable_typing_indicator      boolean      default true,
    is_active                    boolean      default true,
    created_at                   timestamptz  default current_timestamp,
    updated_at                   timestamptz  default current_timestamp,
    enable_discord               boolean      default true,
    discord_guild_restrictions   json,
    discord_channel_restrictions json,
    discord_status               varchar(50)  default 'online',
    constraint uq_character_discord_config_active unique (character_id, is_active)
);
create index idx_character_discord_config_active on character_discord_config (is_active);
create index idx_character_discord_config_character_id on character_discord_config (character_id);

create table character_llm_config (
    id                    serial       primary key,
    character_id          integer      not null references characters (id) on delete cascade,
    llm_client_type       varchar(100) not null default 'openrouter',
    llm_chat_api_url      varchar(500) not null default 'https://openrouter.ai/api/v1',
    llm_chat_model        varchar(200) not null default 'anthropic/claude-3-haiku',
    llm_chat_api_key      text,
    llm_temperature       numeric(3,2) default 0.7,
    llm_max_tokens        integer      default 4000,
    llm_top_p             numeric(3,2) default 0.9,
    llm_frequency_penalty numeric(3,2) default 0.0,
    llm_presence_penalty  numeric(3,2) default 0.0,
    is_active             boolean      default true,
    created_at            timestamptz  default current_timestamp,
    updated_at            timestamptz  default current_timestamp,
    constraint uq_character_llm_config_active unique (character_id, is_active)
);
create index idx_character_llm_config_active on character_llm_config (is_active);
create index idx_character_llm_config_character_id on character_llm_config (character_id);

create table bot_deployments (
    id             serial       primary key,
    character_id   integer      not null references characters (id) on delete cascade,
    container_name varchar(255) not null,
    port           integer      not null,
    status         varchar(50)  not null default 'deploying',
    config         json,
    error_message  text,
    created_at     timestamptz  default now(),
    deployed_at    timestamptz,
    stopped_at     timestamptz,
    constraint unique_character_deployment unique (character_id),
    constraint unique_container_name unique (container_name),
    constraint unique_port unique (port)
);
create index idx_bot_deployments_character_id on bot_deployments (character_id);
create index idx_bot_deployments_port on bot_deployments (port);
create index idx_bot_deployments_status on bot_deployments (status);
