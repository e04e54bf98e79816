package main

import (
	"bytes"
	"strings"
	"testing"

	"weir/collector"
)

// TestLines: the lines are what their formats say, and so many of them are not.
func TestLines(t *testing.T) {
	p := plan{batch: 1000, malformed: 10, clients: 1000}
	for n := range 4 {
		var b body
		b.make(p, n)
		f, err := collector.Named(b.format, collector.ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parser, good, bad := f.New(), 0, 0
		var fields collector.Fields
		for line := range bytes.Lines(b.lines) {
			if parser.Parse(&fields, bytes.TrimSuffix(line, []byte("\n"))) != nil {
				bad++
			} else if strings.HasPrefix(fields.Path, pathPrefix) && fields.HasTime {
				good++
			}
		}
		if good != 990 || bad != 10 {
			t.Errorf("body %d, %s: %d good lines and %d bad, want 990 and 10", n, b.format, good, bad)
		}
		if b.packed != (n >= 2) || b.packed == bytes.Equal(b.wire(), b.lines) {
			t.Errorf("body %d: packed %v", n, b.packed)
		}
	}
}
