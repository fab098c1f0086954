alter table banned_users
    add column unbanned_at  timestamp,
    add column unbanned_by  text,
    add column unban_reason text;
create index idx_banned_users_unbanned_at on banned_users (unbanned_at);
