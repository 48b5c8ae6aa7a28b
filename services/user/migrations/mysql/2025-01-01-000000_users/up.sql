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
    update_us     BIGINT NOT NULL,
    INDEX users_disabled (disabled)
) ENGINE=InnoDB;
CREATE TABLE user_labels (
    user_id     VARCHAR(40) NOT NULL,
    label_key   VARCHAR(63) NOT NULL,
    label_value VARCHAR(256) NOT NULL,
    PRIMARY KEY (user_id, label_key),
    INDEX user_labels_value (label_key, label_value, user_id),
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
) ENGINE=InnoDB;
CREATE TABLE deleted_users (
    uid       VARCHAR(36) NOT NULL PRIMARY KEY,
    id        VARCHAR(40) NOT NULL,
    delete_us BIGINT NOT NULL,
    INDEX deleted_users_time (delete_us, id)
) ENGINE=InnoDB;
