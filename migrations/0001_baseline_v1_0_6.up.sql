-- The schema of WhisperEngine v1.0.6: 72 tables in their groups, then the functions, triggers and views.

-- Trigram and mixed-type GIN indexes below need the first two; the third is part of the release though nothing here uses it.
create extension if not exists pg_trgm;
create extension if not exists btree_gin;
create extension if not exists "uuid-ossp";

create type character_archetype_enum as enum ('real_world', 'fantasy_mystical', 'narrative_ai');
create type workflow_status_enum as enum ('active', 'paused', 'completed', 'failed', 'cancelled');

-- People and platforms.

create table users (
    id               serial    primary key,
    user_id          text      not null unique,
    username         text      not null,
    display_name     text,
    created_at       timestamp default current_timestamp,
    last_seen        timestamp default current_timestamp,
    message_count    integer   default 0,
    preferences      text      default '{}',
    privacy_settings text      default '{}'
);

create table universal_users (
    universal_id     varchar(255) primary key,
    primary_username varchar(255) not null,
    display_name     varchar(255),
    email            varchar(255),
    created_at       timestamp    not null default current_timestamp,
    last_active      timestamp    not null default current_timestamp,
    preferences      text         default '{}',
    privacy_settings text         default '{}'
);
create index idx_universal_users_email on universal_users (email);
create index idx_universal_users_username on universal_users (primary_username);

create table platform_identities (
    id               serial       primary key,
    universal_id     varchar(255) not null references universal_users (universal_id) on delete cascade,
    platform         varchar(50)  not null,
    platform_user_id varchar(255) not null,
    username         varchar(255) not null,
    display_name     varchar(255),
    email            varchar(255),
    verified_at      timestamp    not null default current_timestamp,
    unique (platform, platform_user_id)
);
create index idx_platform_identities_platform_user on platform_identities (platform, platform_user_id);
create index idx_platform_identities_universal_id on platform_identities (universal_id);

create table user_profiles (
    user_id            varchar(255) primary key,
    name               varchar(255),
    relationship_level integer      default 1,
    current_emotion    varchar(50)  default 'neutral',
    interaction_count  integer      default 0,
    first_interaction  timestamp,
    last_interaction   timestamp    default current_timestamp,
    emotion_history    jsonb        default '[]',
    escalation_count   integer      default 0,
    trust_indicators   jsonb        default '[]',
    preferences        jsonb        not null default '{}',
    created_at         timestamp    default current_timestamp,
    updated_at         timestamp    default current_timestamp
);
create index idx_user_profiles_last_interaction on user_profiles (last_interaction);
create index idx_user_profiles_preferences_gin on user_profiles using gin (preferences);
create index idx_user_profiles_relationship_level on user_profiles (relationship_level);

create table user_preferences (
    id               serial           primary key,
    user_id          varchar(255)     not null,
    bot_name         varchar(100)     not null,
    preference_type  varchar(100)     not null,
    preference_value varchar(500)     not null,
    confidence       double precision default 1.0,
    context          jsonb,
    created_at       timestamp        default now(),
    updated_at       timestamp        default now()
);
create index idx_user_preferences_lookup on user_preferences (user_id, bot_name, preference_type);

create table user_events (
    id               serial       primary key,
    user_id          varchar(255) not null,
    bot_name         varchar(100) not null,
    event_type       varchar(100) not null,
    event_data       jsonb        not null,
    location_context varchar(255),
    timestamp_utc    timestamp    default now(),
    created_at       timestamp    default now()
);
create index idx_user_events_temporal on user_events (user_id, bot_name, event_type, timestamp_utc desc);

create table banned_users (
    id              serial    primary key,
    discord_user_id text      not null unique,
    banned_by       text      not null,
    ban_reason      text,
    banned_at       timestamp default current_timestamp,
    expires_at      timestamp,
    is_active       boolean   default true,
    notes           text
);

-- Older relational memory.

create table conversations (
    id               serial    primary key,
    user_id          text      not null references users (user_id) on delete cascade,
    channel_id       text      not null,
    message_content  text      not null,
    bot_response     text,
    timestamp        timestamp default current_timestamp,
    context_used     text,
    response_time_ms integer,
    ai_model_used    text
);

create table facts (
    id               serial    primary key,
    user_id          text      references users (user_id),
    fact_type        text      not null,
    subject          text      not null,
    content          text      not null,
    confidence_score real      default 0.8,
    source           text,
    created_at       timestamp default current_timestamp,
    verified         boolean   default false,
    global_fact      boolean   default false
);

create table emotions (
    id               serial    primary key,
    user_id          text      not null references users (user_id),
    detected_emotion text      not null,
    confidence       real      not null,
    context          text,
    timestamp        timestamp default current_timestamp,
    response_adapted boolean   default false
);

create table memory_entries (
    id               serial    primary key,
    user_id          text      not null references users (user_id),
    memory_type      text      not null,
    content          text      not null,
    importance_score real      default 0.5,
    created_at       timestamp default current_timestamp,
    last_accessed    timestamp default current_timestamp,
    access_count     integer   default 0,
    tags             text      default '[]',
    metadata         text      default '{}'
);

create table relationships (
    id                serial    primary key,
    user_id           text      not null references users (user_id),
    relationship_type text      not null,
    strength          real      default 0.5,
    last_interaction  timestamp default current_timestamp,
    interaction_count integer   default 0,
    notes             text
);

-- Knowledge graph.

create table fact_entities (
    id            uuid      default gen_random_uuid() primary key,
    entity_type   text      not null,
    entity_name   text      not null,
    category      text,
    subcategory   text,
    attributes    jsonb     default '{}',
    search_vector tsvector  generated always as (
        to_tsvector('english',
            coalesce(entity_name, '') || ' ' || coalesce(category, '') || ' ' || coalesce(subcategory, '')
            || ' ' || coalesce(attributes ->> 'tags', ''))
    ) stored,
    created_at    timestamp default now(),
    updated_at    timestamp default now(),
    unique (entity_type, entity_name)
);
create index idx_fact_entities_attributes on fact_entities using gin (attributes);
create index idx_fact_entities_category on fact_entities (entity_type, category);
create index idx_fact_entities_name_lookup on fact_entities (entity_name);
create index idx_fact_entities_name_trgm on fact_entities using gin (entity_name gin_trgm_ops);
create index idx_fact_entities_search on fact_entities using gin (search_vector);
create index idx_fact_entities_type on fact_entities (entity_type);
create index idx_fact_entities_type_lookup on fact_entities (entity_type, entity_name);

create table user_fact_relationships (
    id                     uuid             default gen_random_uuid() primary key,
    user_id                varchar(255)     not null references universal_users (universal_id) on delete cascade,
    entity_id              uuid             not null references fact_entities (id) on delete cascade,
    relationship_type      text             not null check ((length(relationship_type) > 0) and (length(relationship_type) <= 50)),
    confidence             double precision default 0.5 check (confidence between 0 and 1),
    strength               double precision default 0.5 check (strength between 0 and 1),
    emotional_context      text,
    context_metadata       jsonb            default '{}',
    source_conversation_id text,
    mentioned_by_character text,
    source_platform        text             default 'discord',
    related_entities       jsonb            default '[]',
    created_at             timestamp        default now(),
    updated_at             timestamp        default now(),
    unique (user_id, entity_id, relationship_type)
);
create index idx_user_facts_character on user_fact_relationships (user_id, mentioned_by_character, confidence desc);
create index idx_user_facts_created on user_fact_relationships (user_id, created_at desc);
create index idx_user_facts_emotional on user_fact_relationships (user_id, emotional_context, confidence desc);
create index idx_user_facts_entity on user_fact_relationships (entity_id, confidence desc);
create index idx_user_facts_lookup on user_fact_relationships (user_id, confidence desc, updated_at desc);
create index idx_user_facts_related on user_fact_relationships using gin (related_entities);
create index idx_user_facts_type on user_fact_relationships (user_id, relationship_type, confidence desc);

create table entity_relationships (
    id                uuid             default gen_random_uuid() primary key,
    from_entity_id    uuid             not null references fact_entities (id) on delete cascade,
    to_entity_id      uuid             not null references fact_entities (id) on delete cascade,
    relationship_type text             not null check (relationship_type in ('similar_to', 'part_of', 'category_of', 'related_to', 'opposite_of', 'requires')),
    weight            double precision default 0.5 check (weight between 0 and 1),
    bidirectional     boolean          default false,
    metadata          jsonb            default '{}',
    created_at        timestamp        default now(),
    unique (from_entity_id, to_entity_id, relationship_type),
    check (from_entity_id <> to_entity_id)
);
create index idx_entity_rel_bidirectional on entity_relationships (bidirectional, from_entity_id, to_entity_id);
create index idx_entity_rel_forward on entity_relationships (from_entity_id, weight desc);
create index idx_entity_rel_reverse on entity_relationships (to_entity_id, weight desc);
create index idx_entity_rel_type on entity_relationships (relationship_type, weight desc);

-- Relationship scores.

create table relationship_scores (
    user_id           varchar(255) not null,
    bot_name          varchar(100) not null,
    trust             numeric(5,4) not null default 0.5000 check (trust between 0.0 and 1.0),
    affection         numeric(5,4) not null default 0.4000 check (affection between 0.0 and 1.0),
    attunement        numeric(5,4) not null default 0.3000 check (attunement between 0.0 and 1.0),
    interaction_count integer      not null default 0 check (interaction_count >= 0),
    last_updated      timestamp    not null default now(),
    created_at        timestamp    not null default now(),
    primary key (user_id, bot_name)
);
create index idx_relationship_scores_bot on relationship_scores (bot_name);
create index idx_relationship_scores_trust on relationship_scores (trust) where trust < 0.4;
create index idx_relationship_scores_user on relationship_scores (user_id);

create table relationship_events (
    id                   serial       primary key,
    user_id              varchar(255) not null,
    bot_name             varchar(100) not null,
    event_type           varchar(50)  not null,
    trust_delta          numeric(5,4),
    affection_delta      numeric(5,4),
    attunement_delta     numeric(5,4),
    trust_value          numeric(5,4),
    affection_value      numeric(5,4),
    attunement_value     numeric(5,4),
    conversation_quality varchar(20),
    emotion_variance     numeric(5,4),
    update_reason        text,
    created_at           timestamp    not null default now(),
    foreign key (user_id, bot_name) references relationship_scores (user_id, bot_name) on delete cascade
);
create index idx_relationship_events_timestamp on relationship_events (created_at desc);
create index idx_relationship_events_type on relationship_events (event_type);
create index idx_relationship_events_user_bot on relationship_events (user_id, bot_name);

create table trust_recovery_state (
    user_id                varchar(255) not null,
    bot_name               varchar(100) not null,
    recovery_stage         varchar(20)  not null,
    initial_trust          numeric(5,4) not null check (initial_trust between 0.0 and 1.0),
    current_trust          numeric(5,4) not null check (current_trust between 0.0 and 1.0),
    target_trust           numeric(5,4) not null check (target_trust between 0.0 and 1.0),
    progress_percentage    numeric(5,2) not null default 0.00 check (progress_percentage between 0.0 and 100.0),
    recovery_actions_taken text[],
    started_at             timestamp    not null,
    last_updated           timestamp    not null default now(),
    estimated_completion   timestamp,
    primary key (user_id, bot_name, started_at),
    foreign key (user_id, bot_name) references relationship_scores (user_id, bot_name) on delete cascade
);
create index idx_trust_recovery_stage on trust_recovery_state (recovery_stage) where recovery_stage in ('active', 'recovering');
create index idx_trust_recovery_user_bot on trust_recovery_state (user_id, bot_name);

-- Dynamic personality.

create table dynamic_personality_profiles (
    user_id                  varchar(255)     primary key,
    created_at               timestamp        default current_timestamp,
    updated_at               timestamp        default current_timestamp,
    total_conversations      integer          default 0,
    relationship_depth       double precision default 0.0,
    trust_level              double precision default 0.0,
    preferred_response_style jsonb            default '{}'
);

create table dynamic_personality_traits (
    id               serial       primary key,
    user_id          varchar(255) constraint fk_user_profile references dynamic_personality_profiles (user_id) on delete cascade,
    dimension        varchar(100),
    value            double precision,
    confidence       double precision,
    last_updated     timestamp    default current_timestamp,
    evidence_count   integer      default 0,
    evidence_sources jsonb        default '[]'
);
create index idx_dynamic_personality_traits_user_id on dynamic_personality_traits (user_id);

create table dynamic_conversation_analyses (
    id                 serial       primary key,
    user_id            varchar(255) constraint fk_user_profile_analysis references dynamic_personality_profiles (user_id) on delete cascade,
    context_id         varchar(255),
    timestamp          timestamp    default current_timestamp,
    message_length     integer,
    formality_score    double precision,
    emotional_openness double precision,
    conversation_depth double precision,
    topics_discussed   jsonb        default '[]',
    emotional_tone     varchar(50),
    humor_detected     boolean      default false,
    support_seeking    boolean      default false
);
create index idx_dynamic_conversation_analyses_timestamp on dynamic_conversation_analyses ("timestamp");
create index idx_dynamic_conversation_analyses_user_id on dynamic_conversation_analyses (user_id);

-- Characters: core and identity.

create table characters (
    id                  serial       primary key,
    name                varchar(500) not null,
    normalized_name     varchar(200) not null unique,
    occupation          varchar(500),
    description         text,
    archetype           varchar(100) default 'real-world',
    allow_full_roleplay boolean      default false,
    is_active           boolean      default true,
    created_at          timestamptz  default current_timestamp,
    updated_at          timestamptz  default current_timestamp,
    created_date        timestamp    default current_timestamp,
    updated_date        timestamp    default current_timestamp
);
create index idx_characters_active on characters (is_active);
create index idx_characters_active_lookup on characters (id) where is_active = true;
create index idx_characters_name_lookup on characters (name);
create index idx_characters_normalized_name on characters (normalized_name);

create table character_identity_details (
    id                       serial    primary key,
    character_id             integer   not null unique references characters (id) on delete cascade,
    full_name                varchar(500),
    nickname                 varchar(500),
    gender                   varchar(200),
    location                 text,
    essence_nature           text,
    essence_existence_method text,
    essence_anchor           text,
    essence_core_identity    text,
    created_at               timestamp default current_timestamp
);

create table character_background (
    id               serial      primary key,
    character_id     integer     references characters (id) on delete cascade,
    category         varchar(50) not null,
    period           varchar(100),
    title            text,
    description      text        not null,
    date_range       text,
    importance_level integer     default 5,
    created_date     timestamp   default current_timestamp
);
create index idx_character_background_category on character_background (character_id, category);
create index idx_character_background_category_importance on character_background (character_id, category, importance_level desc);
create index idx_character_background_description_trgm on character_background using gin (description gin_trgm_ops);
create index idx_character_background_importance on character_background (character_id, importance_level desc);

create table character_metadata (
    id             serial    primary key,
    character_id   integer   references characters (id) on delete cascade,
    version        integer   default 1,
    character_tags text[],
    created_date   timestamp default current_timestamp,
    updated_date   timestamp default current_timestamp,
    author         text,
    notes          text,
    unique (character_id, version)
);

create table character_current_context (
    id               serial    primary key,
    character_id     integer   not null unique references characters (id) on delete cascade,
    living_situation text,
    daily_routine    text,
    recent_events    text,
    created_at       timestamp default current_timestamp,
    updated_at       timestamp default current_timestamp
);

create table character_current_goals (
    id            serial    primary key,
    character_id  integer   not null references characters (id) on delete cascade,
    goal_text     text      not null,
    priority      varchar(100),
    timeframe     varchar(200),
    status        varchar(100),
    display_order integer,
    created_at    timestamp default current_timestamp,
    unique (character_id, display_order)
);
create index idx_current_goals_active on character_current_goals (character_id, status) where status = 'active';
create index idx_current_goals_char on character_current_goals (character_id);

create table character_appearance (
    id           serial       primary key,
    character_id integer      references characters (id) on delete cascade,
    category     varchar(50)  not null,
    attribute    varchar(100) not null,
    value        text         not null,
    description  text,
    unique (character_id, category, attribute)
);
create index idx_character_appearance_category on character_appearance (character_id, category);

create table character_abilities (
    id                 serial       primary key,
    character_id       integer      references characters (id) on delete cascade,
    category           varchar(50)  not null,
    ability_name       varchar(100) not null,
    proficiency_level  integer      default 5,
    description        text,
    development_method text,
    usage_frequency    varchar(20)  default 'regular',
    unique (character_id, category, ability_name)
);
create index idx_character_abilities_category on character_abilities (character_id, category);
create index idx_character_abilities_proficiency on character_abilities (character_id, proficiency_level desc);

create table character_essence (
    id            serial       primary key,
    character_id  integer      references characters (id) on delete cascade,
    essence_type  varchar(50)  not null,
    essence_name  varchar(100) not null,
    description   text         not null,
    manifestation text,
    power_level   integer,
    unique (character_id, essence_type, essence_name)
);
create index idx_character_essence_type on character_essence (character_id, essence_type);

create table character_memories (
    id               serial       primary key,
    character_id     integer      references characters (id) on delete cascade,
    memory_type      varchar(50)  not null,
    title            varchar(200) not null,
    description      text         not null,
    emotional_impact integer      default 5,
    time_period      text,
    importance_level integer      default 5,
    triggers         text[],
    created_date     timestamp    default current_timestamp
);
create index idx_character_memories_emotional_impact on character_memories (character_id, emotional_impact desc);
create index idx_character_memories_importance on character_memories (character_id, importance_level desc);
create index idx_character_memories_trigger_importance on character_memories using gin (character_id, triggers, importance_level);
create index idx_character_memories_triggers_gin on character_memories using gin (triggers);
create index idx_character_memories_type on character_memories (character_id, memory_type);

create table character_relationships (
    id                    serial       primary key,
    character_id          integer      references characters (id) on delete cascade,
    related_entity        varchar(200) not null,
    relationship_type     varchar(50)  not null,
    relationship_strength integer      default 5,
    description           text,
    status                varchar(20)  default 'active',
    created_date          timestamp    default current_timestamp,
    communication_style   text,
    memory_sharing        text,
    name_usage            text,
    connection_nature     text,
    recognition_pattern   text
);
create index idx_character_relationships_strength on character_relationships (character_id, relationship_strength desc);
create index idx_character_relationships_type on character_relationships (character_id, relationship_type);
create index idx_character_relationships_type_strength on character_relationships (character_id, relationship_type, relationship_strength desc);

create table character_interests (
    id                serial       primary key,
    character_id      integer      not null references characters (id) on delete cascade,
    category          varchar(200) not null,
    interest_text     text         not null,
    proficiency_level integer      check (proficiency_level between 1 and 10),
    importance        varchar(100),
    frequency         varchar(100),
    display_order     integer,
    created_at        timestamp    default current_timestamp,
    unique (character_id, category, display_order)
);
create index idx_interests_char_cat on character_interests (character_id, category);

create table character_expertise_domains (
    id                 serial       primary key,
    character_id       integer      references characters (id) on delete cascade,
    domain_name        varchar(200) not null,
    expertise_level    varchar(50),
    domain_description text,
    key_concepts       text,
    teaching_approach  text,
    passion_level      integer,
    examples           text
);
create index idx_expertise_domains_character on character_expertise_domains (character_id, domain_name);

create table character_attributes (
    id            serial       primary key,
    character_id  integer      not null references characters (id) on delete cascade,
    category      varchar(200) not null,
    description   text         not null,
    importance    varchar(100),
    display_order integer,
    active        boolean      default true,
    created_at    timestamp    default current_timestamp,
    unique (character_id, category, display_order)
);
create index idx_attributes_active on character_attributes (character_id, category) where active = true;
create index idx_attributes_char_cat on character_attributes (character_id, category);

create table character_values (
    id                serial       primary key,
    character_id      integer      references characters (id) on delete cascade,
    value_key         varchar(300) not null,
    value_description text         not null,
    importance_level  varchar(100) default 'medium',
    category          varchar(200),
    unique (character_id, value_key)
);
create index idx_character_values_character on character_values (character_id);

create table personality_traits (
    id           serial       primary key,
    character_id integer      references characters (id) on delete cascade,
    trait_name   varchar(200) not null,
    trait_value  numeric(3,2),
    intensity    varchar(100),
    description  text,
    unique (character_id, trait_name)
);
create index idx_personality_traits_character on personality_traits (character_id);

-- Characters: speech and behaviour.

create table communication_styles (
    id                         serial  primary key,
    character_id               integer references characters (id) on delete cascade,
    engagement_level           numeric(3,2),
    formality                  varchar(500),
    emotional_expression       numeric(3,2),
    response_length            text,
    conversation_flow_guidance text,
    ai_identity_handling       text,
    response_length_preference varchar(200)
);
create index idx_communication_styles_character on communication_styles (character_id);

create table character_communication_patterns (
    id            serial       primary key,
    character_id  integer      references characters (id) on delete cascade,
    pattern_type  varchar(50)  not null,
    pattern_name  varchar(100) not null,
    pattern_value text         not null,
    context       varchar(100),
    frequency     varchar(20)  default 'regular',
    description   text,
    unique (character_id, pattern_type, pattern_name)
);
create index idx_character_patterns_type on character_communication_patterns (character_id, pattern_type);

create table character_speech_patterns (
    id              serial       primary key,
    character_id    integer      references characters (id) on delete cascade,
    pattern_type    varchar(100) not null,
    pattern_value   text         not null,
    usage_frequency varchar(50),
    context         varchar(100),
    priority        integer      default 50
);
create index idx_speech_patterns_character on character_speech_patterns (character_id, pattern_type);

create table character_vocabulary (
    id             serial       primary key,
    character_id   integer      not null references characters (id) on delete cascade,
    word_or_phrase text         not null,
    preference     varchar(100) not null,
    usage_context  text,
    frequency      varchar(100),
    reason         text,
    display_order  integer,
    created_at     timestamp    default current_timestamp,
    unique (character_id, word_or_phrase, preference)
);
create index idx_vocabulary_char_pref on character_vocabulary (character_id, preference);

create table character_voice_profile (
    id                       serial    primary key,
    character_id             integer   not null unique references characters (id) on delete cascade,
    tone                     text,
    pace                     text,
    volume                   text,
    accent                   text,
    sentence_structure       text,
    punctuation_style        text,
    response_length_guidance text,
    created_at               timestamp default current_timestamp
);

create table character_voice_traits (
    id                  serial       primary key,
    character_id        integer      references characters (id) on delete cascade,
    trait_type          varchar(100) not null,
    trait_value         text         not null,
    situational_context text,
    examples            text
);
create index idx_voice_traits_character on character_voice_traits (character_id, trait_type);

create table character_cultural_expressions (
    id                serial       primary key,
    character_id      integer      references characters (id) on delete cascade,
    expression_type   varchar(100) not null,
    expression_value  text         not null,
    meaning           text,
    usage_context     text,
    emotional_context varchar(50),
    frequency         varchar(50)
);
create index idx_cultural_expressions_character on character_cultural_expressions (character_id, expression_type);

create table character_emoji_patterns (
    id               serial       primary key,
    character_id     integer      references characters (id) on delete cascade,
    pattern_category varchar(100) not null,
    pattern_name     varchar(100) not null,
    emoji_sequence   text,
    usage_context    text,
    frequency        varchar(50),
    example_usage    text
);
create index idx_emoji_patterns_character on character_emoji_patterns (character_id, pattern_category);

create table character_emotion_profile (
    id           serial    primary key,
    character_id integer   not null unique references characters (id) on delete cascade,
    default_mood text,
    created_at   timestamp default current_timestamp
);

create table character_emotion_range (
    id             serial       primary key,
    character_id   integer      not null references characters (id) on delete cascade,
    emotion_name   varchar(200) not null,
    base_intensity numeric(3,2) check (base_intensity between 0 and 1),
    notes          text,
    created_at     timestamp    default current_timestamp,
    unique (character_id, emotion_name)
);
create index idx_emotion_range_char on character_emotion_range (character_id);

create table character_emotional_triggers (
    id                 serial       primary key,
    character_id       integer      references characters (id) on delete cascade,
    trigger_type       varchar(100) not null,
    trigger_category   varchar(100),
    trigger_content    text         not null,
    emotional_response text,
    response_intensity varchar(50),
    response_examples  text
);
create index idx_emotional_triggers_character on character_emotional_triggers (character_id, trigger_type);

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

create table character_behavioral_triggers (
    id                   serial       primary key,
    character_id         integer      references characters (id) on delete cascade,
    trigger_type         varchar(50)  not null,
    trigger_value        varchar(200) not null,
    response_type        varchar(50)  not null,
    response_description text         not null,
    intensity_level      integer      default 5,
    created_date         timestamp    default current_timestamp
);
create index idx_character_triggers_type on character_behavioral_triggers (character_id, trigger_type);

create table character_message_triggers (
    id               serial       primary key,
    character_id     integer      references characters (id) on delete cascade,
    trigger_category varchar(100) not null,
    trigger_type     varchar(50)  not null,
    trigger_value    text         not null,
    response_mode    varchar(100),
    priority         integer      default 50,
    is_active        boolean      default true
);
create index idx_message_triggers_character on character_message_triggers (character_id, trigger_category);

create table character_response_modes (
    id                           serial       primary key,
    character_id                 integer      references characters (id) on delete cascade,
    mode_name                    varchar(100) not null,
    mode_description             text,
    response_style               text,
    length_guideline             text,
    tone_adjustment              text,
    conflict_resolution_priority integer,
    examples                     text
);
create index idx_response_modes_character on character_response_modes (character_id, mode_name);

create table character_response_guidelines (
    id                serial       primary key,
    character_id      integer      references characters (id) on delete cascade,
    guideline_type    varchar(100) not null,
    guideline_name    varchar(200),
    guideline_content text         not null,
    priority          integer      default 50,
    context           varchar(100),
    is_critical       boolean      default false,
    created_date      timestamp    default current_timestamp
);
create index idx_response_guidelines_character on character_response_guidelines (character_id, guideline_type);

create table character_directives (
    id             serial       primary key,
    character_id   integer      not null references characters (id) on delete cascade,
    directive_type varchar(200) not null,
    directive_text text         not null,
    priority       integer      check (priority between 1 and 10),
    display_order  integer,
    context        varchar(500),
    active         boolean      default true,
    created_at     timestamp    default current_timestamp,
    unique (character_id, directive_type, display_order)
);
create index idx_directives_char_type on character_directives (character_id, directive_type);
create index idx_directives_priority on character_directives (character_id, priority desc) where active = true;

create table character_instructions (
    id               serial      primary key,
    character_id     integer     references characters (id) on delete cascade,
    instruction_type varchar(50) not null,
    priority         integer     default 5,
    instruction_text text        not null,
    context          text,
    active           boolean     default true,
    created_date     timestamp   default current_timestamp
);
create index idx_character_instructions_type on character_instructions (character_id, instruction_type);

create table character_conversation_flows (
    id                   serial       primary key,
    character_id         integer      references characters (id) on delete cascade,
    flow_type            varchar(200) not null,
    flow_name            varchar(200),
    energy_level         varchar(200),
    approach_description text,
    transition_style     text,
    priority             integer      default 50,
    context              text
);
create index idx_conversation_flows_character on character_conversation_flows (character_id, flow_type);

create table character_conversation_directives (
    id                   serial      primary key,
    conversation_flow_id integer     references character_conversation_flows (id) on delete cascade,
    directive_type       varchar(50) not null,
    directive_content    text        not null,
    order_sequence       integer
);

create table character_conversation_contexts (
    id                 serial       primary key,
    character_id       integer      not null references characters (id) on delete cascade,
    context_name       varchar(500) not null,
    energy_description text,
    approach_strategy  text,
    transition_style   text,
    created_at         timestamp    default current_timestamp,
    unique (character_id, context_name)
);
create index idx_conv_contexts_char on character_conversation_contexts (character_id);

create table character_context_guidance (
    id            serial       primary key,
    context_id    integer      not null references character_conversation_contexts (id) on delete cascade,
    guidance_type varchar(200) not null,
    guidance_text text         not null,
    display_order integer,
    created_at    timestamp    default current_timestamp,
    unique (context_id, guidance_type, display_order)
);
create index idx_context_guidance_type on character_context_guidance (context_id, guidance_type);

create table character_ai_scenarios (
    id               serial       primary key,
    character_id     integer      references characters (id) on delete cascade,
    scenario_type    varchar(100) not null,
    scenario_name    varchar(200),
    trigger_phrases  text,
    response_pattern varchar(100),
    tier_1_response  text,
    tier_2_response  text,
    tier_3_response  text,
    example_usage    text
);
create index idx_ai_scenarios_character on character_ai_scenarios (character_id, scenario_type);

create table character_roleplay_config (
    id                            serial    primary key,
    character_id                  integer   not null unique references characters (id) on delete cascade,
    allow_full_roleplay_immersion boolean   default false,
    philosophy                    text,
    strategy                      text,
    created_at                    timestamp default current_timestamp,
    updated_at                    timestamp default current_timestamp
);

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

-- Personality optimisation.

create table personality_optimization_attempts (
    id                        serial       primary key,
    optimization_id           varchar(100) not null unique,
    character_name            varchar(50)  not null,
    optimization_approach     varchar(20)  not null check (optimization_approach in ('conservative', 'moderate', 'aggressive')),
    expected_improvement      numeric(5,3) not null check (expected_improvement between 0 and 1),
    implementation_complexity varchar(10)  not null check (implementation_complexity in ('low', 'medium', 'high')),
    parameter_count           integer      not null default 0,
    attempt_timestamp         timestamptz  default current_timestamp
);
create index idx_personality_opt_attempts_character on personality_optimization_attempts (character_name);
create index idx_personality_opt_attempts_id on personality_optimization_attempts (optimization_id);
create index idx_personality_opt_attempts_timestamp on personality_optimization_attempts (attempt_timestamp);

create table personality_optimization_results (
    id                   serial       primary key,
    optimization_id      varchar(100) not null unique references personality_optimization_attempts (optimization_id) on delete cascade,
    character_name       varchar(50)  not null,
    success              boolean      not null default false,
    performance_before   numeric(5,3),
    performance_after    numeric(5,3),
    actual_improvement   numeric(6,3),
    rollback_applied     boolean      not null default false,
    issues_encountered   jsonb        default '[]',
    completion_timestamp timestamptz  default current_timestamp
);
create index idx_personality_opt_results_character on personality_optimization_results (character_name);
create index idx_personality_opt_results_improvement on personality_optimization_results (actual_improvement);
create index idx_personality_opt_results_success on personality_optimization_results (success);
create index idx_personality_opt_results_timestamp on personality_optimization_results (completion_timestamp);

create table personality_parameter_adjustments (
    id                   serial       primary key,
    optimization_id      varchar(100) not null references personality_optimization_attempts (optimization_id) on delete cascade,
    adjustment_order     integer      not null,
    parameter_path       varchar(200) not null,
    current_value        text         not null,
    target_value         text         not null,
    adjustment_reason    text         not null,
    expected_improvement numeric(5,3) not null check (expected_improvement between 0 and 1),
    risk_level           varchar(10)  not null check (risk_level in ('low', 'medium', 'high')),
    created_at           timestamptz  default current_timestamp
);
create index idx_personality_param_adj_opt_id on personality_parameter_adjustments (optimization_id);
create index idx_personality_param_adj_order on personality_parameter_adjustments (optimization_id, adjustment_order);
create index idx_personality_param_adj_path on personality_parameter_adjustments (parameter_path);

create table personality_evolution_timeline (
    id               serial       primary key,
    character_name   varchar(50)  not null,
    parameter_path   varchar(200) not null,
    old_value        text,
    new_value        text         not null,
    change_magnitude numeric(5,3),
    optimization_id  varchar(100) references personality_optimization_attempts (optimization_id) on delete set null,
    change_timestamp timestamptz  default current_timestamp,
    change_reason    text
);
create index idx_personality_evolution_character on personality_evolution_timeline (character_name);
create index idx_personality_evolution_magnitude on personality_evolution_timeline (change_magnitude);
create index idx_personality_evolution_parameter on personality_evolution_timeline (parameter_path);
create index idx_personality_evolution_timestamp on personality_evolution_timeline (change_timestamp);

-- Transactions and operations.

create table role_transactions (
    id               serial    primary key,
    transaction_id   text      not null unique,
    user_id          text      not null,
    bot_name         text      not null,
    transaction_type text      not null,
    state            text      default 'pending',
    context          jsonb,
    created_at       timestamp default current_timestamp,
    updated_at       timestamp default current_timestamp
);
create index idx_role_transactions_state on role_transactions (state);
create index idx_role_transactions_user_bot on role_transactions (user_id, bot_name);

create table roleplay_transactions (
    id               serial       primary key,
    user_id          varchar(255) not null,
    bot_name         varchar(50)  not null,
    transaction_type varchar(50)  not null,
    state            varchar(50)  not null default 'pending',
    context          jsonb        not null default '{}',
    created_at       timestamp    not null default now(),
    updated_at       timestamp    not null default now(),
    completed_at     timestamp
);
create index idx_roleplay_created on roleplay_transactions (created_at desc);
create index idx_roleplay_state on roleplay_transactions (state) where completed_at is null;
create index idx_roleplay_user_bot on roleplay_transactions (user_id, bot_name);

create table performance_metrics (
    id           serial    primary key,
    metric_name  text      not null,
    metric_value real      not null,
    timestamp    timestamp default current_timestamp,
    tags         text      default '{}'
);

create table system_settings (
    key         text      primary key,
    value       text      not null,
    description text,
    updated_at  timestamp default current_timestamp
);

create table schema_versions (
    id          serial      primary key,
    version     varchar(50) not null,
    description text,
    applied_at  timestamp   default current_timestamp
);

-- Functions behind triggers.

create function update_updated_at_column() returns trigger
language plpgsql as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

create function update_updated_at_v2() returns trigger
language plpgsql as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

create function update_roleplay_transaction_timestamp() returns trigger
language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;

-- A deleted child leaves its character's date alone, as in every release.
create function update_character_timestamp() returns trigger
language plpgsql as $$
begin
    if tg_op <> 'DELETE' then
        update public.characters set updated_date = current_timestamp where id = new.character_id;
    end if;
    return new;
end
$$;

-- No table of the application has these three fields: reading the rows as JSON lets the function serve any table.
create function track_personality_parameter_changes() returns trigger
language plpgsql as $$
declare
    before jsonb := to_jsonb(old);
    after  jsonb := to_jsonb(new);
begin
    insert into public.personality_evolution_timeline
        (character_name, parameter_path, old_value, new_value, change_timestamp, change_reason)
    select coalesce(after ->> 'character_name', after ->> 'name', 'unknown'), path,
           before ->> path, coalesce(after ->> path, ''), current_timestamp, 'Changed outside an optimization'
    from unnest(array['personality_traits', 'communication_styles', 'empathy']) as path
    where before ->> path is distinct from after ->> path;
    return new;
end
$$;

-- Knowledge graph.

create function get_user_facts_with_relations(
    p_user_id        uuid,
    p_entity_type    text             default null,
    p_min_confidence double precision default 0.5,
    p_limit          integer          default 20
) returns table (
    entity_name            text,
    entity_category        text,
    relationship_type      text,
    confidence             double precision,
    emotional_context      text,
    mentioned_by_character text,
    related_entities_count bigint,
    last_updated           timestamp
)
language plpgsql as $$
begin
    return query
    select e.entity_name, e.category, r.relationship_type, r.confidence, r.emotional_context, r.mentioned_by_character,
           (select count(*) from public.entity_relationships g where g.from_entity_id = e.id), r.updated_at
    from public.user_fact_relationships r
    join public.fact_entities e on e.id = r.entity_id
    where r.user_id = p_user_id::text
      and (p_entity_type is null or e.entity_type = p_entity_type)
      and r.confidence >= p_min_confidence
    order by r.confidence desc, r.updated_at desc
    limit p_limit;
end
$$;

create function discover_similar_entities(
    p_entity_id            uuid,
    p_similarity_threshold double precision default 0.3,
    p_limit                integer          default 5
) returns table (
    similar_entity_id   uuid,
    similar_entity_name text,
    similarity_score    double precision
)
language plpgsql as $$
begin
    return query
    select other.id, other.entity_name, s.score
    from public.fact_entities given
    join public.fact_entities other on other.entity_type = given.entity_type and other.id <> given.id
    cross join lateral (
        select public.similarity(given.entity_name, other.entity_name)::double precision as score
    ) s
    where given.id = p_entity_id and s.score > p_similarity_threshold
    order by s.score desc
    limit p_limit;
end
$$;

create function maintain_cdl_graph_indexes() returns void
language plpgsql as $$
begin
    analyze public.characters, public.character_background, public.character_memories, public.character_relationships,
            public.character_abilities, public.fact_entities, public.user_fact_relationships;
    raise notice 'Statistics of the character and fact tables are up to date';
end
$$;

create function analyze_cdl_graph_index_performance() returns table (
    index_name     text,
    table_name     text,
    index_size     text,
    index_scans    bigint,
    tuples_read    bigint,
    tuples_fetched bigint
)
language plpgsql as $$
begin
    return query
    select s.indexrelname::text, s.relname::text, pg_size_pretty(pg_relation_size(s.indexrelid)),
           s.idx_scan, s.idx_tup_read, s.idx_tup_fetch
    from pg_stat_user_indexes s
    where s.schemaname = 'public' and s.indexrelname ~ '^idx_(character|fact|user_fact)_'
    order by s.idx_scan desc;
end
$$;

-- A second form of the character store that no release shipped: these functions can be created, but their tables
-- (characters_v2, character_profiles_v2, workflow_instances_v2, workflow_execution_log_v2, cdl_characters) do not exist.

create function get_character_v2(char_normalized_name varchar) returns jsonb
language plpgsql as $$
begin
    return coalesce(
        (select to_jsonb(p) from public.character_profiles_v2 p where p.normalized_name = char_normalized_name), '{}');
end
$$;

create function get_character_cdl_v2(p_normalized_name varchar) returns jsonb
language plpgsql as $$
begin
    return (select p.cdl_data from public.character_profiles_v2 p where p.normalized_name = p_normalized_name);
end
$$;

create function upsert_character_v2(
    p_name            varchar,
    p_normalized_name varchar,
    p_bot_name        varchar,
    p_archetype       character_archetype_enum,
    p_cdl_data        jsonb,
    p_workflow_data   jsonb default '{}',
    p_metadata        jsonb default '{}'
) returns bigint
language plpgsql as $$
declare
    character_id bigint;
begin
    insert into public.characters_v2 as c
        (name, normalized_name, bot_name, archetype, cdl_data, workflow_data, metadata)
    values (p_name, p_normalized_name, p_bot_name, p_archetype, p_cdl_data, p_workflow_data, p_metadata)
    on conflict (normalized_name) do update
        set name = excluded.name, bot_name = excluded.bot_name, archetype = excluded.archetype,
            cdl_data = excluded.cdl_data, workflow_data = excluded.workflow_data, metadata = excluded.metadata,
            version = c.version + 1, updated_at = current_timestamp
    returning c.id into character_id;
    refresh materialized view public.character_profiles_v2;
    return character_id;
end
$$;

create function refresh_character_profiles_v2() returns trigger
language plpgsql as $$
begin
    refresh materialized view concurrently public.character_profiles_v2;
    return null;
end
$$;

create function start_workflow_v2(
    user_id_param         varchar,
    char_normalized_name  varchar,
    workflow_name_param   varchar,
    initial_context       jsonb default '{}',
    workflow_config_param jsonb default '{}'
) returns bigint
language plpgsql as $$
declare
    found_character bigint;
    instance        bigint;
begin
    select c.id into found_character from public.characters_v2 c where c.normalized_name = char_normalized_name;
    if found_character is null then
        raise exception 'character % does not exist', char_normalized_name;
    end if;
    insert into public.workflow_instances_v2
        (instance_key, character_id, user_id, workflow_name, current_state, context_data, workflow_config)
    values (concat_ws('_', workflow_name_param, user_id_param, extract(epoch from clock_timestamp())),
            found_character, user_id_param, workflow_name_param, 'initial', initial_context, workflow_config_param)
    returning id into instance;
    insert into public.workflow_execution_log_v2 (workflow_instance_id, event_type, event_data)
    values (instance, 'start', initial_context);
    return instance;
end
$$;

create function update_workflow_state_v2(
    p_character_id  bigint,
    p_workflow_name varchar,
    p_new_state     varchar,
    p_context_data  jsonb default '{}'
) returns boolean
language plpgsql as $$
begin
    update public.workflow_instances_v2 w
    set state_history = w.state_history || jsonb_build_object(
            'from', w.current_state, 'to', p_new_state, 'timestamp', current_timestamp, 'context', p_context_data),
        current_state = p_new_state
    where w.character_id = p_character_id and w.workflow_name = p_workflow_name;
    return found;
end
$$;

create function get_user_workflows_v2(user_id_param varchar) returns jsonb
language plpgsql as $$
begin
    return coalesce(
        (select jsonb_agg(to_jsonb(w) || jsonb_build_object('character_name', c.name))
         from public.workflow_instances_v2 w
         join public.characters_v2 c on c.id = w.character_id
         where w.user_id = user_id_param and w.status in ('active', 'pending')), '[]');
end
$$;

create function migrate_to_jsonb_schema() returns integer
language plpgsql as $$
declare
    source   record;
    document jsonb;
    migrated integer := 0;
begin
    for source in select * from public.cdl_characters where is_active loop
        select to_jsonb(source) || jsonb_build_object(
            'personality_traits',
            (select jsonb_agg(to_jsonb(t)) from public.cdl_personality_traits t where t.character_id = source.id),
            'communication_styles',
            (select jsonb_agg(to_jsonb(s)) from public.cdl_communication_styles s where s.character_id = source.id),
            'values',
            (select jsonb_agg(to_jsonb(v)) from public.cdl_values v where v.character_id = source.id),
            'anti_patterns',
            (select jsonb_agg(to_jsonb(a)) from public.cdl_anti_patterns a where a.character_id = source.id),
            'personal_knowledge',
            (select jsonb_agg(to_jsonb(k)) from public.cdl_personal_knowledge k where k.character_id = source.id),
            'interaction_modes',
            (select jsonb_agg(to_jsonb(m)) from public.cdl_interaction_modes m where m.character_id = source.id)
        ) into document;
        perform public.upsert_character_v2(
            source.name, source.normalized_name, source.bot_name,
            replace(source.character_archetype, '-', '_')::public.character_archetype_enum, document);
        migrated := migrated + 1;
    end loop;
    return migrated;
end
$$;

-- Triggers.

create trigger trigger_update_character_timestamp_abilities after insert or update or delete on character_abilities
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_appearance after insert or update or delete on character_appearance
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_background after insert or update or delete on character_background
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_triggers after insert or update or delete on character_behavioral_triggers
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_patterns after insert or update or delete on character_communication_patterns
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_essence after insert or update or delete on character_essence
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_instructions after insert or update or delete on character_instructions
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_memories after insert or update or delete on character_memories
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_metadata after insert or update or delete on character_metadata
    for each row execute function update_character_timestamp();
create trigger trigger_update_character_timestamp_relationships after insert or update or delete on character_relationships
    for each row execute function update_character_timestamp();
create trigger update_fact_entities_updated_at before update on fact_entities
    for each row execute function update_updated_at_column();
create trigger trigger_update_roleplay_transaction_timestamp before update on roleplay_transactions
    for each row execute function update_roleplay_transaction_timestamp();
create trigger update_user_fact_relationships_updated_at before update on user_fact_relationships
    for each row execute function update_updated_at_column();

-- Views over the personality optimisation tables.

create view personality_optimization_summary as
select a.character_name,
       count(*) as total_attempts,
       count(*) filter (where r.success) as successful_attempts,
       round(count(*) filter (where r.success) * 100.0 / count(*), 1) as success_rate_percent,
       avg(r.actual_improvement) filter (where r.success) as avg_successful_improvement,
       max(r.actual_improvement) as best_improvement,
       min(r.actual_improvement) as worst_result,
       count(*) filter (where r.rollback_applied) as rollback_count,
       max(a.attempt_timestamp) as last_optimization
from personality_optimization_attempts a
left join personality_optimization_results r on r.optimization_id = a.optimization_id
group by a.character_name
order by success_rate_percent desc, total_attempts desc;

create view personality_parameter_change_history as
select pet.character_name, pet.parameter_path, pet.old_value, pet.new_value, pet.change_magnitude, pet.change_timestamp,
       pet.change_reason, poa.optimization_approach, por.success as optimization_success, por.actual_improvement
from personality_evolution_timeline pet
left join personality_optimization_attempts poa on pet.optimization_id = poa.optimization_id
left join personality_optimization_results por on pet.optimization_id = por.optimization_id
order by pet.character_name, pet.parameter_path, pet.change_timestamp;

create view recent_personality_changes as
select pet.character_name, pet.parameter_path, pet.old_value, pet.new_value, pet.change_magnitude, pet.change_timestamp,
       case when pet.optimization_id is not null then 'Automated Optimization' else 'Manual Change' end as change_type,
       por.success as optimization_success, poa.optimization_approach
from personality_evolution_timeline pet
left join personality_optimization_attempts poa on pet.optimization_id = poa.optimization_id
left join personality_optimization_results por on pet.optimization_id = por.optimization_id
where pet.change_timestamp >= now() - interval '30 days'
order by pet.change_timestamp desc;
