CREATE TABLE agents (
  id VARCHAR(40) NOT NULL PRIMARY KEY,
  incarnation VARCHAR(32) NOT NULL,
  approved BOOL NOT NULL,
  enrolled BOOL NOT NULL,
  revoked BOOL NOT NULL,
  epoch BIGINT NOT NULL,
  replica VARCHAR(300) NOT NULL,
  connected_us BIGINT NOT NULL,
  seen_us BIGINT NOT NULL,
  build VARCHAR(300) NOT NULL,
  cluster_uid VARCHAR(300) NOT NULL,
  k8s_version VARCHAR(300) NOT NULL,
  head_rev BIGINT NOT NULL,
  received_rev BIGINT NOT NULL,
  durable_rev BIGINT NOT NULL,
  compacted_rev BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  purged_seq BIGINT NOT NULL,
  root VARCHAR(32) NOT NULL,
  status_root VARCHAR(32) NOT NULL,
  key_count BIGINT NOT NULL,
  certificate_us BIGINT NOT NULL,
  message TEXT NOT NULL,
  issuer TEXT NOT NULL,
  jwks LONGTEXT NOT NULL,
  created_us BIGINT NOT NULL
);

CREATE TABLE intents (
  agent VARCHAR(40) NOT NULL,
  key_text VARCHAR(700) NOT NULL,
  api_group VARCHAR(300) NOT NULL,
  version VARCHAR(300) NOT NULL,
  kind VARCHAR(300) NOT NULL,
  namespace VARCHAR(300) NOT NULL,
  name VARCHAR(300) NOT NULL,
  owner VARCHAR(300) NOT NULL,
  writer_epoch BIGINT NOT NULL,
  intent_uid VARCHAR(64) NOT NULL,
  generation BIGINT NOT NULL,
  digest VARCHAR(64) NOT NULL,
  body LONGTEXT NOT NULL,
  options MEDIUMBLOB NOT NULL,
  priority INTEGER NOT NULL,
  rev BIGINT NOT NULL,
  tombstone BOOL NOT NULL,
  traceparent VARCHAR(300) NOT NULL,
  outcome INTEGER NOT NULL,
  result_generation BIGINT NOT NULL,
  result MEDIUMBLOB NOT NULL,
  result_us BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  PRIMARY KEY (agent, key_text)
);
CREATE UNIQUE INDEX intents_rev ON intents (agent, rev);
CREATE INDEX intents_change ON intents (agent, change_seq);
CREATE INDEX intents_owner ON intents (agent, owner);

CREATE TABLE statuses (
  agent VARCHAR(40) NOT NULL,
  key_text VARCHAR(700) NOT NULL,
  intent_uid VARCHAR(64) NOT NULL,
  intent_generation BIGINT NOT NULL,
  observed_generation BIGINT NOT NULL,
  resource_version VARCHAR(300) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  body LONGTEXT NOT NULL,
  gone BOOL NOT NULL,
  edges MEDIUMBLOB NOT NULL,
  epoch BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  change_seq BIGINT NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (agent, key_text)
);
CREATE INDEX statuses_change ON statuses (agent, change_seq);

CREATE TABLE writers (
  agent VARCHAR(40) NOT NULL,
  owner VARCHAR(300) NOT NULL,
  epoch BIGINT NOT NULL,
  PRIMARY KEY (agent, owner)
);

CREATE TABLE inventory (
  agent VARCHAR(40) NOT NULL,
  watch INTEGER NOT NULL,
  key_text VARCHAR(700) NOT NULL,
  object_key MEDIUMBLOB NOT NULL,
  object LONGTEXT NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (agent, watch, key_text)
);

CREATE TABLE interests (
  agent VARCHAR(40) NOT NULL,
  watch INTEGER NOT NULL,
  bookmark VARCHAR(300) NOT NULL,
  PRIMARY KEY (agent, watch)
);

CREATE TABLE join_tokens (
  hash VARCHAR(64) NOT NULL PRIMARY KEY,
  agent VARCHAR(40) NOT NULL,
  auto_approve BOOL NOT NULL,
  expire_us BIGINT NOT NULL,
  used_us BIGINT NOT NULL,
  request VARCHAR(64) NOT NULL,
  created_us BIGINT NOT NULL
);
CREATE INDEX join_tokens_agent ON join_tokens (agent);

CREATE TABLE certificates (
  fingerprint VARCHAR(64) NOT NULL PRIMARY KEY,
  agent VARCHAR(40) NOT NULL,
  expire_us BIGINT NOT NULL,
  revoked BOOL NOT NULL,
  created_us BIGINT NOT NULL
);
CREATE INDEX certificates_agent ON certificates (agent);
