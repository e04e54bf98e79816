package collector

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every preset has lines in testdata/presets, each followed by what it reads
// from them.
func TestPresets(t *testing.T) {
	all := presets()
	if len(all) < 20 {
		t.Fatalf("%d presets, want 20 or more", len(all))
	}
	for _, p := range all {
		name := filepath.Join("testdata", "presets", p.name+".txt")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%s has no golden: %v", p.name, err)
			continue
		}
		c := p.format(ParseOptions{})
		var out strings.Builder
		var lines [][]byte
		read := 0
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "= ") {
				continue
			}
			got := parse(c, line)
			fmt.Fprintf(&out, "%s\n= %s\n", line, got)
			if strings.HasPrefix(got, "reject") {
				continue
			}
			read++
			lines = append(lines, []byte(line))
			if !strings.Contains(got, "time=") || !strings.Contains(got, "remote=") || !strings.Contains(got, "path=") {
				t.Errorf("%s: no time, client or path in %s", p.name, got)
			}
			if got, want := string(c.ClientPrefix([]byte(line))), ""; got == want {
				t.Errorf("%s: no client prefix: %s", p.name, line)
			}
			var f Fields
			parser := c.New()
			b := []byte(line)
			if n := testing.AllocsPerRun(20, func() { _ = parser.Parse(&f, b) }); n != 0 {
				t.Errorf("%s: %v allocations", p.name, n)
			}
		}
		if read == 0 {
			t.Errorf("%s: its golden has no line that it reads", p.name)
		}
		if d := Detect(lines, ParseOptions{}); d.Format == nil || d.Format.Name != p.name {
			t.Errorf("%s: Detect says %+v", p.name, d)
		}
		if *update {
			if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if out.String() != string(text) {
			t.Errorf("%s:\n got\n%s\nwant\n%s", p.name, out.String(), text)
		}
	}
}

func TestCompilePreset(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if _, err := compilePreset("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	f("describe x\nknown a\nstatsu b", `no field "statsu"`)
	f("describe x\nknown a\nstatus", `nothing follows "status"`)
	f("status a", "needs describe and known")
	p, err := compilePreset("x", "describe x\nknown a\nwhere kind HTTP\nmethod m\npath h[].Uri\nstatus h[].n")
	if err != nil {
		t.Fatal(err)
	}
	c := p.format(ParseOptions{})
	for line, want := range map[string]string{
		`{"kind":"http","m":"GET","h":[{"name":"URI","value":"/a"},{"value":{"intValue":"404"},"key":"n"}]}`:    "method=GET path=/a status=404",
		`{"kind":"http","m":"GET","h":[{"name":"uri","value":"/caf\u00e9"},5,{"name":"n"},{},{"value":"none"}]}`: "method=GET path=/café",
		`{"kind":"http","m":"GET","h":{"uri":"/a"}}`:                                                            "method=GET path=/a",
		`{"kind":"http","m":"GET","h":[]}`:                                                                       "method=GET",
		`{"kind":"dns","m":"GET"}`:                                                                               "reject: skip",
		`{"m":"GET"}`:                                                                                            "reject: skip",
		`{"kind":"http"}`:                                                                                        "reject: request",
		`{"kind":"http","h":[{"name":"uri","value":"/a"}`:                                                        "reject: json",
	} {
		if got := parse(c, line); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

// BenchmarkPreset reads the golden lines of each preset; BenchmarkPresetObvious
// unmarshals the same lines, which is less: it looks for no field.
func BenchmarkPreset(b *testing.B) {
	for _, p := range presets() {
		b.Run(p.name, func(b *testing.B) { benchmark(b, p.format(ParseOptions{}), goldenLines(b, p)) })
	}
}

func BenchmarkPresetObvious(b *testing.B) {
	for _, p := range presets() {
		b.Run(p.name, func(b *testing.B) {
			lines := goldenLines(b, p)
			size := 0
			for _, l := range lines {
				size += len(l)
			}
			b.SetBytes(int64(size / len(lines)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var o map[string]any
				if err := json.Unmarshal(lines[i%len(lines)], &o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// goldenLines are the lines of a preset's golden that it reads.
func goldenLines(t testing.TB, p preset) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "presets", p.name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, l := range linesOf(text) {
		var f Fields
		if p.format(ParseOptions{}).New().Parse(&f, l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}
