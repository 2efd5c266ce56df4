-- Which ends of sessions some node takes care of, and when that may be forgotten.

CREATE TABLE doorward.claims (
    sid uuid PRIMARY KEY,
    until bigint NOT NULL
);

CREATE INDEX claims_by_until ON doorward.claims (until);
