CREATE TABLE policy_state (
    id       VARCHAR(8) NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);
INSERT INTO policy_state (id, revision) VALUES ('policy', 0);
CREATE TABLE signing_keys (
    kid          VARCHAR(64) NOT NULL PRIMARY KEY,
    public_point BLOB NOT NULL,
    private_key  BLOB NOT NULL,
    sealed       BOOLEAN NOT NULL,
    sign_from_us BIGINT NOT NULL
);
CREATE TABLE setup_tokens (
    id         VARCHAR(8) NOT NULL PRIMARY KEY,
    token_hash VARCHAR(64) NOT NULL
);
CREATE TABLE sessions (
    id        VARCHAR(36) NOT NULL PRIMARY KEY,
    user_name VARCHAR(64) NOT NULL,
    password_us BIGINT NOT NULL,
    create_us BIGINT NOT NULL,
    expire_us BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_name);
CREATE INDEX sessions_end ON sessions (expire_us);
CREATE TABLE refresh_tokens (
    token_hash VARCHAR(64) NOT NULL PRIMARY KEY,
    session_id VARCHAR(36) NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expire_us  BIGINT NOT NULL,
    used_us    BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE TABLE roles (
    id          VARCHAR(40) NOT NULL PRIMARY KEY,
    uid         VARCHAR(36) NOT NULL,
    version     BIGINT NOT NULL,
    description TEXT NOT NULL,
    permissions TEXT NOT NULL,
    scope       INTEGER NOT NULL
);
CREATE TABLE role_bindings (
    id        VARCHAR(128) NOT NULL PRIMARY KEY,
    role      VARCHAR(64) NOT NULL,
    user_name VARCHAR(64) NOT NULL,
    project   VARCHAR(64) NOT NULL,
    create_us BIGINT NOT NULL
);
CREATE INDEX role_bindings_user ON role_bindings (user_name, id);
CREATE INDEX role_bindings_project ON role_bindings (project, id);
CREATE INDEX role_bindings_role ON role_bindings (role, project);
CREATE TABLE blocked_users (
    user_name VARCHAR(64) NOT NULL PRIMARY KEY,
    deleted   BOOLEAN NOT NULL
);
