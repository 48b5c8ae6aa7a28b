DROP TABLE software;
DROP TABLE inventory;
DROP TABLE clusters;
DROP TABLE reservations;
DROP TABLE projects;
