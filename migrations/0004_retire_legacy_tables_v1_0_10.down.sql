-- Rows that moved to other tables stay there: they may have been edited since.

alter table characters
    drop column emoji_cultural_influence,
    drop column emoji_age_demographic,
    drop column emoji_placement,
    drop column emoji_combination,
    drop column emoji_style,
    drop column emoji_frequency;

create table character_emotional_triggers_v2 (
    id                serial       primary key,
    character_id      integer      not null references characters (id) on delete cascade,
    trigger_text      text         not null,
    valence           varchar(100) not null,
    emotion_evoked    varchar(200),
    intensity         integer      check (intensity between 1 and 10),
    response_guidance text,
    display_order     integer,
    created_at        timestamp    default current_timestamp,
    unique (character_id, trigger_text, valence)
);
create index idx_emotional_triggers_char_val on character_emotional_triggers_v2 (character_id, valence);

create table character_roleplay_scenarios_v2 (
    id               serial       primary key,
    character_id     integer      not null references characters (id) on delete cascade,
    scenario_name    varchar(500) not null,
    response_pattern varchar(500),
    tier_1_response  text,
    tier_2_response  text,
    tier_3_response  text,
    created_at       timestamp    default current_timestamp,
    unique (character_id, scenario_name)
);
create index idx_roleplay_scenarios_char on character_roleplay_scenarios_v2 (character_id);

create table character_scenario_triggers_v2 (
    id             serial    primary key,
    scenario_id    integer   not null references character_roleplay_scenarios_v2 (id) on delete cascade,
    trigger_phrase text      not null,
    display_order  integer,
    created_at     timestamp default current_timestamp,
    unique (scenario_id, trigger_phrase)
);
create index idx_scenario_triggers_scenario on character_scenario_triggers_v2 (scenario_id);

alter table communication_styles add column conversation_flow_guidance text;
