-- JSON as applications write it, with four indexes.
SELECT setseed(0.22);
CREATE TABLE events (id bigint, session uuid, at timestamptz, kind text, payload jsonb);
DO $$
DECLARE v text[];
BEGIN
  SELECT array_agg(word ORDER BY number) INTO v FROM vocabulary;
  FOR i IN 1..current_setting('bench.events')::int LOOP
    INSERT INTO events VALUES (
      i, seeded_uuid(), timestamptz '2025-01-01' + i * interval '31 s',
      (ARRAY['view','click','order','login','error','refund'])[1 + floor(power(random(), 2) * 6)::int],
      jsonb_build_object(
        'user', jsonb_build_object(
          'id', floor(random() * 100000)::int,
          'email', words(v, 1) || '.' || floor(random() * 9999)::int || '@' || v[1 + floor(random() * 200)::int] || '.example'),
        'ip', '10.' || floor(random() * 256)::int || '.' || floor(random() * 256)::int || '.' || floor(random() * 256)::int,
        'agent', (ARRAY['Mozilla/5.0 (X11; Linux x86_64) Firefox/140', 'Mozilla/5.0 (Macintosh) Safari/18',
                        'okhttp/4.9', 'curl/8.1'])[1 + floor(random() * 4)::int],
        'amount', round((random() * 1000)::numeric, 2),
        'items', jsonb_build_array(floor(random() * 50000)::int, floor(random() * 50000)::int, v[1 + floor(random() * 3000)::int]),
        'note', words(v, 8),
        'trace', md5(random()::text)));
  END LOOP;
END $$;
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX events_session ON events (session);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_user ON events (((payload -> 'user' ->> 'id')::int));
