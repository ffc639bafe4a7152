-- Values of 4 KiB that do not compress (a stream of hashes, stored as they are), and long texts that
-- PostgreSQL has compressed already.
CREATE TABLE blobs (id int, data bytea);
ALTER TABLE blobs ALTER data SET STORAGE EXTERNAL;
INSERT INTO blobs
SELECT i, (SELECT string_agg(sha512((i || ':' || k)::bytea), ''::bytea) FROM generate_series(1, 64) k)
  FROM generate_series(1, current_setting('bench.blobs')::int) i;
ALTER TABLE blobs ADD PRIMARY KEY (id);

SELECT setseed(0.33);
CREATE TABLE bigdocs (id int, body text);
DO $$
DECLARE v text[];
BEGIN
  SELECT array_agg(word ORDER BY number) INTO v FROM vocabulary;
  FOR i IN 1..current_setting('bench.bigdocs')::int LOOP
    INSERT INTO bigdocs VALUES (i, words(v, 800 + floor(random() * 1600)::int));
  END LOOP;
END $$;
ALTER TABLE bigdocs ADD PRIMARY KEY (id);
