create table character_insights (
    id                   serial           primary key,
    character_id         integer          not null references characters (id) on delete cascade,
    insight_type         varchar(50)      not null,
    insight_content      text             not null,
    confidence_score     double precision not null,
    discovery_date       timestamptz      not null default current_timestamp,
    conversation_context text,
    importance_level     integer          not null default 5,
    emotional_valence    double precision,
    triggers             text[],
    supporting_evidence  text[],
    constraint uq_character_insight_content unique (character_id, insight_content)
);
create index idx_character_insights_character_id on character_insights (character_id);
create index idx_character_insights_confidence_score on character_insights (confidence_score);
create index idx_character_insights_discovery_date on character_insights (discovery_date);
create index idx_character_insights_importance_level on character_insights (importance_level);
create index idx_character_insights_insight_type on character_insights (insight_type);

create table character_insight_relationships (
    id                serial           primary key,
    from_insight_id   integer          not null references character_insights (id) on delete cascade,
    to_insight_id     integer          not null references character_insights (id) on delete cascade,
    relationship_type varchar(50)      not null,
    strength          double precision not null default 0.5,
    created_date      timestamptz      not null default current_timestamp,
    constraint uq_insight_relationship unique (from_insight_id, to_insight_id, relationship_type)
);
create index idx_char_insight_rel_from_id on character_insight_relationships (from_insight_id);
create index idx_char_insight_rel_to_id on character_insight_relationships (to_insight_id);
create index idx_char_insight_rel_type on character_insight_relationships (relationship_type);

create table character_learning_timeline (
    id                   serial      primary key,
    character_id         integer     not null references characters (id) on delete cascade,
    learning_event       text        not null,
    learning_type        varchar(50) not null,
    before_state         text,
    after_state          text,
    trigger_conversation text,
    learning_date        timestamptz not null default current_timestamp,
    significance_score   double precision
);
create index idx_char_learning_timeline_character_id on character_learning_timeline (character_id);
create index idx_char_learning_timeline_learning_date on character_learning_timeline (learning_date);
create index idx_char_learning_timeline_learning_type on character_learning_timeline (learning_type);
create index idx_char_learning_timeline_significance on character_learning_timeline (significance_score);

-- Releases before v1.0.33 keep emotional states as JSON. The table has its later form already where a stamp was ahead.

do $$
begin
    if to_regclass('public.character_emotional_states') is null then
        create table character_emotional_states (
            id             serial       primary key,
            character_name varchar(100) not null,
            user_id        varchar(100) not null,
            state_data     jsonb        not null,
            last_updated   timestamptz  not null default now(),
            created_at     timestamptz  not null default now(),
            constraint unique_character_user_state unique (character_name, user_id)
        );
        create index idx_character_emotional_states_last_updated on character_emotional_states (last_updated);
        create index idx_character_emotional_states_lookup on character_emotional_states (character_name, user_id);
        create index ix_character_emotional_states_character_name on character_emotional_states (character_name);
        create index ix_character_emotional_states_user_id on character_emotional_states (user_id);
    end if;
end
$$;
