DROP TABLE epochs;
DROP TABLE departed;
DROP TABLE packages;
DROP TABLE operations;
DROP TABLE services;
