package pipeline

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openData opens a gzipped file of the shared data; the test is skipped without.
func openData(t testing.TB, path ...string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join(append([]string{"..", "..", "shared", "data"}, path...)...))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestPayloadValues measures recall by kind of attack, and false alarms, on the
// values of HttpParamsDataset.
func TestPayloadValues(t *testing.T) {
	rows := csv.NewReader(openData(t, "http_params", "payload_train.csv.gz"))
	rows.LazyQuotes = true
	rows.FieldsPerRecord = -1
	type tally struct{ n, any, strong int }
	got := map[string]*tally{}
	missed := map[string][]string{}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil || len(row) < 4 || row[2] == "attack_type" {
			continue
		}
		c := got[row[2]]
		if c == nil {
			c = &tally{}
			got[row[2]] = c
		}
		c.n++
		p, _ := ScanPayloads("/x", "v="+url.QueryEscape(row[0]), "")
		if p != 0 {
			c.any++
		}
		if p&^PayloadWeak != 0 {
			c.strong++
		}
		if (p&^PayloadWeak != 0) == (row[2] == "norm") {
			missed[row[2]] = append(missed[row[2]], row[0])
		}
	}
	for _, c := range []struct {
		kind        string
		any, strong float64 // of a hundred, at least; norm: at most
	}{{"sqli", 99.7, 99.5}, {"xss", 98.5, 97}, {"path-traversal", 83, 83}, {"cmdi", 84, 83}, {"norm", 0.1, 0.03}} {
		g := got[c.kind]
		if g == nil || g.n < 50 {
			t.Fatalf("%s: too few values", c.kind)
		}
		one := func(n int) float64 { return 100 * float64(n) / float64(g.n) }
		t.Logf("%-15s %6d values: any shape %6.2f %%, a strong one %6.2f %%", c.kind, g.n, one(g.any), one(g.strong))
		if c.kind == "norm" {
			if one(g.any) > c.any || one(g.strong) > c.strong {
				t.Errorf("norm: too many false alarms: %q", missed[c.kind])
			}
		} else if one(g.any) < c.any || one(g.strong) < c.strong {
			t.Errorf("%s: recall too low", c.kind)
		}
		if os.Getenv("WEIR_SHOW") != "" {
			for _, m := range missed[c.kind][:min(len(missed[c.kind]), 60)] {
				t.Logf("   %.150s", m)
			}
		}
	}
}

// TestPayloadRules measures recall and false alarms by category on the
// regression tests of the Core Rule Set. A row that a rule must not match is no
// proof of innocence: it may be another rule's.
func TestPayloadRules(t *testing.T) {
	lines := bufio.NewScanner(openData(t, "crs_regression", "tests_dev.jsonl.gz"))
	lines.Buffer(nil, 1<<20)
	type tally struct{ n, hit, negatives, alarms int }
	got := map[string]*tally{}
	shown := map[string][]string{}
	for lines.Scan() {
		var r struct {
			Category string            `json:"category"`
			Expect   []int             `json:"expect_ids"`
			Method   string            `json:"method"`
			URI      string            `json:"uri"`
			Headers  map[string]string `json:"headers"`
			Data     *string           `json:"data"`
			Rule     int               `json:"rule_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			continue
		}
		kind := strings.TrimPrefix(r.Category, "REQUEST-")
		path, query, _ := strings.Cut(r.URI, "?")
		if i := strings.IndexByte(query, '#'); i >= 0 {
			query = query[:i]
		}
		body := r.Data != nil && *r.Data != ""
		if body {
			// Logs have no bodies; one that is a form stands for a query.
			if !strings.Contains(r.Headers["Content-Type"], "form-urlencoded") && r.Headers["Content-Type"] != "" || !strings.Contains(*r.Data, "=") {
				continue
			}
			kind += " form"
			query += "&" + *r.Data
		}
		p, _ := ScanPayloads(path, query, r.Headers["Referer"])
		p |= agentPayloads(r.Headers["User-Agent"])
		c := got[kind]
		if c == nil {
			c = &tally{}
			got[kind] = c
		}
		hit := p&^PayloadWeak != 0
		if len(r.Expect) > 0 {
			// What is only in other headers is in no log.
			if !body && query == "" && len(path) < 12 && !hit && kind[:3] != "913" {
				continue
			}
			c.n++
			if hit {
				c.hit++
			} else {
				shown[kind] = append(shown[kind], r.URI+" "+query)
			}
		} else {
			c.negatives++
			if hit {
				c.alarms++
			}
		}
	}
	var kinds []string
	for k := range got {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	floors := map[string]float64{
		"913-SCANNER-DETECTION": 99, "930-APPLICATION-ATTACK-LFI": 30, "931-APPLICATION-ATTACK-RFI": 44, "932-APPLICATION-ATTACK-RCE": 32, "932-APPLICATION-ATTACK-RCE form": 44,
		"933-APPLICATION-ATTACK-PHP": 38, "934-APPLICATION-ATTACK-GENERIC": 53, "941-APPLICATION-ATTACK-XSS": 75, "941-APPLICATION-ATTACK-XSS form": 60, "942-APPLICATION-ATTACK-SQLI": 44, "942-APPLICATION-ATTACK-SQLI form": 46,
	}
	for _, k := range kinds {
		c := got[k]
		share := 100 * float64(c.hit) / float64(max(1, c.n))
		t.Logf("%-45s %4d attacks, %5.1f %% shown; %3d rows of no match, %3d shown", k, c.n, share, c.negatives, c.alarms)
		if floor, ok := floors[k]; ok && share < floor {
			t.Errorf("%s: %.1f %%, want %.1f %%", k, share, floor)
		}
		if os.Getenv("WEIR_SHOW") != "" && strings.Contains(os.Getenv("WEIR_SHOW"), k[:3]) {
			for _, m := range shown[k][:min(len(shown[k]), 40)] {
				t.Logf("   %.170s", m)
			}
		}
	}
	for k := range floors {
		if got[k] == nil {
			t.Errorf("%s: no row", k)
		}
	}
	if len(kinds) < 10 {
		t.Fatal("too few categories")
	}
}
