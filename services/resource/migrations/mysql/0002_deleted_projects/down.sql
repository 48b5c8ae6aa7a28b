DROP TABLE deleted_projects;
