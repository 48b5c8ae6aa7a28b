DROP INDEX certificates_revoked;
ALTER TABLE certificates DROP COLUMN revoked_us;
ALTER TABLE certificates DROP COLUMN serial;
ALTER TABLE agents DROP COLUMN subject;
