//go:build unix

package sqlite

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// BenchmarkFindAlerts asks for what analysts ask for, of many alerts: a million
// with WEIR_ALERTS=1000000. It makes them as an older store's, which the schema
// lists.
func BenchmarkFindAlerts(b *testing.B) {
	n := 20_000
	if text := os.Getenv("WEIR_ALERTS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			b.Fatal(err)
		}
	}
	db := openTest(b)
	undo(b, db)
	if _, err := db.conn.ExecContext(b.Context(), manyAlerts, n, int64(testStart)); err != nil {
		b.Fatal(err)
	}
	if _, err := db.conn.ExecContext(b.Context(), manyTriages); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	db = reopen(b, db)
	b.Logf("%d alerts listed in %s, %d MB", n, time.Since(began).Round(time.Millisecond), stats(b, db).Bytes>>20)
	day := pipeline.Time(24 * 3600e6)
	end := testStart + 400*day
	for name, q := range map[string]storage.AlertQuery{
		"everything": {}, "open": {Status: []string{"open"}}, "closed by bob": {Triage: []string{"closed"}, Assignee: "bob"},
		"critical, nobody's": {Severity: []string{"critical"}, Assignee: "-"}, "nothing fits": {Detector: []string{"none.such"}},
		"last day": {Since: end - day}, "a day long ago": {Since: testStart + 50*day, Until: testStart + 51*day}, "half of the time": {Since: testStart + 100*day, Until: testStart + 300*day},
		"a rare one long ago": {Since: testStart + 50*day, Until: testStart + 200*day, Severity: []string{"critical"}, Verdict: []string{"duplicate"}},
		"principal":           {Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "10.0.1.7"}}, "address": {Address: "10.0.1.7"},
		"endpoint": {Endpoint: "POST /login7"}, "tag": {Tags: []string{"t3"}}, "campaign": {Campaign: "c77"}, "label": {Labels: map[string]string{"service": "s3"}},
		"a common word": {Words: []string{"stuffing"}}, "a rare word": {Words: []string{"10.0.1.7"}}, "two words and more": {Words: []string{"stuffing", "login7"}, Severity: []string{"high"}},
		"by severity": {Sort: "severity"}, "by severity, open": {Sort: "severity", Status: []string{"open"}}, "by score": {Sort: "score"},
		"by score, of a tag": {Sort: "score", Tags: []string{"t3"}}, "by score, last month": {Sort: "score", Since: end - 30*day}, "by score, of bob": {Sort: "score", Assignee: "bob"},
	} {
		b.Run(name, func(b *testing.B) {
			q.Limit, q.Count = 100, true
			var longest time.Duration
			rows, total, cpu := 0, int64(0), cpuTime()
			for b.Loop() {
				began := time.Now()
				l, err := db.FindAlerts(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				longest = max(longest, time.Since(began))
				rows, total = len(l.Alerts), l.Total
			}
			b.ReportMetric(float64((cpuTime()-cpu).Milliseconds())/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(longest.Milliseconds()), "ms-longest")
			b.ReportMetric(float64(rows), "rows")
			b.ReportMetric(float64(total), "total")
		})
	}
	for _, by := range []string{"detector", "principal", "endpoint", "campaign"} {
		for name, q := range map[string]storage.AlertQuery{"all": {}, "open, last week": {Status: []string{"open"}, Since: end - 7*day}} {
			b.Run("group by "+by+", "+name, func(b *testing.B) {
				cpu := cpuTime()
				for b.Loop() {
					if _, err := db.GroupAlerts(b.Context(), q, by); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((cpuTime()-cpu).Milliseconds())/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// manyAlerts makes ?1 alerts over 400 days from ?2 on.
const manyAlerts = `WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < ?1),
	v AS (SELECT i, (i * 7919) % 1000003 AS r, ?2 + i * 400 * 86400000000 / ?1 AS t FROM c),
	w AS (SELECT i, t, r, CASE WHEN r % 100 < 60 THEN 'low' WHEN r % 100 < 85 THEN 'medium' WHEN r % 100 < 97 THEN 'high' WHEN r % 100 < 99 THEN 'critical' ELSE 'info' END AS severity,
		CASE r % 7 WHEN 0 THEN 'auth.stuffing' WHEN 1 THEN 'auth.spraying' WHEN 2 THEN 'enum.object' WHEN 3 THEN 'probe.path' WHEN 4 THEN 'scrape.crawl' WHEN 5 THEN 'inject.probe' ELSE 'volume.flood' END AS detector,
		CASE WHEN i > ?1 - ?1 / 50 AND r % 3 = 0 THEN 'open' ELSE 'resolved' END AS status, '10.' || (r / 65536 % 4) || '.' || (r / 256 % 256) || '.' || (r % 256) AS ip FROM v)
	INSERT INTO alerts (id, revision, latest, first_time, time, detected_at, severity, tier, detector, principal_kind, principal_value, status, backfill, digest, body)
	SELECT printf('%032x', i * 1000003), 1, 1, t, t + (r % 3600) * 1000000, t, severity, CASE WHEN severity IN ('high', 'critical') THEN 'page' ELSE 'review' END, detector, 'ip', ip, status, i < ?1 / 10, x'00',
		json_object('schema', 'weir.alert/1', 'id', printf('%032x', i * 1000003), 'revision', 1, 'status', status, 'detector', detector, 'severity', severity, 'tier', 'page',
			'title', CASE WHEN detector = 'auth.stuffing' THEN 'Credential stuffing' ELSE detector END || ' against POST /login' || (r % 40) || ' from ' || ip, 'reason', (r % 500) || ' accounts of ' || (r % 900) || ' were tried',
			'principal', json_object('kind', 'ip', 'value', ip), 'addresses', json_array(ip), 'score', json_object('nats', (r % 9000) / 100.0),
			'endpoint', json_object('method', 'POST', 'host', '', 'template', '/login' || (r % 40)), 'labels', json_object('env', 'prod', 'service', 's' || (r % 6), 'team', ''),
			'campaign', CASE WHEN r % 10 = 0 THEN 'c' || (r % 5000) ELSE '' END, 'envelope', json_object('triage', json('{}'), 'links', json('{}'), 'silence', json('{}'))) FROM w`

// manyTriages closes most of them, some years' work.
const manyTriages = `INSERT INTO triage (id, revision, body) SELECT id, 1, json_object('status', CASE WHEN seq % 20 = 0 THEN 'in_progress' ELSE 'closed' END,
	'assignee', CASE seq % 11 WHEN 0 THEN 'bob' WHEN 1 THEN 'ada' ELSE 'p' || (seq % 11) END, 'verdict', CASE WHEN seq % 20 = 0 THEN '' WHEN seq % 3 = 0 THEN 'true_positive' WHEN seq % 3 = 1 THEN 'benign_positive' ELSE 'duplicate' END,
	'tags', json_array('t' || (seq % 12))) FROM alerts WHERE status = 'resolved' AND seq % 10 < 9`

// cpuTime is what this process has used: on a machine with other work the clock
// tells little. Where there is no such figure it is 0.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSaveTriages closes 10,000 alerts in one step.
func BenchmarkSaveTriages(b *testing.B) {
	const n = 10_000
	db := openTest(b)
	undo(b, db)
	if _, err := db.conn.ExecContext(b.Context(), manyAlerts, n, int64(testStart)); err != nil {
		b.Fatal(err)
	}
	db = reopen(b, db)
	revision := int64(0)
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("%032x", i*1000003))
	}
	cpu := cpuTime()
	for b.Loop() {
		revision++
		list := make([]storage.TriageChange, n)
		for i, id := range ids {
			list[i] = storage.TriageChange{Triage: storage.Triage{ID: id, Revision: revision, Body: fmt.Appendf(nil, `{"status":"closed","verdict":"duplicate","assignee":"a%d","tags":["x"]}`, revision)}, By: entry(id)}
		}
		errs, err := db.SaveTriages(b.Context(), list)
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range errs {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64((cpuTime()-cpu).Milliseconds())/float64(b.N), "cpu-ms/op")
}
