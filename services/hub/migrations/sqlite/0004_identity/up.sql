ALTER TABLE agents ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN serial TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN revoked_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX certificates_revoked ON certificates (revoked_us);
