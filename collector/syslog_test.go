package collector

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pipeline"
)

func TestSyslogBody(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(syslogBody([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	const line = `203.0.113.9 - - [02/Mar/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5`
	const object = `{"a: b": "c"}`
	f("<190>Nov 14 22:45:27 web1 nginx: "+line, line)
	f("<190>Nov  4 22:45:27 web1 nginx: "+line, line)
	f("<190>Nov 14 22:45:27 nginx: "+line, line)
	f("<134>Nov 14 22:45:27 haproxy[812]: "+line, line)
	f("<134>Nov 14 22:45:27 10.0.0.1 haproxy[812]: "+line, line)
	f("<134>Nov 14 22:45:27 fe80::1 app: "+line, line)
	f("<134>2026-11-14T22:45:27.125+01:00 web1 nginx: "+line, line)
	f("<13>Nov 14 22:45:27 web1 "+line, line)
	f("<13>Nov 14 22:45:27 web1 "+object, object)
	f("<13>Nov 14 22:45:27 "+object, object)
	f("<13>Nov 14 22:45:27 web1 app: @cee: "+object, object)
	f("<13>Nov 14 22:45:27 web1 app:", "")
	f("<13>"+line, line)
	f("<13>nginx: "+line, line)
	f("Nov 14 22:45:27 web1 nginx[3]: "+line, line)
	f("<165>1 2026-11-14T22:45:27Z web1 nginx 812 - - "+line, line)
	f("<165>1 2026-11-14T22:45:27Z web1 nginx 812 ID47 [x@1 y=\"z\\\"] ]\"][b c=\"\"] \xef\xbb\xbf"+line, line)
	f("<165>1 - - - - - - "+object, object)
	f("<165>1 - - - - - -", "")
	f("<165>1 - - - - - [a", "1 - - - - - [a")
	f("<165>1 - -", "1 - -")
	f(line, line)
	f(object, object)
	f("<abc>"+line, "<abc>"+line)
	f("<12345>"+line, "<12345>"+line)
	f("", "")
}

func TestSyslogFrames(t *testing.T) {
	f := func(in string, want ...string) {
		t.Helper()
		r := bufio.NewReaderSize(strings.NewReader(in), syslogFrame)
		var got []string
		for {
			frame, drop, err := nextFrame(r)
			if len(frame) > 0 {
				got = append(got, strings.TrimSpace(string(frame)))
			}
			if drop > 0 {
				_, _ = io.CopyN(io.Discard, r, drop)
			}
			if err != nil {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%.80q: %d frames %.200q, want %.200q", in, len(got), got, want)
		}
	}
	long := "<1>" + strings.Repeat("x", 3*syslogFrame)
	f("<1>a\n<2>b\r\n<3>c", "<1>a", "<2>b", "<3>c")
	f("4 <1>a4 <2>b7 <3>c\n d", "<1>a", "<2>b", "<3>c\n d")
	f("4 <1>a<2>b\n4 <3>c", "<1>a", "<2>b", "<3>c")
	f("203.0.113.9 - -\n12 monkeys\n", "203.0.113.9 - -", "12 monkeys")
	f(fmt.Sprintf("%d %s4 <3>c", len(long), long), long[:syslogFrame], "<3>c")
	f(long+"\n<3>c\n", long[:syslogFrame], "<3>c")
	f("99999999 <1>a\n", "99999999 <1>a")
	f("50 <1>a")
	f("")
}

// FuzzSyslog: no bytes panic, and a message is part of what was sent.
func FuzzSyslog(f *testing.F) {
	for _, s := range []string{"<13>Nov 14 22:45:27 web1 app: x", "<165>1 - - - - - [a b=\"\\\"\"] x", "12 <1>a b c d e f", "<>", "<1", "1 <"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !bytes.HasSuffix(in, syslogBody(in)) {
			t.Errorf("%q: %q", in, syslogBody(in))
		}
		r := bufio.NewReaderSize(bytes.NewReader(in), syslogFrame)
		for n := 0; ; n++ {
			_, drop, err := nextFrame(r)
			if err == nil && drop > 0 {
				_, err = io.CopyN(io.Discard, r, drop)
			}
			if err != nil {
				return
			}
			if n > len(in) {
				t.Fatalf("%q never ends", in)
			}
		}
	})
}

// syslogRig is a Syslog whose blocks are kept by the test.
func newSyslogRig(t *testing.T, cfg SyslogConfig) *Syslog {
	t.Helper()
	cfg.Source, cfg.Flush = "syslog:test", 5*time.Millisecond
	s, err := NewSyslog(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// keep reads n lines, good and bad, and returns the paths of the good ones.
func (s *Syslog) keep(t *testing.T, n int64) (paths []string, rejected int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for lines := int64(0); lines < n; {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("%d of %d lines came: %v", lines, n, err)
		}
		for i := range b.Requests {
			paths = append(paths, strings.Clone(b.Requests[i].Path))
		}
		for _, k := range b.Rejects.Reason {
			rejected += k
		}
		lines += b.Rejects.Lines
		s.Release(b)
	}
	return paths, rejected
}

func TestSyslogStreams(t *testing.T) {
	s := newSyslogRig(t, SyslogConfig{Allow: func(a netip.Addr) bool { return a.IsLoopback() }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.ServeStreams(l); err != nil {
			t.Error(err)
		}
	})
	// Two senders, each with its own framing; more lines than a chunk holds.
	const each = 6000
	var senders sync.WaitGroup
	for sender := range 2 {
		senders.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			w := bufio.NewWriter(conn)
			for i := range each {
				m := fmt.Sprintf("<190>Nov 14 22:45:27 web%d nginx: %s", sender, pushLines(1, sender*each+i))
				if sender == 0 {
					m = strings.TrimSpace(m)
					m = fmt.Sprintf("%d %s", len(m), m)
				}
				_, _ = w.WriteString(m)
			}
			if err := w.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	paths, rejected := s.keep(t, 2*each)
	senders.Wait()
	_ = l.Close()
	serving.Wait()
	next := [2]int{0, each}
	for _, p := range paths {
		var n int
		if _, err := fmt.Sscanf(p, "/p/%d", &n); err != nil || next[n/each] != n {
			t.Fatalf("%s came when /p/%d or /p/%d should", p, next[0], next[1])
		}
		next[n/each]++
	}
	if rejected != 0 || next != [2]int{each, 2 * each} {
		t.Errorf("%v, %d rejected", next, rejected)
	}
}

func TestSyslogPackets(t *testing.T) {
	s := newSyslogRig(t, SyslogConfig{})
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.ServePackets(conn); err != nil {
			t.Error(err)
		}
	})
	sender, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	// The first ones are of no format: counted, and what follows is recognised.
	for i := range 3 {
		fmt.Fprintf(sender, "<13>1 - - - - - - what %d\nis this", i)
		if _, rejected := s.keep(t, 1); rejected != 1 {
			t.Error("a message that is no request is not counted")
		}
	}
	for i := range 100 {
		fmt.Fprintf(sender, "<190>Nov 14 22:45:27 nginx: %s", pushLines(1, i))
		paths, rejected := s.keep(t, 1)
		if len(paths) != 1 || paths[0] != fmt.Sprintf("/p/%d", i) || rejected != 0 {
			t.Fatalf("%d: %v, %d rejected", i, paths, rejected)
		}
	}
	_ = conn.Close()
	serving.Wait()
}

// TestSyslogFull: datagrams are dropped and counted when nobody keeps anything,
// and memory stays bounded; who is not allowed is counted apart.
func TestSyslogFull(t *testing.T) {
	const limit = 4 << 20
	f := combinedFormat(ParseOptions{})
	s := newSyslogRig(t, SyslogConfig{MaxPending: limit, Format: &f})
	sent, line := 0, []byte("<190>Nov 14 22:45:27 nginx: "+string(pushLines(1, 1)))
	for dropped := 0; dropped < 1000; sent++ {
		if !s.add(line, false) {
			dropped++
		}
		if sent > 10_000_000 {
			t.Fatal("nothing is ever dropped")
		}
	}
	s.inbox.mu.Lock()
	pending := s.pending
	s.inbox.mu.Unlock()
	if pending > limit+4<<20 {
		t.Errorf("%d bytes are held, the limit is %d", pending, limit)
	}
	paths, _ := s.keep(t, int64(sent-1000))
	if len(paths) != sent-1000 {
		t.Errorf("%d lines came of %d that were taken", len(paths), sent-1000)
	}
}

// TestSyslogWithoutTime: a line that carries no time has that at which it came;
// the header's, which has no year, is not asked.
func TestSyslogWithoutTime(t *testing.T) {
	f, err := CompileNginx(`$remote_addr "$request" $status`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSyslogRig(t, SyslogConfig{Format: &f})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeStreams(l) })
	before := time.Now()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "<190>Dec 31 23:59:59 web nginx: 203.0.113.7 \"GET /a HTTP/1.1\" 200\n<190>Jan  1 00:00:00 web nginx: 203.0.113.7 \"GET /b HTTP/1.1\" 200\n"); err != nil {
		t.Fatal(err)
	}
	last, n := pipeline.TimeOf(before.Add(-time.Microsecond)), 0
	for n < 2 {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Rejects.Reason) > 0 {
			t.Fatalf("rejected: %v", b.Rejects.Reason)
		}
		for i := range b.Requests {
			if at := b.Requests[i].Time; at < last || at > pipeline.TimeOf(time.Now()) {
				t.Errorf("%s is at %s", b.Requests[i].Path, at.Std())
			}
			last = b.Requests[i].Time
			n++
		}
		s.Release(b)
	}
	_ = l.Close()
	serving.Wait()
}
