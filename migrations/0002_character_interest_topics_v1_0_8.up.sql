create table character_interest_topics (
    id                  serial           primary key,
    character_id        integer          not null references characters (id) on delete cascade,
    topic_keyword       varchar(100)     not null,
    boost_weight        double precision not null default '0.3',
    gap_type_preference varchar(50),
    category            varchar(50)      default 'general',
    created_at          timestamp        default current_timestamp,
    updated_at          timestamp        default current_timestamp,
    constraint uq_character_topic unique (character_id, topic_keyword)
);
create index idx_character_interest_topics_character_id on character_interest_topics (character_id);
create index idx_character_interest_topics_keyword on character_interest_topics (topic_keyword);
