-- Many tiny tables: four files each, most of them of one page.
CREATE SCHEMA tiny;
DO $$
BEGIN
  FOR i IN 1..current_setting('bench.tiny')::int LOOP
    EXECUTE format('CREATE TABLE tiny.t%s (id int PRIMARY KEY, name text, at timestamptz)', i);
    EXECUTE format('INSERT INTO tiny.t%s SELECT g, ''row '' || g || '' of %s'', timestamptz ''2025-01-01'' + g * interval ''1 h''
                      FROM generate_series(1, %s) g', i, i, 1 + i % 9);
    -- Each table holds locks until the end of its transaction.
    IF i % 200 = 0 THEN COMMIT; END IF;
  END LOOP;
END $$;
