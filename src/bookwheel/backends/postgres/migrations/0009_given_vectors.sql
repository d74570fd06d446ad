-- Documents that come cut and embedded: their passages and vectors stay with the text, for as long as the text is kept.

ALTER TABLE bodies
    ADD COLUMN passages jsonb, -- start, end, page and heading path of each; NULL where the text is cut here
    ADD COLUMN vectors bytea;  -- theirs, one after the other, as little-endian float32
ALTER TABLE bodies ALTER COLUMN vectors SET STORAGE EXTERNAL; -- compressing them would gain nothing
