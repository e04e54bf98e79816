package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func learnedEdition(t *testing.T) (*Edition, []trafficLine) {
	t.Helper()
	lines := ownSpecs()[0].traffic(2)
	return &Edition{
		Number: 17, Effective: TimeOf(time.Date(2026, 11, 22, 3, 0, 0, 5000, time.UTC)), Lateness: 2 * time.Minute,
		Templates: learnTemplates(lines, 1).Build(nil), Detectors: json.RawMessage(`{ "priors": {"a<b": 1.50, "n": 12345678901234567890} }`),
	}, lines
}

func TestEditionRoundTrip(t *testing.T) {
	e, lines := learnedEdition(t)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := DecodeEdition(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Number != e.Number || d.Effective != e.Effective || d.Lateness != e.Lateness || d.Hash() != e.Hash() {
		t.Errorf("%d %d %v %s, want %d %d %v %s", d.Number, d.Effective, d.Lateness, d.Hash(), e.Number, e.Effective, e.Lateness, e.Hash())
	}
	if string(d.Detectors) != `{"priors":{"a<b":1.50,"n":12345678901234567890}}` {
		t.Errorf("detectors: %s", d.Detectors)
	}
	again, err := d.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoded again, the bytes differ (%v)", err)
	}
	var m, n Match
	for _, l := range lines {
		e.Templates.Match("", l.path, &m)
		d.Templates.Match("", l.path, &n)
		if m != n {
			t.Fatalf("%s: %+v, decoded %+v", l.path, m, n)
		}
	}
	if !bytes.Contains(b, []byte("\n    \"/account/orders/{int}\": ")) {
		t.Errorf("templates cannot be read:\n%.600s", b)
	}
}

func TestEditionShipped(t *testing.T) {
	e := ShippedEdition()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := DecodeEdition(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Number != 0 || d.Effective != NoTime || d.Templates.Hosts() != 0 || d.Detectors != nil || d.Hash() != e.Hash() || !strings.HasPrefix(e.Hash(), "sha256:") {
		t.Errorf("%+v from %s", d, b)
	}
}

func TestDecodeEditionRefuses(t *testing.T) {
	e, _ := learnedEdition(t)
	good, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	f := func(old, new, want string) {
		t.Helper()
		b := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("nothing to replace: %s", old)
		}
		if _, err := DecodeEdition(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s → %s: %v, want %q", old, new, err, want)
		}
	}
	f(`"number": 17`, `"number": 18`, "was edited")
	f(`"number": 17`, `"number": -1`, "negative")
	f(`"number": 17`, `"nummer": 17`, "unknown field")
	f(`weir.edition/1`, `weir.edition/2`, "schema is")
	f(`"2m0s"`, `"2"`, "lateness")
	f(`"/cart"`, `"cart"`, "must begin with /")
	f(`"/cart"`, `"/cart/"`, "canonical")
	f(`"/cart"`, `"/%63art"`, "canonical")
	f(`"/cart"`, `"/a/../cart"`, "canonical")
	f(`"/cart"`, `"/{cart}"`, "canonical")
	f(`"/cart"`, `"/{int}.exe"`, "is no slot")
	f(`"/cart"`, `"/17"`, "its slot is {int}")
	f(`"/cart"`, `"/`+strings.Repeat("a/", 20)+`b"`, "more than 16 segments")
	f(`"/cart"`, `"/`+strings.Repeat("a", 600)+`"`, "at most 512 bytes")
	f(`"host": ""`, `"host": "A"`, "lower case")
	for _, s := range []string{"", "null", "[]", "{}", "{", string(good) + "{}"} {
		if _, err := DecodeEdition([]byte(s)); err == nil {
			t.Errorf("%.20q is accepted", s)
		}
	}
}

func TestEditionFile(t *testing.T) {
	e, _ := learnedEdition(t)
	path := filepath.Join(t.TempDir(), "weir.edition.json")
	for range 2 { // the second replaces the first
		if err := WriteEdition(path, e); err != nil {
			t.Fatal(err)
		}
	}
	d, err := ReadEdition(path)
	if err != nil || d.Hash() != e.Hash() {
		t.Errorf("read back %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
	if err := WriteEdition(filepath.Join(path, "x"), e); err == nil {
		t.Error("a file in a file is accepted")
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadEdition(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the file: %v", err)
	}
	if err := WriteEdition(path, &Edition{Detectors: json.RawMessage("{")}); err == nil {
		t.Error("broken detectors are written")
	}
}

func FuzzDecodeEdition(f *testing.F) {
	for _, e := range []*Edition{ShippedEdition(), {Number: 3, Templates: shopTemplates(), Detectors: json.RawMessage(`[1,{"a":"\u2028<"}]`)}} {
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"schema":"weir.edition/1","templates":[{"host":"a","read":{"/x":1}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEdition(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := DecodeEdition(again)
		if err != nil {
			t.Fatal(err)
		}
		if d.Hash() != e.Hash() {
			t.Fatal("the hash changed")
		}
	})
}

func TestEditionHostText(t *testing.T) {
	l := NewTemplateLearner()
	siteTraffic(l, "Shop.Example", 0, 50)
	e := &Edition{Templates: l.Build(nil)}
	b, err := e.Encode()
	if err != nil || !bytes.Contains(b, []byte(`"host": "shop.example"`)) || !bytes.Contains(b, fmt.Appendf(nil, `"/cart": %d`, 50)) {
		t.Errorf("%v\n%s", err, b)
	}
}
