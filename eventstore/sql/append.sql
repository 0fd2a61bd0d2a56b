-- One batch, one autocommit statement, one answer per slot (migrations/0002_append.sql says what goes in and out).
SELECT state, version, last, gone
FROM crewkit.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
