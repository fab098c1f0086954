-- Caches of the background worker: every row can be computed again and expires.

create table strategic_memory_health (
    id                        uuid        default gen_random_uuid() primary key,
    user_id                   text        not null,
    bot_name                  text        not null,
    memory_snapshot           jsonb       not null,
    avg_memory_age_hours      double precision,
    retrieval_frequency_trend text,
    forgetting_risk_memories  jsonb,
    computed_at               timestamptz not null default now(),
    expires_at                timestamptz not null,
    constraint uq_memory_health_user_bot unique (user_id, bot_name)
);
create index idx_memory_health_expires on strategic_memory_health (expires_at);

create table strategic_character_performance (
    id                            uuid        default gen_random_uuid() primary key,
    bot_name                      text        not null,
    time_window_hours             integer     not null default 168,
    engagement_score_avg          double precision,
    satisfaction_score_avg        double precision,
    coherence_score_avg           double precision,
    personality_consistency_index double precision,
    quality_trend                 text,
    recent_anomalies              jsonb,
    computed_at                   timestamptz not null default now(),
    expires_at                    timestamptz not null,
    constraint uq_character_perf_bot_window unique (bot_name, time_window_hours)
);
create index idx_character_perf_expires on strategic_character_performance (expires_at);

create table strategic_personality_profiles (
    id                      uuid        default gen_random_uuid() primary key,
    user_id                 text        not null,
    bot_name                text        not null,
    dominant_traits         jsonb,
    user_response_patterns  jsonb,
    adaptation_suggestions  jsonb,
    trait_evolution_history jsonb,
    computed_at             timestamptz not null default now(),
    expires_at              timestamptz not null,
    constraint uq_personality_user_bot unique (user_id, bot_name)
);
create index idx_personality_expires on strategic_personality_profiles (expires_at);

create table strategic_conversation_patterns (
    id                          uuid        default gen_random_uuid() primary key,
    user_id                     text        not null,
    bot_name                    text        not null,
    recent_topics               jsonb,
    avg_topic_duration_minutes  double precision,
    context_switch_frequency    double precision,
    predicted_switch_likelihood double precision,
    topic_transition_graph      jsonb,
    computed_at                 timestamptz not null default now(),
    expires_at                  timestamptz not null,
    constraint uq_conv_patterns_user_bot unique (user_id, bot_name)
);
create index idx_conv_patterns_expires on strategic_conversation_patterns (expires_at);

create table strategic_memory_behavior (
    id                      uuid        default gen_random_uuid() primary key,
    user_id                 text        not null,
    bot_name                text        not null,
    forgetting_curve_params jsonb,
    high_retention_memories jsonb,
    low_retention_memories  jsonb,
    recall_simulation_score double precision,
    computed_at             timestamptz not null default now(),
    expires_at              timestamptz not null,
    constraint uq_memory_behavior_user_bot unique (user_id, bot_name)
);
create index idx_memory_behavior_expires on strategic_memory_behavior (expires_at);

create table strategic_engagement_opportunities (
    id                        uuid        default gen_random_uuid() primary key,
    user_id                   text        not null,
    bot_name                  text        not null,
    optimal_timing_hours      double precision,
    receptivity_score         double precision,
    suggested_topics          jsonb,
    last_engagement_gap_hours double precision,
    proactive_success_rate    double precision,
    computed_at               timestamptz not null default now(),
    expires_at                timestamptz not null,
    constraint uq_engagement_user_bot unique (user_id, bot_name)
);
create index idx_engagement_expires on strategic_engagement_opportunities (expires_at);
