package tls

import (
	"bufio"
	"bytes"
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
		chunks, state := talk(t, client, &gotls.Config{Certificates: []gotls.Certificate{cert}}, lines...)
		for _, n := range []int{1 << 20, 1, 1460} {
			o := newOpening(t, keys.String())
			p := New(&o.conf, &capture.Flow{})
			feed(p, chunks, n)
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
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", l.Addr().String(), "-tls1_3", "-ciphersuites", suite, "-keylogfile", keyFile)
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
	if err := (&KeyLog{}).Read(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line of a megabyte is no error")
	}
	if err := (&KeyLog{}).Read(failing{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
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
