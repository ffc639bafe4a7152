-- Texts with four indexes.
SELECT setseed(0.11);
CREATE TABLE docs (id uuid, author int, created timestamptz, updated timestamptz, title text, body text, tags text[], score float8);
DO $$
DECLARE v text[];
BEGIN
  SELECT array_agg(word ORDER BY number) INTO v FROM vocabulary;
  FOR i IN 1..current_setting('bench.docs')::int LOOP
    INSERT INTO docs VALUES (
      seeded_uuid(), floor(random() * 20000),
      timestamptz '2024-01-01' + i * interval '97 s' + random() * interval '60 s',
      timestamptz '2025-01-01' + random() * interval '300 days',
      words(v, 5), words(v, 40 + floor(random() * 120)::int),
      ARRAY[v[1 + floor(random() * 50)::int], v[1 + floor(random() * 500)::int]], random() * 100);
  END LOOP;
END $$;
ALTER TABLE docs ADD PRIMARY KEY (id);
CREATE INDEX docs_created ON docs (created);
CREATE INDEX docs_author ON docs (author, updated);
CREATE INDEX docs_title ON docs (title);
