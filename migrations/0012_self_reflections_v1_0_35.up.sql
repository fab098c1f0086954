create table enrichment_processing_log (
    user_id         varchar(255) not null,
    bot_name        varchar(100) not null,
    point_id        varchar(255) not null,
    processing_type varchar(50)  not null,
    processed_at    timestamp    not null default now(),
    feedback_type   varchar(50),
    confidence      double precision,
    constraint pk_enrichment_processing_log primary key (user_id, bot_name, point_id, processing_type)
);
create index idx_enrichment_log_lookup on enrichment_processing_log (user_id, bot_name, processing_type);
create index idx_enrichment_log_processed_at on enrichment_processing_log (processed_at);

create table bot_self_reflections (
    id                     uuid         default gen_random_uuid() primary key,
    bot_name               varchar(100) not null,
    interaction_id         uuid,
    user_id                varchar(255),
    conversation_id        uuid,
    effectiveness_score    double precision,
    authenticity_score     double precision,
    emotional_resonance    double precision,
    learning_insight       text         not null,
    improvement_suggestion text,
    interaction_context    text,
    bot_response_preview   text,
    trigger_type           varchar(50),
    reflection_category    varchar(100),
    created_at             timestamptz  not null default now()
);
create index idx_bot_self_reflections_bot_name on bot_self_reflections (bot_name);
create index idx_bot_self_reflections_category on bot_self_reflections (reflection_category);
create index idx_bot_self_reflections_created_at on bot_self_reflections (created_at);
create index idx_bot_self_reflections_scores on bot_self_reflections (effectiveness_score, authenticity_score);
create index idx_bot_self_reflections_trigger_type on bot_self_reflections (trigger_type);
create index idx_bot_self_reflections_user_id on bot_self_reflections (user_id);

-- The user's id as the facts table stores it. The function of the same name with a uuid stays. Internal marker rows are left out.
create function get_user_facts_with_relations(
    p_user_id        varchar,
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
    where r.user_id = p_user_id
      and (p_entity_type is null or e.entity_type = p_entity_type)
      and e.entity_type <> '_processing_marker'
      and r.relationship_type not like '\_enrichment%'
      and r.confidence >= p_min_confidence
    order by r.confidence desc, r.updated_at desc
    limit p_limit;
end
$$;
