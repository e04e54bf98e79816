package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modSecurityRecord = `--c7036611-A--
[10/Oct/2025:13:55:36.123456 +0200] OSD4l1BEUOkAAHZ8Y3QAAAAH 203.0.113.7 64995 192.0.2.1 80
--c7036611-B--
POST /login?b=%27 HTTP/1.1
Host: Shop.example:8080
User-Agent: sqlmap/1.7
X-Forwarded-For: 192.0.2.9
Cookie: a=b; sid=s1

--c7036611-C--
--c7036612-Z--
--c7036612-A--
user=1
--c7036611-F--
HTTP/1.1 403 Forbidden
Content-Length: 223

--c7036611-H--
Message: Access denied with code 403 (phase 2).
Action: Intercepted (phase 2)
Stopwatch: 1199881676978327 2514 (396 2224 -)

--c7036611-Z--
`

func TestModSecurity(t *testing.T) {
	c := modSecurityFormat(ParseOptions{})
	f := func(text, want string) {
		t.Helper()
		if got := parseAll(c, strings.Split(text, "\n")...); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	const one = `time=2025-10-10T11:55:36.123456Z remote=203.0.113.7 xff=192.0.2.9 host=shop.example method=POST path=/login query=b=%27 protocol=HTTP/1.1 status=403 bytes=223 agent=sqlmap/1.7 session=s1 id=OSD4l1BEUOkAAHZ8Y3QAAAAH blocked=true`
	f(modSecurityRecord, one)
	f(modSecurityRecord+"\n"+modSecurityRecord, one+"\n"+one)
	v3 := "---abCD12---A--\n[10/Oct/2025:13:55:36 +0200] 1760097336 203.0.113.7 64995 192.0.2.1 80\n---abCD12---B--\nGET / HTTP/1.1\n\n---abCD12---F--\nHTTP/1.1 200\n\n---abCD12---H--\nModSecurity: Warning.\n---abCD12---Z--\n"
	f(v3, `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/ protocol=HTTP/1.1 status=200 id=1760097336`)
	f("--c7036611-A--\nnonsense\n--c7036611-Z--", "reject: time")
	f("--c7036611-A--\n[10/Oct/2025:13:55:36 +0200] id 203.0.113.7 1 h 80\n--c7036611-Z--", "reject: request")
	f(strings.Replace(modSecurityRecord, "user=1", strings.Repeat(strings.Repeat("x", 1000)+"\n", 100), 1), one)
	long := strings.Replace(modSecurityRecord, "user=1", strings.Repeat(strings.Repeat("x", 1000)+"\n", 300), 1)
	if got := parseAll(c, strings.Split(long+modSecurityRecord, "\n")...); !strings.HasSuffix(got, "reject: format\n"+one) || strings.Contains(got, one+"\n") {
		t.Errorf("a record too long: got %.300s", got)
	}
	f("tail of a record\n--c7036611-Z--", "reject: format\nreject: format")
	if d := Detect(linesOf([]byte(modSecurityRecord)), ParseOptions{}); d.Chosen != "modsecurity: 1 of 1 lines" {
		t.Errorf("Detect says %q %q", d.Chosen, d.Problem)
	}
}

// Records and headers are read alike wherever chunks are cut and whoever parses
// them.
func TestCarry(t *testing.T) {
	f := func(c Format, text string, want int) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, workers := range []int{1, 3} {
			r := NewReader(ReaderConfig{Path: name, Format: &c, Timed: true, Workers: workers})
			n := 0
			for {
				b, err := r.Next(context.Background())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for i := range b.Requests {
					if got := fmt.Sprintf("/p/%d", n); b.Requests[i].Path != got {
						t.Fatalf("%s, %d workers: path %q, want %q", c.Name, workers, b.Requests[i].Path, got)
					}
					n++
				}
				if len(b.Rejects.Reason) > 0 {
					t.Fatalf("%s: rejects %v", c.Name, b.Rejects)
				}
				r.Release(b)
			}
			if err := r.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Fatal(err)
			}
			if n != want {
				t.Errorf("%s, %d workers: %d requests, want %d", c.Name, workers, n, want)
			}
		}
	}
	var records, columns strings.Builder
	const n = 3000 // several chunks
	for i := range n {
		records.WriteString(strings.Replace(modSecurityRecord, "/login?b=%27", fmt.Sprintf("/p/%d", i), 1))
		switch i {
		case 0:
			columns.WriteString("#Fields: date time c-ip cs-method cs-uri-stem sc-status cs(Cookie)\n")
		case n / 3:
			columns.WriteString("#Fields: cs(Cookie) c-ip date time cs-method cs-uri-stem sc-status\n")
		}
		if pad := strings.Repeat("x", 300); i < n/3 {
			fmt.Fprintf(&columns, "2025-02-06 12:14:14 203.0.113.7 GET /p/%d 200 %s\n", i, pad)
		} else {
			fmt.Fprintf(&columns, "%s 203.0.113.7 2025-02-06 12:14:14 GET /p/%d 200\n", pad, i)
		}
	}
	f(modSecurityFormat(ParseOptions{}), records.String(), n)
	f(iisFormat(ParseOptions{}), columns.String(), n)
}
