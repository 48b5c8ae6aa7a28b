CREATE TABLE upm_meta (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    value VARBINARY(1024) NOT NULL
) ENGINE=InnoDB;
CREATE TABLE upm_lock (
    name VARCHAR(190) NOT NULL PRIMARY KEY
) ENGINE=InnoDB;
CREATE TABLE upm_outbox (
    id        VARCHAR(64) NOT NULL PRIMARY KEY,
    record    MEDIUMBLOB NOT NULL,
    create_us BIGINT NOT NULL,
    INDEX upm_outbox_order (create_us, id)
) ENGINE=InnoDB;
CREATE TABLE upm_request (
    principal   VARCHAR(128) NOT NULL,
    method      VARCHAR(128) NOT NULL,
    request_id  VARCHAR(36) NOT NULL,
    fingerprint VARCHAR(64) NOT NULL,
    response    MEDIUMBLOB,
    create_us   BIGINT NOT NULL,
    PRIMARY KEY (principal, method, request_id),
    INDEX upm_request_age (create_us)
) ENGINE=InnoDB;
