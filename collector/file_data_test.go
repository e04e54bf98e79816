package collector

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReaderOnRealLogs reads logs of real servers with the format that is
// detected, with one worker and with several.
func TestReaderOnRealLogs(t *testing.T) {
	f := func(path string, wantLines int64) {
		t.Helper()
		name := filepath.Join("..", "..", "shared", "data", path)
		if _, err := os.Stat(name); err != nil {
			t.Skipf("the shared data is not here: %v", err)
		}
		lines, err := Head(name)
		if err != nil {
			t.Fatal(err)
		}
		d := Detect(lines, ParseOptions{})
		if d.Format == nil {
			t.Fatalf("%s: %s", path, d.Problem)
		}
		one := readAll(t, ReaderConfig{Path: name, Format: d.Format, Workers: 1})
		many := readAll(t, ReaderConfig{Path: name, Format: d.Format, Workers: 3})
		if one.Lines != wantLines || many.Lines != one.Lines || len(many.Requests) != len(one.Requests) || len(one.Errs) > 0 {
			t.Fatalf("%s: %d and %d lines, want %d; %d and %d requests; %v", path, one.Lines, many.Lines, wantLines, len(one.Requests), len(many.Requests), one.Errs)
		}
		for i := range one.Requests {
			if one.Requests[i] != many.Requests[i] {
				t.Fatalf("%s: request %d is %+v with one worker, %+v with three", path, i, one.Requests[i], many.Requests[i])
			}
		}
		if rejected := one.Lines - int64(len(one.Requests)); rejected*100 > one.Lines {
			t.Errorf("%s: %d of %d lines were rejected: %v", path, rejected, one.Lines, one.Reasons)
		}
	}
	f("tools_shop/access.log.gz", 32282)
	f("tools_shop/access.json.gz", 32282)
	f("baseline_access_logs/apache_logs.gz", 10000)
	f("apache_scanner_logs/acunetix.log.gz", 6539)
}
