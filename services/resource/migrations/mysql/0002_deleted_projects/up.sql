CREATE TABLE deleted_projects (
  uid VARCHAR(64) NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  delete_us BIGINT NOT NULL
);
CREATE INDEX deleted_projects_by_id ON deleted_projects (id);
