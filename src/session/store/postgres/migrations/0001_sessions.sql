-- Times are milliseconds since the Unix epoch. What says who or what is sealed before it gets here: listing, private,
-- session_key, successor_sealed.

CREATE TABLE doorward.sessions (
    sid uuid PRIMARY KEY,
    subject bytea CHECK (octet_length(subject) = 32),
    created bigint NOT NULL,
    last_seen bigint NOT NULL,
    idle_millis bigint NOT NULL,
    expires bigint NOT NULL,
    -- When the sweep looks at it: never after its end, and before it where activity has put the end off. A touch
    -- leaves it alone, so that it changes no index.
    due bigint NOT NULL,
    version bigint NOT NULL,
    listing bytea NOT NULL,
    private bytea NOT NULL,
    -- The subject's when the login began. One that is older than the subject's own has ended.
    epoch bigint NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX sessions_by_subject ON doorward.sessions (subject, sid) WHERE subject IS NOT NULL;
CREATE INDEX sessions_by_due ON doorward.sessions (due);

CREATE TABLE doorward.tokens (
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    sid uuid NOT NULL REFERENCES doorward.sessions ON DELETE CASCADE,
    issued bigint NOT NULL,
    session_key bytea NOT NULL,
    predecessor bytea CHECK (octet_length(predecessor) = 32),
    successor bytea CHECK (octet_length(successor) = 32),
    successor_sealed bytea,
    successor_seen bigint,
    CHECK ((successor IS NULL) = (successor_sealed IS NULL)),
    CHECK (successor IS NOT NULL OR successor_seen IS NULL)
);

CREATE INDEX tokens_by_sid ON doorward.tokens (sid);

-- Whose sessions were all ended at once, and when that may be forgotten.
CREATE TABLE doorward.epochs (
    subject bytea PRIMARY KEY CHECK (octet_length(subject) = 32),
    epoch bigint NOT NULL,
    until bigint NOT NULL
);

CREATE INDEX epochs_by_until ON doorward.epochs (until);

-- Every end is told in the transaction that makes it, whoever deletes the row: a commit and its news cannot part.
CREATE FUNCTION doorward.tell_of_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_catalog.pg_notify('doorward_ended', 'all');
    ELSE
        PERFORM pg_catalog.pg_notify('doorward_ended', OLD.sid::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_of_end AFTER DELETE ON doorward.sessions
    FOR EACH ROW EXECUTE FUNCTION doorward.tell_of_end();
CREATE TRIGGER tell_of_all AFTER TRUNCATE ON doorward.sessions
    FOR EACH STATEMENT EXECUTE FUNCTION doorward.tell_of_end();

CREATE FUNCTION doorward.tell_of_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify(
        'doorward_ended', 'epoch ' || pg_catalog.encode(NEW.subject, 'base64') || ' ' || NEW.epoch
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_of_epoch AFTER INSERT OR UPDATE ON doorward.epochs
    FOR EACH ROW EXECUTE FUNCTION doorward.tell_of_epoch();
