-- What a small installation of WhisperEngine v1.0.6 holds after some months. All of it is invented, and the same each time.

insert into characters (name, normalized_name, occupation, description, archetype, allow_full_roleplay, is_active, created_at, updated_at)
values
    ('AI Assistant', 'assistant', 'Assistant', 'A helpful assistant for questions and everyday tasks.', 'real_world', false, true, '2025-07-01 09:00Z', '2025-07-01 09:00Z'),
    ('Ingrid Sørensen', 'ingrid', 'Lighthouse keeper', 'Keeps the light at Skjærvær and a log of every storm since 1987. 🌊', 'real_world', false, true, '2025-07-03 18:12Z', '2025-09-14 07:40Z'),
    ('Zoë Castellanos', 'zoe', 'Baker', 'Bakes at four in the morning, argues about hydration at five. 🥖', 'real_world', false, true, '2025-07-09 04:05Z', '2025-10-02 04:11Z'),
    ('藤原 澪', 'mio', '天文学者', '山の上の観測所で変光星を数えている。✨', 'real_world', false, true, '2025-07-21 22:30Z', '2025-10-05 23:59Z'),
    ('Дед Мороз', 'ded_moroz', 'Winter', 'Knows every child''s name; answers letters in the order of snowfall. ❄️', 'fantasy_mystical', true, true, '2025-08-01 00:00Z', '2025-08-01 00:00Z'),
    ('Prototype 7', 'prototype_7', 'Test', 'Switched off in August.', 'narrative_ai', true, false, '2025-08-11 11:11Z', '2025-08-12 12:12Z');

insert into personality_traits (character_id, trait_name, trait_value, intensity, description)
select c.id, trait, round(0.35 + (c.id * 7 + n * 13) % 60 / 100.0, 2), (array['low', 'medium', 'high'])[1 + (c.id + n) % 3], trait || ' of ' || c.name
from characters c, unnest(array['openness', 'conscientiousness', 'extraversion', 'agreeableness', 'neuroticism']) with ordinality as t (trait, n);

insert into communication_styles (character_id, engagement_level, formality, emotional_expression, response_length)
select id, 0.70, 'informal, warm', 0.60, 'two or three sentences' from characters;

insert into character_values (character_id, value_key, value_description, importance_level, category)
select c.id, v, v || ', as ' || c.name || ' understands it', 'high', 'core'
from characters c, unnest(array['honesty', 'patience', 'curiosity']) as v;

insert into character_background (character_id, category, period, title, description, importance_level)
select c.id, category, 'since 2025', initcap(category), c.name || ': ' || category, 5
from characters c, unnest(array['education', 'career', 'home']) as category;

insert into character_memories (character_id, memory_type, title, description, emotional_impact, triggers)
select c.id, 'formative', 'The day № ' || n, 'What ' || c.name || ' remembers of day ' || n, 1 + n % 10, array['day', n::text]
from characters c, generate_series(1, 4) as n;

insert into users (user_id, username, display_name, created_at, last_seen, message_count, preferences)
select (672814231002939400 + n)::text, 'user' || n, person, timestamp '2025-07-01' + n * interval '1 day',
       timestamp '2025-10-10' + n * interval '1 hour', n * 17, json_build_object('language', (array['en', 'de', 'ja', 'ru'])[1 + n % 4])
from (select n, (array['Amélie', 'Björn', 'Chiamaka', 'Đặng', 'Ève', 'Félix', 'Γιώργος', 'Hülya', 'Íñigo', '준호', 'Kirsti', 'Łukasz'])[1 + n % 12] as person
      from generate_series(1, 24) as n) as people;

insert into universal_users (universal_id, primary_username, display_name, created_at, last_active, preferences)
select user_id, username, display_name, created_at, last_seen, preferences from users;

insert into platform_identities (universal_id, platform, platform_user_id, username, display_name)
select user_id, 'discord', user_id, username, display_name from users;

insert into user_profiles (user_id, name, relationship_level, current_emotion, interaction_count, emotion_history, preferences)
select user_id, display_name, 1 + id % 5, (array['joy', 'neutral', 'curiosity', 'sadness'])[1 + id % 4], message_count,
       '["joy", "neutral"]', jsonb_build_object('nickname', display_name, 'emoji', '🦊')
from users;

insert into conversations (user_id, channel_id, message_content, bot_response, "timestamp", response_time_ms)
select user_id, 'dm-' || id, (array['Did the storm pass?', 'Wie lange muss der Teig ruhen?', '今夜は星が見えますか？', 'Сколько снега выпало?', 'Tell me about tomorrow 🌅'])[1 + n % 5] || ' (' || n || ')',
       'Yes, and here is what I wrote down: ' || md5(n::text), timestamp '2025-09-01' + n * interval '97 minutes', 400 + n * 37 % 900
from generate_series(1, 480) as n join users on id = 1 + n % 24;

insert into fact_entities (id, entity_type, entity_name, category, attributes)
select md5(kind || name)::uuid, kind, name, 'everyday', jsonb_build_object('tags', kind || ' ' || name)
from unnest(array['hobby', 'food', 'place']) as kind,
     unnest(array['aurora', 'brioche', 'cycling', 'dumplings', 'espresso', 'fjord', 'gardening', 'harbour', 'ice skating', 'jam', 'kites', 'lighthouse']) as name;

insert into user_fact_relationships (id, user_id, entity_id, relationship_type, confidence, emotional_context, mentioned_by_character)
select md5(user_id || entity_name || entity_type)::uuid, user_id, e.id, 'likes', 0.5 + n % 50 / 100.0, 'joy', 'ingrid'
from users u cross join (select *, row_number() over (order by entity_type, entity_name) as n from fact_entities) e
where (u.id * 5 + n) % 4 = 0;

insert into relationship_scores (user_id, bot_name, trust, affection, attunement, interaction_count)
select user_id, bot, 0.4 + id % 6 / 10.0, 0.3 + id % 5 / 10.0, 0.2 + id % 7 / 10.0, message_count
from users, unnest(array['ingrid', 'zoe']) as bot;

insert into relationship_events (user_id, bot_name, event_type, trust_delta, trust_value, update_reason)
select user_id, bot_name, 'conversation', n / 100.0, least(1, trust + n / 100.0), 'a good talk'
from relationship_scores, generate_series(1, 3) as n;

insert into system_settings (key, value, description)
values ('timezone', 'Europe/Oslo', 'for reminders'), ('greeting', 'Hei! 👋', 'first message of the day');
