alter table banned_users
    drop column unban_reason,
    drop column unbanned_by,
    drop column unbanned_at;
