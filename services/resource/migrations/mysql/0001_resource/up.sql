CREATE TABLE projects (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  uid VARCHAR(64) NOT NULL,
  version BIGINT NOT NULL,
  display_name VARCHAR(255) NOT NULL,
  labels TEXT NOT NULL,
  quota_services INTEGER NOT NULL,
  quota_units INTEGER NOT NULL,
  create_us BIGINT NOT NULL,
  update_us BIGINT NOT NULL
);
CREATE TABLE reservations (
  project VARCHAR(64) NOT NULL,
  service_id VARCHAR(64) NOT NULL,
  service VARCHAR(255) NOT NULL,
  cluster VARCHAR(64) NOT NULL,
  units INTEGER NOT NULL,
  PRIMARY KEY (project, service_id)
);
CREATE INDEX reservations_by_cluster ON reservations (cluster);
CREATE TABLE clusters (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  uid VARCHAR(64) NOT NULL,
  version BIGINT NOT NULL,
  display_name VARCHAR(255) NOT NULL,
  labels TEXT NOT NULL,
  cordoned BOOLEAN NOT NULL,
  create_us BIGINT NOT NULL,
  update_us BIGINT NOT NULL
);
CREATE TABLE inventory (
  cluster VARCHAR(64) NOT NULL,
  kind VARCHAR(64) NOT NULL,
  name VARCHAR(255) NOT NULL,
  object MEDIUMTEXT NOT NULL,
  observe_us BIGINT NOT NULL,
  PRIMARY KEY (cluster, kind, name)
);
CREATE TABLE software (
  id VARCHAR(128) NOT NULL PRIMARY KEY,
  kind VARCHAR(64) NOT NULL,
  edition VARCHAR(64) NOT NULL,
  release_version VARCHAR(64) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  enabled BOOLEAN NOT NULL,
  version BIGINT NOT NULL,
  parameters MEDIUMTEXT NOT NULL,
  content MEDIUMTEXT NOT NULL
);
