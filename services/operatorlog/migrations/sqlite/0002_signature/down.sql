ALTER TABLE chain_head DROP COLUMN signature;
