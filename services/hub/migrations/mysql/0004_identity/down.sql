DROP INDEX certificates_revoked ON certificates;
ALTER TABLE certificates DROP COLUMN revoked_us;
ALTER TABLE certificates DROP COLUMN serial;
ALTER TABLE agents DROP COLUMN subject;
