ALTER TABLE certificates DROP COLUMN parent;
ALTER TABLE certificates DROP COLUMN anchor;
