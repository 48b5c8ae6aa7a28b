CREATE TABLE users (
    id            VARCHAR(40) NOT NULL PRIMARY KEY,
    uid           VARCHAR(36) NOT NULL UNIQUE,
    version       BIGINT NOT NULL,
    display_name  TEXT NOT NULL,
    email         TEXT NOT NULL,
    password_hash TEXT,
    password_us   BIGINT,
    disabled      BOOLEAN NOT NULL,
    create_us     BIGINT NOT NULL,
    update_us     BIGINT NOT NULL
);
CREATE INDEX users_disabled ON users (disabled);
CREATE TABLE user_labels (
    user_id     VARCHAR(40) NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label_key   VARCHAR(63) NOT NULL,
    label_value VARCHAR(256) NOT NULL,
    PRIMARY KEY (user_id, label_key)
);
CREATE INDEX user_labels_value ON user_labels (label_key, label_value, user_id);
CREATE TABLE deleted_users (
    uid       VARCHAR(36) NOT NULL PRIMARY KEY,
    id        VARCHAR(40) NOT NULL,
    delete_us BIGINT NOT NULL
);
CREATE INDEX deleted_users_time ON deleted_users (delete_us, id);
