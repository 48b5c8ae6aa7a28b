CREATE TABLE replicas (
  name TEXT NOT NULL PRIMARY KEY,
  instance TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  beats BIGINT NOT NULL,
  sessions BIGINT NOT NULL
);
