CREATE TABLE services (
    name            VARCHAR(190) NOT NULL PRIMARY KEY,
    project         VARCHAR(64) NOT NULL,
    service_id      VARCHAR(64) NOT NULL,
    engine          VARCHAR(32) NOT NULL,
    uid             VARCHAR(36) NOT NULL,
    version         BIGINT NOT NULL,
    spec            MEDIUMTEXT NOT NULL,
    spec_version    INTEGER NOT NULL,
    labels          MEDIUMTEXT NOT NULL,
    description     MEDIUMTEXT NOT NULL,
    deletion_policy VARCHAR(16) NOT NULL,
    cluster         VARCHAR(64) NOT NULL,
    life            VARCHAR(16) NOT NULL,
    message         MEDIUMTEXT NOT NULL,
    operation       VARCHAR(128) NOT NULL,
    package         VARCHAR(128) NOT NULL,
    desired         MEDIUMTEXT NOT NULL,
    intents         MEDIUMTEXT NOT NULL,
    retained        MEDIUMTEXT,
    create_us       BIGINT NOT NULL,
    update_us       BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE INDEX services_by_project ON services (project, name);
CREATE INDEX services_by_age ON services (create_us, name);
CREATE TABLE operations (
    name             VARCHAR(128) NOT NULL PRIMARY KEY,
    engine           VARCHAR(32) NOT NULL,
    verb             VARCHAR(32) NOT NULL,
    target           VARCHAR(190) NOT NULL,
    project          VARCHAR(64) NOT NULL,
    principal        VARCHAR(128) NOT NULL,
    traceparent      VARCHAR(64) NOT NULL,
    input            MEDIUMTEXT NOT NULL,
    journal          MEDIUMTEXT NOT NULL,
    risk             MEDIUMTEXT NOT NULL,
    on_failure       VARCHAR(16) NOT NULL,
    direction        VARCHAR(16) NOT NULL,
    state            VARCHAR(24) NOT NULL,
    error            MEDIUMBLOB,
    response         MEDIUMBLOB,
    lease_owner      VARCHAR(64) NOT NULL,
    lease_epoch      BIGINT NOT NULL,
    lease_until_us   BIGINT NOT NULL,
    revision         BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    expected_ms      BIGINT NOT NULL,
    deadline_us      BIGINT NOT NULL,
    undo_deadline_us BIGINT NOT NULL,
    create_us        BIGINT NOT NULL,
    start_us         BIGINT NOT NULL,
    end_us           BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE INDEX operations_to_run ON operations (end_us, lease_until_us);
CREATE INDEX operations_by_target ON operations (target, name);
CREATE TABLE packages (
    name            VARCHAR(128) NOT NULL PRIMARY KEY,
    software        VARCHAR(128) NOT NULL,
    digest          VARCHAR(64) NOT NULL,
    `type`          VARCHAR(32) NOT NULL,
    edition         VARCHAR(32) NOT NULL,
    version         VARCHAR(32) NOT NULL,
    config_template MEDIUMTEXT NOT NULL,
    config_value    MEDIUMTEXT NOT NULL,
    pod_template    MEDIUMTEXT NOT NULL,
    manifest        MEDIUMTEXT NOT NULL,
    create_us       BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE TABLE departed (
    name    VARCHAR(190) NOT NULL PRIMARY KEY,
    project VARCHAR(64) NOT NULL,
    at_us   BIGINT NOT NULL
) ENGINE=InnoDB;
CREATE INDEX departed_by_time ON departed (at_us);
CREATE TABLE epochs (
    name  VARCHAR(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT INTO epochs (name, value) VALUES ('lease', 0);
