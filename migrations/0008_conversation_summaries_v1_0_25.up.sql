create table conversation_summaries (
    id                 serial           primary key,
    user_id            varchar(255)     not null,
    bot_name           varchar(100)     not null,
    summary_text       text             not null,
    summary_type       varchar(50)      not null default 'time_window',
    start_timestamp    timestamp        not null,
    end_timestamp      timestamp        not null,
    message_count      integer          not null,
    key_topics         varchar[],
    emotional_tone     varchar(50),
    compression_ratio  double precision,
    confidence_score   double precision default '0.5',
    enrichment_version varchar(20)      not null default 'v1.0',
    created_at         timestamp        not null default now(),
    updated_at         timestamp        not null default now(),
    constraint uq_conversation_summaries_window unique (user_id, bot_name, start_timestamp, end_timestamp)
);
create index idx_conversation_summaries_created on conversation_summaries (created_at);
create index idx_conversation_summaries_time on conversation_summaries (start_timestamp, end_timestamp);
create index idx_conversation_summaries_topics on conversation_summaries using gin (key_topics);
create index idx_conversation_summaries_user_bot on conversation_summaries (user_id, bot_name);

-- Preferences become JSON. Text that is JSON keeps its value, blank text becomes {}, any other text becomes
-- {"unparsed": "<the text>"}; NULL stays NULL.

do $$
declare
    person record;
begin
    for person in select universal_id, preferences from universal_users where preferences <> '{}' loop
        begin
            perform person.preferences::jsonb;
        exception when others then
            update universal_users
            set preferences = case when person.preferences ~ '^\s*$' then '{}'
                                   else jsonb_build_object('unparsed', person.preferences)::text end
            where universal_id = person.universal_id;
        end;
    end loop;
end
$$;

alter table universal_users
    alter column preferences drop default,
    alter column preferences type jsonb using preferences::jsonb,
    alter column preferences set default '{}';
create index idx_universal_users_preferences_gin on universal_users using gin (preferences);
