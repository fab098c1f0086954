-- communication_styles.conversation_flow_guidance goes away. It holds one JSON object per character: modes by name, and the
-- keys general and response_style, which have tables of their own. platform_awareness and flow_optimization never got any
-- and stay in the archive, as does the whole text. A character that already has a mode or a style keeps it.

do $$
declare
    style    record;
    guidance jsonb;
    part     record;
    parent   integer;
begin
    for style in
        -- Reading the row as JSON also serves a database where the column is already gone.
        select s.character_id, to_jsonb(s) ->> 'conversation_flow_guidance' as source
        from communication_styles s
        join characters c on c.id = s.character_id
        order by s.id
    loop
        begin
            guidance := style.source::jsonb;
        exception when others then
            -- Text that is not JSON has no place in the new tables and must not stop an upgrade.
            guidance := null;
        end;
        continue when jsonb_typeof(guidance) is distinct from 'object';

        for part in
            select key as name, value as body from jsonb_each(guidance)
            where jsonb_typeof(value) = 'object' and key not in ('platform_awareness', 'flow_optimization')
        loop
            if part.name = 'general' then
                insert into character_general_conversation
                    (character_id, default_energy, conversation_style, transition_approach)
                values (style.character_id, left(part.body ->> 'default_energy', 50), part.body ->> 'conversation_style',
                        part.body ->> 'transition_approach')
                on conflict (character_id) do nothing
                returning id into parent;
                continue when not found;

                -- avoid and encourage are lists, examples is an object of named texts.
                insert into character_response_patterns
                    (general_conversation_id, pattern_name, pattern_description, sort_order)
                select parent, left(pattern.key, 100), item.text, item.position
                from jsonb_each(case jsonb_typeof(part.body -> 'response_patterns')
                                when 'object' then part.body -> 'response_patterns' else '{}' end) as pattern
                cross join jsonb_array_elements_text(
                    case jsonb_typeof(pattern.value) when 'array' then pattern.value else '[]' end
                ) with ordinality as item (text, position)
                union all
                select parent, left(example.key, 100), example.value, example.position
                from jsonb_each_text(case jsonb_typeof(part.body #> '{response_patterns,examples}')
                                     when 'object' then part.body #> '{response_patterns,examples}' else '{}' end
                ) with ordinality as example (key, value, position);

            elsif part.name = 'response_style' then
                insert into character_response_style (character_id) values (style.character_id)
                on conflict (character_id) do nothing
                returning id into parent;
                continue when not found;

                insert into character_response_style_items (response_style_id, item_type, item_text, sort_order)
                select parent, left(list.key, 50), item.text, item.position
                from jsonb_each(part.body) as list
                cross join jsonb_array_elements_text(
                    case jsonb_typeof(list.value) when 'array' then list.value else '[]' end
                ) with ordinality as item (text, position)
                where item.text is not null;

            else
                insert into character_conversation_modes
                    (character_id, mode_name, energy_level, approach, transition_style)
                values (style.character_id, left(part.name, 100), left(part.body ->> 'energy', 50),
                        part.body ->> 'approach', part.body ->> 'transition_style')
                on conflict (character_id, mode_name) do nothing
                returning id into parent;
                continue when not found;

                insert into character_mode_guidance (mode_id, guidance_type, guidance_text, sort_order)
                select parent, list.key, item.text, item.position
                from jsonb_each(part.body) as list
                cross join jsonb_array_elements_text(
                    case jsonb_typeof(list.value) when 'array' then list.value else '[]' end
                ) with ordinality as item (text, position)
                where list.key in ('avoid', 'encourage') and item.text is not null;

                insert into character_mode_examples (mode_id, example_text, sort_order)
                select parent, item.text, item.position
                from jsonb_array_elements_text(
                    case jsonb_typeof(part.body -> 'examples') when 'array' then part.body -> 'examples' else '[]' end
                ) with ordinality as item (text, position)
                where item.text is not null;
            end if;
        end loop;
    end loop;
end
$$;

alter table communication_styles drop column if exists conversation_flow_guidance;

-- The second forms of emotional triggers and role-play scenarios were never read by a bot. Their rows move to the tables
-- that are; a trigger or scenario that is already there stays as it is.

do $$
begin
    if to_regclass('public.character_emotional_triggers_v2') is not null then
        insert into character_emotional_triggers
            (character_id, trigger_type, trigger_category, trigger_content, emotional_response, response_intensity)
        select old.character_id, left(coalesce(old.emotion_evoked, old.valence), 100), old.valence, old.trigger_text,
               coalesce(old.response_guidance, old.emotion_evoked),
               case when old.intensity <= 3 then 'low' when old.intensity <= 7 then 'medium' when old.intensity > 7 then 'high' end
        from character_emotional_triggers_v2 old
        join characters c on c.id = old.character_id
        where not exists (
            select from character_emotional_triggers known
            where known.character_id = old.character_id and known.trigger_content = old.trigger_text)
        order by old.character_id, old.display_order, old.id;
    end if;

    if to_regclass('public.character_roleplay_scenarios_v2') is not null and to_regclass('public.character_scenario_triggers_v2') is not null then
        insert into character_ai_scenarios
            (character_id, scenario_type, scenario_name, trigger_phrases, response_pattern,
             tier_1_response, tier_2_response, tier_3_response)
        select old.character_id, 'roleplay_interaction', left(old.scenario_name, 200),
               (select string_agg(t.trigger_phrase, ', ' order by t.display_order, t.id)
                from character_scenario_triggers_v2 t where t.scenario_id = old.id),
               left(old.response_pattern, 100), old.tier_1_response, old.tier_2_response, old.tier_3_response
        from character_roleplay_scenarios_v2 old
        join characters c on c.id = old.character_id
        where not exists (
            select from character_ai_scenarios known
            where known.character_id = old.character_id and known.scenario_name = left(old.scenario_name, 200))
        order by old.character_id, old.id;
    end if;
end
$$;

drop table if exists character_scenario_triggers_v2;
drop table if exists character_roleplay_scenarios_v2;
drop table if exists character_emotional_triggers_v2;

-- How a character uses emoji. The columns may be there already, in a database whose stamp was ahead of its schema.

alter table characters
    add column if not exists emoji_frequency          varchar(50)  not null default 'moderate',
    add column if not exists emoji_style              varchar(50)  not null default 'general',
    add column if not exists emoji_combination        varchar(50)  not null default 'text_with_accent_emoji',
    add column if not exists emoji_placement          varchar(50)  not null default 'end_of_message',
    add column if not exists emoji_age_demographic    varchar(50)  not null default 'millennial',
    add column if not exists emoji_cultural_influence varchar(100) not null default 'general';
