CREATE TABLE deleted_projects (
  uid VARCHAR(64) NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  delete_us BIGINT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE INDEX deleted_projects_by_id ON deleted_projects (id);
