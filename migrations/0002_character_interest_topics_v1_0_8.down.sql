drop table character_interest_topics;
