-- The old form, empty: what the upgrade took from it is in the archive.

drop table character_emotional_states;

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
