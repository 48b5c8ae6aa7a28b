DROP TABLE upm_request;
DROP TABLE upm_outbox;
DROP TABLE upm_lock;
DROP TABLE upm_meta;
