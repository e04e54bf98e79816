package tls

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	gotls "crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/collector/capture"
	"weir/pipeline"
)

// sink is the reader of an opened connection.
type sink struct {
	got    [2]bytes.Buffer
	gaps   [2]int
	closed [2]bool
}

func (s *sink) Data(dir capture.Direction, _ pipeline.Time, b []byte)       { s.got[dir].Write(b) }
func (s *sink) Gap(dir capture.Direction, _ pipeline.Time, _ int64)         { s.gaps[dir]++ }
func (s *sink) Close(dir capture.Direction, _ pipeline.Time, _ capture.End) { s.closed[dir] = true }

// opening is what a parser needs to open connections, and what came of it.
type opening struct {
	sink   *sink
	tally  capture.Tally
	memory capture.Memory
	conf   Config
}

func newOpening(tb testing.TB, keys string) *opening {
	tb.Helper()
	o := &opening{memory: capture.Memory{Max: 1 << 20}}
	log := &KeyLog{}
	if err := log.Read(strings.NewReader(keys)); err != nil {
		tb.Fatal(err)
	}
	o.conf = Config{Tally: &o.tally, Memory: &o.memory, Keys: log, Inner: func(*capture.Flow) Reader {
		o.sink = &sink{}
		return o.sink
	}}
	return o
}

// TestOpen opens real connections of each suite that crypto/tls lets one choose,
// in pieces of any size.
func TestOpen(t *testing.T) {
	cert := certificate(t)
	lines := []string{"GET / HTTP/1.1\r\n\r\n", strings.Repeat("0123456789", 6000), "last"}
	all := strings.Join(lines, "")
	f := func(name string, client *gotls.Config) {
		t.Helper()
		var keys bytes.Buffer
		client.InsecureSkipVerify, client.KeyLogWriter = true, &keys
		client.NextProtos = []string{"h2", "http/1.1"}
		chunks, state := talk(t, client, &gotls.Config{Certificates: []gotls.Certificate{cert}, NextProtos: []string{"http/1.1"}}, lines...)
		for _, n := range []int{1 << 20, 1, 1460} {
			o := newOpening(t, keys.String())
			var flow capture.Flow
			p := New(&o.conf, &flow)
			feed(p, chunks, n)
			if flow.Hello.ALPN != "http/1.1" { // with TLS 1.3 it is sealed
				t.Errorf("%s by %d: ALPN %q", name, n, flow.Hello.ALPN)
			}
			if o.sink == nil {
				t.Fatalf("%s by %d: was not opened; %v", name, n, o.tally)
			}
			if c, s := o.sink.got[0].String(), o.sink.got[1].String(); c != all || s != all {
				t.Errorf("%s by %d: %d and %d bytes, want %d; %v", name, n, len(c), len(s), len(all), o.tally)
			}
			if !p.Opened() || !o.sink.closed[0] || !o.sink.closed[1] || o.memory.Used != 0 || o.tally != (capture.Tally{}) {
				t.Errorf("%s by %d: closed %v, %d bytes held, %v", name, n, o.sink.closed, o.memory.Used, o.tally)
			}
		}
		if client.CipherSuites != nil && state.CipherSuite != client.CipherSuites[0] {
			t.Errorf("%s: agreed on %s", name, gotls.CipherSuiteName(state.CipherSuite))
		}
		// The keys of another connection open nothing.
		o := newOpening(t, strings.ReplaceAll(keys.String(), "a", "b"))
		feed(New(&o.conf, &capture.Flow{}), chunks, 1000)
		if o.sink != nil {
			t.Errorf("%s: opened with wrong keys", name)
		}
	}
	f("1.3", &gotls.Config{})
	f("1.3 after a retry", &gotls.Config{CurvePreferences: []gotls.CurveID{gotls.CurveP521, gotls.X25519}})
	for _, id := range []uint16{
		gotls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, gotls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		gotls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		f(gotls.CipherSuiteName(id), &gotls.Config{MaxVersion: gotls.VersionTLS12, CipherSuites: []uint16{id}})
	}
	cache := gotls.NewLRUClientSessionCache(1)
	for i := range 2 {
		f(fmt.Sprint("1.2 session ", i), &gotls.Config{MaxVersion: gotls.VersionTLS12, ClientSessionCache: cache})
	}
}

// patience bounds what waits for another program.
const patience = 30 * time.Second

// TestOpenSSL has another implementation as client, which can be told its suite
// and to change its keys.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl: the suites of TLS 1.3 and key updates are not tried")
	}
	cert := certificate(t)
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		keyFile := filepath.Join(t.TempDir(), "keys")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
		cmd := exec.CommandContext(ctx, openssl, "s_client", "-connect", l.Addr().String(), "-tls1_3", "-ciphersuites", suite, "-keylogfile", keyFile)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		words := bufio.NewReader(stderr)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		raw, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		must(t, raw.SetDeadline(time.Now().Add(patience)))
		var tape tape
		conn := gotls.Server(taped{raw, &tape}, &gotls.Config{Certificates: []gotls.Certificate{cert}})
		var said strings.Builder
		buf := make([]byte, 1000)
		// K asks for new keys of both sides, k for its own. s_client takes a command
		// that it reads by itself: so each is waited for.
		for _, in := range []string{"one\n", "K\n", "two\n", "k\n", "three\n"} {
			if _, err := io.WriteString(stdin, in); err != nil {
				t.Fatal(err)
			}
			if len(in) == 2 {
				for line := ""; line != "KEYUPDATE\n"; {
					if line, err = words.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				continue // the answer to it comes with the next line
			}
			for !strings.HasSuffix(said.String(), in) {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				said.Write(buf[:n])
			}
			if _, err := conn.Write([]byte(in)); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
		_ = stdin.Close()
		_ = cmd.Wait()
		keys, err := os.ReadFile(keyFile)
		if err != nil {
			t.Fatal(err)
		}
		o := newOpening(t, string(keys))
		feed(New(&o.conf, &capture.Flow{}), tape.chunks, 100)
		if o.sink == nil || o.sink.got[0].String() != said.String() || o.sink.got[1].String() != "one\ntwo\nthree\n" {
			t.Errorf("%s: read %+v, want %q; %v", suite, o.sink, said.String(), o.tally)
		}
		if strings.Contains(said.String(), "K") {
			t.Errorf("%s: the command for new keys was sent as text", suite)
		}
	}
}

// TestOpenGaps takes records away: those behind are opened under the right
// numbers.
func TestOpenGaps(t *testing.T) {
	cert := certificate(t)
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("line %02d %s\n", i, strings.Repeat("x", 200)))
	}
	for _, version := range []uint16{gotls.VersionTLS12, gotls.VersionTLS13} {
		var keys bytes.Buffer
		chunks, _ := talk(t, &gotls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys, MaxVersion: version}, &gotls.Config{Certificates: []gotls.Certificate{cert}}, lines...)
		var last int
		for i, c := range chunks {
			if c.dir == capture.FromClient {
				last = i
			}
		}
		for lost := range chunks[:last-2] { // not the last line
			if chunks[lost].dir != capture.FromClient || lost < 6 {
				continue
			}
			for _, known := range []bool{true, false} {
				o := newOpening(t, keys.String())
				p := New(&o.conf, &capture.Flow{})
				for i, c := range chunks {
					if i != lost {
						p.Data(c.dir, 1, c.b)
						continue
					}
					n := int64(len(c.b))
					if !known {
						n = -1
					}
					p.Gap(c.dir, 1, n)
				}
				p.Close(capture.FromClient, 1, capture.EndFIN)
				p.Close(capture.FromServer, 1, capture.EndFIN)
				if o.sink == nil || o.sink.gaps[0] == 0 && o.sink.got[0].Len() != 210*30 {
					t.Fatalf("%x: chunk %d lost, known %v: the gap was not passed on; %v", version, lost, known, o.tally)
				}
				if n := strings.Count(o.sink.got[0].String(), "line "); n < 28 || !strings.Contains(o.sink.got[0].String(), lines[29]) {
					t.Fatalf("%x: chunk %d lost, known %v: %d lines; %v", version, lost, known, n, o.tally)
				}
				if o.memory.Used != 0 {
					t.Fatalf("%d bytes were not given back", o.memory.Used)
				}
			}
		}
	}
}

// TestKeyLog reads lines good and bad.
func TestKeyLog(t *testing.T) {
	random, secret := strings.Repeat("01", 32), strings.Repeat("ab", 48)
	f := func(text string, connections, bad int) {
		t.Helper()
		var k KeyLog
		err := k.Read(strings.NewReader(text))
		if n, b, _ := k.Len(); n != connections || b != bad || err != nil {
			t.Errorf("%q: %d connections, %d bad, %v", text, n, b, err)
		}
	}
	f("", 0, 0)
	f("# comment\r\n\r\nCLIENT_RANDOM "+random+" "+secret+"\r\n", 1, 0)
	f("CLIENT_RANDOM "+random+" "+secret+"\nSERVER_TRAFFIC_SECRET_0 "+random+" "+secret, 1, 0)
	f("EXPORTER_SECRET "+random+" "+secret, 1, 0)
	f("CLIENT_RANDOM "+random[2:]+" "+secret, 0, 1)
	f("CLIENT_RANDOM "+random+" xy"+secret[2:], 0, 1)
	f("CLIENT_RANDOM "+random+" ab\nnonsense", 0, 2)
	if err := (&KeyLog{}).Read(strings.NewReader(strings.Repeat("x", 1<<17))); err == nil {
		t.Error("a line of a megabyte is no error")
	}
	if err := (&KeyLog{}).Read(failing{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// TestFollow has keys that are written while the connections run: before the first
// data, and after some.
func TestFollow(t *testing.T) {
	cert := certificate(t)
	var lines []string
	for i := range 300 {
		lines = append(lines, fmt.Sprintf("line %03d\n", i))
	}
	for _, version := range []uint16{gotls.VersionTLS12, gotls.VersionTLS13} {
		var keys bytes.Buffer
		chunks, _ := talk(t, &gotls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys, MaxVersion: version}, &gotls.Config{Certificates: []gotls.Certificate{cert}}, lines...)
		for _, after := range []int{0, 4, 40, 400} {
			file := filepath.Join(t.TempDir(), "keys")
			o := newOpening(t, "")
			o.conf.Keys.Follow(file)
			p := New(&o.conf, &capture.Flow{})
			for i, c := range chunks {
				if i == after {
					// The last line is not whole yet, and what follows is cut off.
					whole := bytes.LastIndexByte(keys.Bytes()[:keys.Len()-1], '\n') + 1
					must(t, os.WriteFile(file, keys.Bytes()[:whole+9], 0o600))
					p.Data(c.dir, 1, nil)
					must(t, os.WriteFile(file, keys.Bytes(), 0o600))
				}
				p.Data(c.dir, 1, c.b)
			}
			p.Close(capture.FromClient, 1, capture.EndFIN)
			p.Close(capture.FromServer, 1, capture.EndFIN)
			if o.sink == nil {
				t.Fatalf("%x, keys after %d chunks: was not opened", version, after)
			}
			for dir := range o.sink.got {
				got := o.sink.got[dir].String()
				// They are looked for at once, then ever less often: at twice as many.
				if n := strings.Count(got, "\n"); n < 300-after || !strings.HasSuffix(got, lines[299]) || after == 0 && n != 300 {
					t.Errorf("%x, keys after %d chunks, direction %d: %d lines; %v", version, after, dir, n, o.tally)
				}
			}
		}
	}
	var k KeyLog
	file := filepath.Join(t.TempDir(), "keys")
	k.Follow(file)
	line := func(b byte) string {
		return fmt.Sprintf("CLIENT_RANDOM %064x %096x\n", b, b)
	}
	known := func(b byte) bool {
		_, ok := k.of([32]byte{31: b})
		return ok
	}
	if known(1) {
		t.Error("secrets without a file")
	}
	must(t, os.WriteFile(file, []byte(line(1)+line(2)), 0o600))
	if !known(1) || !known(2) || known(3) {
		t.Error("secrets of the file")
	}
	must(t, os.WriteFile(file, []byte(line(3)), 0o600)) // replaced by a shorter one
	if !known(1) || !known(3) {
		t.Error("secrets of the new file")
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestExpandLabel is a value of RFC 8448, 3: the client's handshake key.
func TestExpandLabel(t *testing.T) {
	secret, _ := hex.DecodeString("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
	if got := hex.EncodeToString(ExpandLabel(sha256.New, secret, "key", 16)); got != "dbfaa693d1762c5b666af5d950258d01" {
		t.Errorf("key %s", got)
	}
	if got := hex.EncodeToString(ExpandLabel(sha256.New, secret, "iv", 12)); got != "5bd3c71b836e0b76bb73265f" {
		t.Errorf("iv %s", got)
	}
}

func BenchmarkOpen(b *testing.B) {
	var keys bytes.Buffer
	chunks, _ := talk(b, &gotls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys}, &gotls.Config{Certificates: []gotls.Certificate{certificate(b)}}, strings.Repeat("x", 1<<17))
	o := newOpening(b, keys.String())
	size := 0
	for _, c := range chunks {
		size += len(c.b)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for range b.N {
		feed(New(&o.conf, &capture.Flow{}), chunks, 1460)
	}
}
