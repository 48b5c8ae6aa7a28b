CREATE TABLE agents (
  id TEXT NOT NULL PRIMARY KEY,
  incarnation TEXT NOT NULL,
  approved BOOLEAN NOT NULL,
  enrolled BOOLEAN NOT NULL,
  revoked BOOLEAN NOT NULL,
  epoch BIGINT NOT NULL,
  replica TEXT NOT NULL,
  connected_us BIGINT NOT NULL,
  seen_us BIGINT NOT NULL,
  build TEXT NOT NULL,
  cluster_uid TEXT NOT NULL,
  k8s_version TEXT NOT NULL,
  head_rev BIGINT NOT NULL,
  received_rev BIGINT NOT NULL,
  durable_rev BIGINT NOT NULL,
  compacted_rev BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  purged_seq BIGINT NOT NULL,
  root TEXT NOT NULL,
  status_root TEXT NOT NULL,
  key_count BIGINT NOT NULL,
  certificate_us BIGINT NOT NULL,
  message TEXT NOT NULL,
  issuer TEXT NOT NULL,
  jwks TEXT NOT NULL,
  created_us BIGINT NOT NULL
);

CREATE TABLE intents (
  agent TEXT NOT NULL,
  key_text TEXT NOT NULL,
  api_group TEXT NOT NULL,
  version TEXT NOT NULL,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  owner TEXT NOT NULL,
  writer_epoch BIGINT NOT NULL,
  intent_uid TEXT NOT NULL,
  generation BIGINT NOT NULL,
  digest TEXT NOT NULL,
  body TEXT NOT NULL,
  options BLOB NOT NULL,
  priority INTEGER NOT NULL,
  rev BIGINT NOT NULL,
  tombstone BOOLEAN NOT NULL,
  traceparent TEXT NOT NULL,
  outcome INTEGER NOT NULL,
  result_generation BIGINT NOT NULL,
  result BLOB NOT NULL,
  result_us BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  PRIMARY KEY (agent, key_text)
);
CREATE UNIQUE INDEX intents_rev ON intents (agent, rev);
CREATE INDEX intents_change ON intents (agent, change_seq);
CREATE INDEX intents_owner ON intents (agent, owner);

CREATE TABLE statuses (
  agent TEXT NOT NULL,
  key_text TEXT NOT NULL,
  intent_uid TEXT NOT NULL,
  intent_generation BIGINT NOT NULL,
  observed_generation BIGINT NOT NULL,
  resource_version TEXT NOT NULL,
  digest TEXT NOT NULL,
  body TEXT NOT NULL,
  gone BOOLEAN NOT NULL,
  edges BLOB NOT NULL,
  epoch BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (agent, key_text)
);
CREATE INDEX statuses_change ON statuses (agent, change_seq);

CREATE TABLE writers (
  agent TEXT NOT NULL,
  owner TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  PRIMARY KEY (agent, owner)
);

CREATE TABLE inventory (
  agent TEXT NOT NULL,
  watch INTEGER NOT NULL,
  key_text TEXT NOT NULL,
  object_key BLOB NOT NULL,
  object TEXT NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (agent, watch, key_text)
);

CREATE TABLE interests (
  agent TEXT NOT NULL,
  watch INTEGER NOT NULL,
  bookmark TEXT NOT NULL,
  PRIMARY KEY (agent, watch)
);

CREATE TABLE join_tokens (
  hash TEXT NOT NULL PRIMARY KEY,
  agent TEXT NOT NULL,
  auto_approve BOOLEAN NOT NULL,
  expire_us BIGINT NOT NULL,
  used_us BIGINT NOT NULL,
  request TEXT NOT NULL,
  created_us BIGINT NOT NULL
);
CREATE INDEX join_tokens_agent ON join_tokens (agent);

CREATE TABLE certificates (
  fingerprint TEXT NOT NULL PRIMARY KEY,
  agent TEXT NOT NULL,
  expire_us BIGINT NOT NULL,
  revoked BOOLEAN NOT NULL,
  created_us BIGINT NOT NULL
);
CREATE INDEX certificates_agent ON certificates (agent);
