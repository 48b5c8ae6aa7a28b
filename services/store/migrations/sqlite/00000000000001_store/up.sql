CREATE TABLE upm_meta (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);
CREATE TABLE upm_lock (
    name VARCHAR(190) NOT NULL PRIMARY KEY
);
CREATE TABLE upm_outbox (
    id        VARCHAR(64) NOT NULL PRIMARY KEY,
    record    BLOB NOT NULL,
    create_us BIGINT NOT NULL
);
CREATE INDEX upm_outbox_order ON upm_outbox (create_us, id);
CREATE TABLE upm_request (
    principal   VARCHAR(128) NOT NULL,
    method      VARCHAR(128) NOT NULL,
    request_id  VARCHAR(36) NOT NULL,
    fingerprint VARCHAR(64) NOT NULL,
    response    BLOB,
    create_us   BIGINT NOT NULL,
    PRIMARY KEY (principal, method, request_id)
);
CREATE INDEX upm_request_age ON upm_request (create_us);
