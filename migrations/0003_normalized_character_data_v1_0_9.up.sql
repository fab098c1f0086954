-- Entity categories and question templates.

create table character_entity_categories (
    id                  serial       primary key,
    character_id        integer      not null references characters (id) on delete cascade,
    entity_keyword      varchar(100) not null,
    category_type       varchar(50)  not null,
    question_preference varchar(50),
    priority_level      integer      not null default 3,
    created_at          timestamp    default current_timestamp,
    updated_at          timestamp    default current_timestamp,
    constraint uq_character_entity_keyword unique (character_id, entity_keyword)
);
create index idx_character_entity_categories_character_id on character_entity_categories (character_id);
create index idx_character_entity_categories_keyword on character_entity_categories (entity_keyword);
create index idx_character_entity_categories_priority on character_entity_categories (priority_level);
create index idx_character_entity_categories_type on character_entity_categories (category_type);

create table character_question_templates (
    id                serial      primary key,
    character_id      integer     not null references characters (id) on delete cascade,
    gap_type          varchar(50) not null,
    template_text     text        not null,
    personality_style varchar(50),
    priority_order    integer     not null default 1,
    keywords          varchar(100)[],
    created_at        timestamp   default current_timestamp,
    updated_at        timestamp   default current_timestamp,
    constraint uq_character_gap_template unique (character_id, gap_type, template_text)
);
create index idx_character_question_templates_character_id on character_question_templates (character_id);
create index idx_character_question_templates_gap_type on character_question_templates (gap_type);
create index idx_character_question_templates_priority on character_question_templates (priority_order);
create index idx_character_question_templates_style on character_question_templates (personality_style);

create table generic_keyword_templates (
    id             serial       primary key,
    category       varchar(50)  not null,
    template_name  varchar(100) not null,
    keywords       varchar[]    not null,
    description    text,
    priority_order integer      not null,
    is_active      boolean      not null,
    created_at     timestamptz  not null default now(),
    updated_at     timestamptz  not null default now()
);
create index idx_generic_keyword_templates_active on generic_keyword_templates (is_active);
create index idx_generic_keyword_templates_category on generic_keyword_templates (category);

-- Conversation modes, general conversation and response style, which replace communication_styles.conversation_flow_guidance.

create table character_conversation_modes (
    id               serial       primary key,
    character_id     integer      not null references characters (id) on delete cascade,
    mode_name        varchar(100) not null,
    energy_level     varchar(50),
    approach         text,
    transition_style text,
    created_at       timestamp    not null default current_timestamp,
    updated_at       timestamp    not null default current_timestamp,
    unique (character_id, mode_name)
);
create index idx_conversation_modes_character on character_conversation_modes (character_id);

create table character_mode_guidance (
    id            serial      primary key,
    mode_id       integer     not null references character_conversation_modes (id) on delete cascade,
    guidance_type varchar(20) not null,
    guidance_text text        not null,
    sort_order    integer     not null,
    created_at    timestamp   not null default current_timestamp,
    constraint ck_guidance_type check (guidance_type in ('avoid', 'encourage'))
);
create index idx_mode_guidance_mode on character_mode_guidance (mode_id);

create table character_mode_examples (
    id           serial    primary key,
    mode_id      integer   not null references character_conversation_modes (id) on delete cascade,
    example_text text      not null,
    example_type varchar(50),
    sort_order   integer   not null,
    created_at   timestamp not null default current_timestamp
);
create index idx_mode_examples_mode on character_mode_examples (mode_id);

create table character_general_conversation (
    id                  serial    primary key,
    character_id        integer   not null unique references characters (id) on delete cascade,
    default_energy      varchar(50),
    conversation_style  text,
    transition_approach text,
    created_at          timestamp not null default current_timestamp,
    updated_at          timestamp not null default current_timestamp
);

create table character_response_patterns (
    id                      serial    primary key,
    general_conversation_id integer   not null references character_general_conversation (id) on delete cascade,
    pattern_name            varchar(100),
    pattern_description     text,
    sort_order              integer   not null,
    created_at              timestamp not null default current_timestamp
);
create index idx_response_patterns_general on character_response_patterns (general_conversation_id);

create table character_response_style (
    id           serial    primary key,
    character_id integer   not null unique references characters (id) on delete cascade,
    created_at   timestamp not null default current_timestamp,
    updated_at   timestamp not null default current_timestamp
);

create table character_response_style_items (
    id                serial      primary key,
    response_style_id integer     not null references character_response_style (id) on delete cascade,
    item_type         varchar(50) not null,
    item_text         text        not null,
    sort_order        integer     not null,
    created_at        timestamp   not null default current_timestamp
);
create index idx_response_style_items_style on character_response_style_items (response_style_id);

-- communication_styles.ai_identity_handling goes away. What it says of role-play moves to character_roleplay_config and
-- character_ai_scenarios; a row or scenario that is already there stays as it is. The archive keeps the whole text.

do $$
declare
    style    record;
    handling jsonb;
    scenario record;
begin
    for style in
        -- Reading the row as JSON also serves a database where the column was dropped by hand.
        select s.character_id, to_jsonb(s) ->> 'ai_identity_handling' as source
        from communication_styles s
        join characters c on c.id = s.character_id
        order by s.id
    loop
        begin
            handling := style.source::jsonb;
        exception when others then
            -- Text that is not JSON has no place in the new tables and must not stop an upgrade.
            handling := null;
        end;
        continue when jsonb_typeof(handling) is distinct from 'object';

        if handling ?| array['allow_full_roleplay_immersion', 'philosophy', 'strategy', 'approach'] then
            insert into character_roleplay_config (character_id, allow_full_roleplay_immersion, philosophy, strategy)
            select style.character_id, coalesce(handling -> 'allow_full_roleplay_immersion' = 'true', false),
                   handling ->> 'philosophy', coalesce(handling ->> 'strategy', handling ->> 'approach')
            where not exists (
                select from character_roleplay_config known where known.character_id = style.character_id);
        end if;

        for scenario in
            select key as name, value as body
            from jsonb_each(case jsonb_typeof(handling -> 'roleplay_interaction_scenarios')
                            when 'object' then handling -> 'roleplay_interaction_scenarios' else '{}' end)
            where jsonb_typeof(value) = 'object'
        loop
            if scenario.name = 'examples' then
                insert into character_ai_scenarios
                    (character_id, scenario_type, scenario_name, response_pattern, tier_1_response)
                select style.character_id, 'example_scenario', left(example.key, 200), 'single_response', example.value
                from jsonb_each_text(scenario.body) as example
                where not exists (
                    select from character_ai_scenarios known
                    where known.character_id = style.character_id and known.scenario_name = left(example.key, 200));
                continue;
            end if;

            -- Tiers are keys of the scenario or of an object in it (tier_1, tier_1_enthusiasm, …); phrases and elements are lists.
            insert into character_ai_scenarios
                (character_id, scenario_type, scenario_name, trigger_phrases, response_pattern,
                 tier_1_response, tier_2_response, tier_3_response, example_usage)
            select style.character_id,
                   case scenario.name
                       when 'physical_meetups' then 'physical_interaction'
                       when 'shared_activities' then 'activity_participation'
                       else 'roleplay_interaction'
                   end,
                   left(scenario.name, 200),
                   coalesce(list.phrases, scenario.body ->> 'trigger_phrases', scenario.body ->> 'trigger_detection'),
                   left(coalesce(scenario.body ->> 'response_pattern',
                                 case when tier.one is not null then 'three_tier'
                                      when scenario.body -> 'allow' = 'true' then 'allowed'
                                      when scenario.body -> 'allow' = 'false' then 'not_allowed' end), 100),
                   coalesce(tier.one, scenario.body ->> 'approach'), tier.two, tier.three,
                   coalesce(scenario.body ->> 'reasoning', list.elements, scenario.body ->> 'key_elements')
            from (
                select min(value) filter (where key like 'tier\_1%') as one,
                       min(value) filter (where key like 'tier\_2%') as two,
                       min(value) filter (where key like 'tier\_3%') as three
                from jsonb_each_text(
                    case jsonb_typeof(scenario.body -> 'tiers') when 'object' then scenario.body -> 'tiers' else '{}' end
                    || scenario.body)
            ) as tier
            cross join (
                select string_agg(item, ', ' order by position) filter (where key like 'trigger\_%') as phrases,
                       string_agg(item, E'\n' order by position) filter (where key = 'key_elements') as elements
                from jsonb_each(scenario.body)
                cross join jsonb_array_elements_text(
                    case jsonb_typeof(value) when 'array' then value else '[]' end
                ) with ordinality as each (item, position)
                where key in ('trigger_phrases', 'trigger_detection', 'key_elements')
            ) as list
            where not exists (
                select from character_ai_scenarios known
                where known.character_id = style.character_id and known.scenario_name = left(scenario.name, 200));
        end loop;
    end loop;
end
$$;

alter table communication_styles drop column if exists ai_identity_handling;
