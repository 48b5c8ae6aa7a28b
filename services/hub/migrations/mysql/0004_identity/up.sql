ALTER TABLE agents ADD COLUMN subject VARCHAR(512) NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN serial VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN revoked_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX certificates_revoked ON certificates (revoked_us);
