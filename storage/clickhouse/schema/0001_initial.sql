-- Requests, sorted for a client's timeline. Parts are of one day, so that old
-- days are dropped whole. owner is the principal's hash.
--
-- non_replicated_deduplication_window makes an insert that is made again count
-- once: it keeps the tokens of so many inserts. Where the tables are made
-- Replicated, replicated_deduplication_window takes its place.
CREATE TABLE requests (
  time       DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
  owner      UInt64 CODEC(ZSTD(1)),
  kind       LowCardinality(String),
  address    IPv6 CODEC(ZSTD(1)),
  forwarded  IPv6 CODEC(ZSTD(1)),
  method     LowCardinality(String),
  host       LowCardinality(String),
  path       String CODEC(ZSTD(1)),
  query      String CODEC(ZSTD(1)),
  operation  LowCardinality(String),
  template   LowCardinality(String),
  status     UInt16 CODEC(ZSTD(1)),
  bytes      Int64 CODEC(T64, ZSTD(1)),
  duration   Int64 CODEC(T64, ZSTD(1)),
  agent      String CODEC(ZSTD(1)),
  referer    String CODEC(ZSTD(1)),
  account    String CODEC(ZSTD(1)),
  key        String CODEC(ZSTD(1)),
  session    String CODEC(ZSTD(1)),
  login_user String CODEC(ZSTD(1)),
  ja3        LowCardinality(String),
  ja4        LowCardinality(String),
  request_id String CODEC(ZSTD(1)),
  asn        UInt32 CODEC(ZSTD(1)),
  country    LowCardinality(String),
  flags      UInt16 CODEC(ZSTD(1)),
  payloads   UInt32 CODEC(ZSTD(1)),
  slot       UInt64 CODEC(ZSTD(1)),
  source     LowCardinality(String),
  source_id  UInt64 CODEC(ZSTD(1)),
  line       Int64 CODEC(DoubleDelta, ZSTD(1)),
  INDEX by_address address TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (owner, time)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

-- An endpoint's traffic by minute.
CREATE TABLE endpoint_minutes (
  minute       DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
  method       LowCardinality(String),
  host         LowCardinality(String),
  template     LowCardinality(String),
  status_class UInt8,
  requests     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  bytes        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  clients      AggregateFunction(uniqCombined64(12), UInt64)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (host, template, method, minute, status_class)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW endpoint_minutes_feed TO endpoint_minutes AS
SELECT toStartOfMinute(time) AS minute, method, host, template, toUInt8(intDiv(status, 100)) AS status_class,
  count() AS requests, sum(toUInt64(greatest(bytes, 0))) AS bytes, uniqCombined64State(12)(owner) AS clients
FROM requests GROUP BY minute, method, host, template, status_class;

-- A source's traffic by minute.
CREATE TABLE source_minutes (
  minute       DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
  source_id    UInt64 CODEC(ZSTD(1)),
  status_class UInt8,
  requests     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
  bytes        SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, source_id, status_class)
SETTINGS non_replicated_deduplication_window = 10000, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW source_minutes_feed TO source_minutes AS
SELECT toStartOfMinute(time) AS minute, source_id, toUInt8(intDiv(status, 100)) AS status_class,
  count() AS requests, sum(toUInt64(greatest(bytes, 0))) AS bytes
FROM requests GROUP BY minute, source_id, status_class;

-- The feed: every revision is a row, seq is its place. A row written again has
-- the same seq and replaces itself. body is the alert as it was committed.
CREATE TABLE alerts (
  seq             Int64 CODEC(DoubleDelta, ZSTD(1)),
  id              String CODEC(ZSTD(1)),
  revision        UInt32,
  first_time      DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  time            DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  severity        LowCardinality(String),
  tier            LowCardinality(String),
  detector        LowCardinality(String),
  principal_kind  LowCardinality(String),
  principal_value String CODEC(ZSTD(1)),
  status          LowCardinality(String),
  backfill        Bool,
  body            String CODEC(ZSTD(3)),
  INDEX by_id id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree
ORDER BY seq
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE findings (
  time            DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  id              String CODEC(ZSTD(1)),
  detector        LowCardinality(String),
  principal_kind  LowCardinality(String),
  principal_value String CODEC(ZSTD(1)),
  body            String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (time, id)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1;
