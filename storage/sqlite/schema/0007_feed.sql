-- Where in the feed a time stands: when a revision was made, in event time.
CREATE INDEX alerts_changed ON alerts (max(time, detected_at), seq);
