package collector

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"weir/pipeline"
)

func TestRejects(t *testing.T) {
	var r rejects
	for i := range int64(10) {
		r.add(RejectFormat, []byte("GET /x?token=s3cret HTTP/1.1"), i+1)
	}
	r.add(RejectTime, []byte("late"), 11)
	r.add(errors.New("not one of ours"), []byte("x"), 12)
	out := pipeline.Rejects{Reason: map[string]int64{"time": 5}}
	r.record(&out)
	if out.Reason["format"] != 11 || out.Reason["time"] != 6 || len(out.Reason) != 2 {
		t.Errorf("counts %v", out.Reason)
	}
	if len(out.Sample) != 4 || out.Sample[2].Line != 3 || out.Sample[0].Text != "GET /x?***" || out.Sample[3].Reason != "time" {
		t.Errorf("samples %+v", out.Sample)
	}
	var none pipeline.Rejects
	new(rejects).record(&none)
	if none.Reason != nil || none.Sample != nil {
		t.Errorf("nothing counted, yet %+v", none)
	}
}

func TestSampleText(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := sampleText([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f("plain é", "plain é")
	f("a\x00\x1b[31m\x7f\xff\t", `a\x00\x1b[31m\x7f\xff\x09`)
	f("a\u202eb\u0085", `a\xe2\x80\xaeb\xc2\x85`)
	f("GET /a?secret=1 HTTP", "GET /a?***")
	f("GET /a?", "GET /a?")
	f(`{"Authorization":"Basic eA=="}`, `{"Authorization***`)
	f("GET /reset%3Fk=1", "GET /reset%3F***")
	f("x Set-Cookie: a=b ? c", "x Set-Cookie***")
	f(strings.Repeat("x", 200), strings.Repeat("x", 200))
	f(strings.Repeat("x", 201), strings.Repeat("x", 200)+"...")
	for _, s := range []string{strings.Repeat("é", 500), strings.Repeat("\x00", 500), strings.Repeat("x", 199) + "éé?"} {
		if got := sampleText([]byte(s)); len(got) > sampleBytes+3 || !utf8.ValidString(got) {
			t.Errorf("%.20q: %d bytes, %q", s, len(got), got)
		}
	}
}

func TestRejectIsAnError(t *testing.T) {
	var f Fields
	err := combinedFormat(ParseOptions{}).New().Parse(&f, nil)
	if !errors.Is(err, RejectEmpty) || err.Error() != "empty" {
		t.Errorf("got %v", err)
	}
	for _, r := range []Reject{RejectEmpty, RejectTooLong, RejectFormat, RejectTime, RejectRequest, RejectStatus, RejectJSON, RejectBinary, RejectEncoding} {
		if !errors.Is(r.err(), r) {
			t.Errorf("%s becomes %v", r, r.err())
		}
	}
}
