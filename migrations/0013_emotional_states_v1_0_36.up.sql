-- Emotional states as columns, in place of five values in JSON. The table has the old form, or does not exist: databases that
-- began with v1.0.33 or v1.0.34 never had it.

create table character_emotional_states_new (
    id                     uuid             default gen_random_uuid() primary key,
    character_name         varchar(100)     not null,
    user_id                varchar(255)     not null,
    anger                  double precision not null default '0.1',
    anticipation           double precision not null default '0.4',
    disgust                double precision not null default '0.05',
    fear                   double precision not null default '0.15',
    joy                    double precision not null default '0.7',
    love                   double precision not null default '0.6',
    optimism               double precision not null default '0.65',
    pessimism              double precision not null default '0.2',
    sadness                double precision not null default '0.15',
    surprise               double precision not null default '0.25',
    trust                  double precision not null default '0.7',
    baseline_anger         double precision not null default '0.1',
    baseline_anticipation  double precision not null default '0.4',
    baseline_disgust       double precision not null default '0.05',
    baseline_fear          double precision not null default '0.15',
    baseline_joy           double precision not null default '0.7',
    baseline_love          double precision not null default '0.6',
    baseline_optimism      double precision not null default '0.65',
    baseline_pessimism     double precision not null default '0.2',
    baseline_sadness       double precision not null default '0.15',
    baseline_surprise      double precision not null default '0.25',
    baseline_trust         double precision not null default '0.7',
    total_interactions     integer          not null default 0,
    recent_emotion_history json             not null default '[]',
    last_updated           timestamptz      not null default now(),
    created_at             timestamptz      not null default now()
);

-- A number in state_data is held within 0 and 1. What is missing or not a number gets the column's default.

do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('public.character_emotional_states') and attname = 'state_data' and not attisdropped
    ) then
        insert into character_emotional_states_new
            (character_name, user_id,
             anger, fear, joy, love, trust, optimism, pessimism, sadness,
             baseline_anger, baseline_fear, baseline_joy, baseline_love, baseline_trust, baseline_optimism,
             baseline_pessimism, baseline_sadness,
             total_interactions, last_updated, created_at)
        select old.character_name, old.user_id,
               coalesce(n.stress * 0.6, 0.1), coalesce(n.stress * 0.8, 0.15), coalesce(n.enthusiasm, 0.7),
               coalesce(n.empathy, 0.6), coalesce(n.empathy, 0.7), coalesce((n.confidence + n.enthusiasm) / 2, 0.65),
               coalesce(1 - n.confidence, 0.2), coalesce(1 - n.contentment, 0.15),
               coalesce(n.baseline_stress * 0.6, 0.1), coalesce(n.baseline_stress * 0.8, 0.15),
               coalesce(n.baseline_enthusiasm, 0.7), coalesce(n.baseline_empathy, 0.6), coalesce(n.baseline_empathy, 0.7),
               coalesce((n.baseline_confidence + n.baseline_enthusiasm) / 2, 0.65),
               coalesce(1 - n.baseline_confidence, 0.2), coalesce(1 - n.baseline_contentment, 0.15),
               case when jsonb_typeof(old.state_data -> 'total_interactions') = 'number'
                    then trunc(greatest(least((old.state_data ->> 'total_interactions')::numeric, 2147483647), 0))
                    else 0 end,
               old.last_updated, old.created_at
        from character_emotional_states old
        cross join lateral (
            select coalesce(jsonb_object_agg(key, greatest(least((value #>> '{}')::numeric, 1), 0)), '{}') as held
            from jsonb_each(case jsonb_typeof(old.state_data) when 'object' then old.state_data else '{}' end)
            where jsonb_typeof(value) = 'number'
        ) as numbers
        cross join lateral jsonb_to_record(numbers.held) as n (
            stress numeric, enthusiasm numeric, empathy numeric, confidence numeric, contentment numeric,
            baseline_stress numeric, baseline_enthusiasm numeric, baseline_empathy numeric, baseline_confidence numeric,
            baseline_contentment numeric
        )
        order by old.id;
        drop table character_emotional_states;
    end if;
end
$$;

alter table character_emotional_states_new rename to character_emotional_states;
alter index character_emotional_states_new_pkey rename to character_emotional_states_pkey;
create unique index idx_char_emotional_states_char_user on character_emotional_states (character_name, user_id);
create index idx_char_emotional_states_character on character_emotional_states (character_name);
create index idx_char_emotional_states_last_updated on character_emotional_states (last_updated);
create index idx_char_emotional_states_user on character_emotional_states (user_id);
