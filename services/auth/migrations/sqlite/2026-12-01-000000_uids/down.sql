ALTER TABLE refresh_tokens DROP COLUMN used_by;
ALTER TABLE sessions DROP COLUMN secret;
DROP TABLE forgotten_projects;
ALTER TABLE role_bindings DROP COLUMN project_uid;
ALTER TABLE role_bindings DROP COLUMN user_uid;
