DROP TABLE deleted_users;
DROP TABLE user_labels;
DROP TABLE users;
