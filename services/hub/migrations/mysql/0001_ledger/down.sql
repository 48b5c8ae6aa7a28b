DROP TABLE certificates;
DROP TABLE join_tokens;
DROP TABLE interests;
DROP TABLE inventory;
DROP TABLE writers;
DROP TABLE statuses;
DROP TABLE intents;
DROP TABLE agents;
