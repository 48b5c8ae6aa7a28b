CREATE TABLE policy_state (
    id       VARCHAR(8) NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT INTO policy_state (id, revision) VALUES ('policy', 0);
CREATE TABLE signing_keys (
    kid          VARCHAR(64) NOT NULL PRIMARY KEY,
    public_point VARBINARY(128) NOT NULL,
    private_key  VARBINARY(1024) NOT NULL,
    sealed       BOOLEAN NOT NULL,
    sign_from_us BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE TABLE setup_tokens (
    id         VARCHAR(8) NOT NULL PRIMARY KEY,
    token_hash VARCHAR(64) NOT NULL
) ENGINE=InnoDB;
CREATE TABLE sessions (
    id        VARCHAR(36) NOT NULL PRIMARY KEY,
    user_name VARCHAR(64) NOT NULL,
    password_us BIGINT NOT NULL,
    create_us BIGINT NOT NULL,
    expire_us BIGINT NOT NULL,
    INDEX sessions_user (user_name),
    INDEX sessions_end (expire_us)
) ENGINE=InnoDB;
CREATE TABLE refresh_tokens (
    token_hash VARCHAR(64) NOT NULL PRIMARY KEY,
    session_id VARCHAR(36) NOT NULL,
    expire_us  BIGINT NOT NULL,
    used_us    BIGINT,
    INDEX refresh_tokens_session (session_id),
    FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
) ENGINE=InnoDB;
CREATE TABLE roles (
    id          VARCHAR(40) NOT NULL PRIMARY KEY,
    uid         VARCHAR(36) NOT NULL,
    version     BIGINT NOT NULL,
    description TEXT NOT NULL,
    permissions MEDIUMTEXT NOT NULL,
    scope       INTEGER NOT NULL
) ENGINE=InnoDB;
CREATE TABLE role_bindings (
    id        VARCHAR(128) NOT NULL PRIMARY KEY,
    role      VARCHAR(64) NOT NULL,
    user_name VARCHAR(64) NOT NULL,
    project   VARCHAR(64) NOT NULL,
    create_us BIGINT NOT NULL,
    INDEX role_bindings_user (user_name, id),
    INDEX role_bindings_project (project, id),
    INDEX role_bindings_role (role, project)
) ENGINE=InnoDB;
CREATE TABLE blocked_users (
    user_name VARCHAR(64) NOT NULL PRIMARY KEY,
    deleted   BOOLEAN NOT NULL
) ENGINE=InnoDB;
