CREATE TABLE entries (
  sequence BIGINT NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL UNIQUE,
  event_us BIGINT NOT NULL,
  principal VARCHAR(255) NOT NULL,
  source_address VARCHAR(255) NOT NULL,
  module VARCHAR(64) NOT NULL,
  method VARCHAR(255) NOT NULL,
  resource VARCHAR(255) NOT NULL,
  code INTEGER NOT NULL,
  reason VARCHAR(255) NOT NULL,
  request TEXT NOT NULL,
  diff TEXT NOT NULL,
  trace_id VARCHAR(32) NOT NULL,
  hash VARCHAR(64) NOT NULL,
  previous_hash VARCHAR(64) NOT NULL
);
CREATE INDEX entries_by_principal ON entries (principal, sequence);
CREATE INDEX entries_by_resource ON entries (resource, sequence);
CREATE TABLE chain_head (
  id INTEGER NOT NULL PRIMARY KEY,
  sequence BIGINT NOT NULL,
  hash VARCHAR(64) NOT NULL
);
INSERT INTO chain_head (id, sequence, hash) VALUES (1, 0, '');
