drop index idx_universal_users_preferences_gin;
alter table universal_users
    alter column preferences drop default,
    alter column preferences type text using preferences::text,
    alter column preferences set default '{}';

drop table conversation_summaries;
