-- A vocabulary of 20,000 made-up words and a way to make texts of it in which, as in language, few words are frequent.
SELECT setseed(0.42);
CREATE TABLE vocabulary (number int PRIMARY KEY, word text);
INSERT INTO vocabulary
SELECT number,
       (SELECT string_agg((ARRAY['ba','re','to','mi','shu','len','ka','ort','est','vi','dro','pa','sel','qui','nor','an',
                                 'the','ing','ex','com','per','tra','uni','lo','wer','gra','fi','os','ent','al','ur','ci'])
                          [1 + floor(random() * 32)::int], '')
          FROM generate_series(1, 1 + (number % 4) + (number > 100)::int) WHERE number = number)
  FROM generate_series(1, 20000) number;

-- `count` words; the third power makes a few hundred of them common and the rest a long tail.
CREATE FUNCTION words(vocabulary text[], count int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE chosen text[];
BEGIN
  FOR i IN 1..count LOOP chosen[i] := vocabulary[1 + floor(power(random(), 3) * 20000)::int]; END LOOP;
  RETURN array_to_string(chosen, ' ');
END $$;

-- gen_random_uuid() would differ from run to run.
CREATE FUNCTION seeded_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT md5(random()::text || random()::text)::uuid $$;
