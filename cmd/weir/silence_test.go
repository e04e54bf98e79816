package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// TestSilenceCanBePasted: what the text of an alert says of the configuration is one
// that loads, once the date and the reason are filled in.
func TestSilenceCanBePasted(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"analyze", "--quiet", filepath.Join("testdata", "sample.log.gz")}, strings.NewReader(""), &out, io.Discard); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	dir := t.TempDir()
	tried := 0
	for line := range strings.Lines(out.String()) {
		_, entry, ok := strings.Cut(strings.TrimSpace(line), "in weir.yaml, under alerts.suppressions: ")
		if !ok {
			continue
		}
		tried++
		entry = strings.NewReplacer("DATE", "2040-01-31T00:00:00Z", "WHY", "ordered by us").Replace(entry)
		name := writeFile(t, dir, fmt.Sprintf("weir%d.yaml", tried), []byte("alerts: {suppressions: ["+entry+"]}\n"))
		if _, err := loadConfig(name); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if tried == 0 {
		t.Fatal("no alert says how to silence it")
	}
}
