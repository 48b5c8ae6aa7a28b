DROP TABLE blocked_users;
DROP TABLE role_bindings;
DROP TABLE roles;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE setup_tokens;
DROP TABLE signing_keys;
DROP TABLE policy_state;
