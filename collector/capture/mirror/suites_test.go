package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"weir/collector"
	"weir/collector/capture"
	"weir/collector/capture/packet"
)

// shared is where the capture suites lie, seen from this package; they are not part
// of the project.
const shared = "../../../../shared/data"

// seen is an exchange as the suites tell them.
type seen struct {
	client, server         string // address:port
	method, host, target   string
	agent                  string
	status                 int
	requestLen, answerLen  int64 // bodies, without their frame
	flags                  capture.Flags
	requestWire, replyWire int64
}

// readCapture returns the exchanges of a capture file and what it came to.
func readCapture(t testing.TB, name string) ([]seen, Summary) {
	t.Helper()
	f, err := collector.OpenBinary(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packets, err := packet.NewFile(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var all []seen
	var inflate capture.Inflater
	keep := func(x *capture.Transaction, response bool) int {
		if response && x.Response.Has(capture.TextContentEncoding) {
			return 1 << 20
		}
		return 0
	}
	m := New(Config{Want: keep, Emit: func(x *capture.Transaction) {
		one := seenOf(x)
		if b, err := inflate.Decode(&x.Response, 16<<20); err == nil && len(b) > 0 {
			one.answerLen = int64(len(b)) // Zeek counts what is behind the encoding
		}
		all = append(all, one)
	}})
	var p packet.Packet
	for {
		if err = packets.Next(&p); err != nil {
			break
		}
		m.Packet(&p)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", name, err)
	}
	m.Flush()
	var s Summary
	s.add(m, packets)
	checkSums(t, name, m)
	return all, s
}

func seenOf(x *capture.Transaction) seen {
	return seen{
		client: fmt.Sprintf("%v:%d", x.Client, x.ClientPort), server: fmt.Sprintf("%v:%d", x.Server, x.ServerPort),
		method: strings.Clone(x.Request.Get(capture.TextMethod)), target: strings.Clone(x.Request.Get(capture.TextTarget)),
		host: strings.Clone(x.Request.Get(capture.TextHost)), agent: strings.Clone(x.Request.Get(capture.TextAgent)),
		status: int(x.Status), requestLen: x.Request.BodyBytes, answerLen: x.Response.BodyBytes, flags: x.Flags,
		requestWire: x.Request.BodyWire, replyWire: x.Response.BodyWire,
	}
}

// checkSums fails when packets or bytes went anywhere that no counter names.
func checkSums(t testing.TB, name string, m *Mirror) {
	t.Helper()
	c := m.Packets()
	var lost int64
	for r := capture.LossMalformed; r <= capture.LossDepth; r++ {
		lost += m.Tally.Events[r]
	}
	if got := c.Segments + c.Datagrams + c.Fragments + lost; got != c.Packets {
		t.Errorf("%s: %d packets, but %d counted (%+v, lost %d)", name, c.Packets, got, c, lost)
	}
	s := m.Segments()
	sum := s.Delivered + s.Held
	for _, r := range []capture.Reason{capture.LossRetransmit, capture.LossOverlap, capture.LossWindow, capture.LossConnections, capture.LossMemory} {
		sum += m.Tally.Bytes[r]
	}
	// Memory is also what parsers give up, and overlap what fragments hold twice.
	if sum < s.Bytes {
		t.Errorf("%s: %d bytes of payload, but %d counted", name, s.Bytes, sum)
	}
	if m.Memory.Used != 0 {
		t.Errorf("%s: %d bytes of memory were not given back", name, m.Memory.Used)
	}
}

type zeekRow struct {
	Client     string `json:"id.orig_h"`
	ClientPort int    `json:"id.orig_p"`
	ServerPort int    `json:"id.resp_p"`
	Method     string `json:"method"`
	Host       string `json:"host"`
	URI        string `json:"uri"`
	Status     int    `json:"status_code"`
	Request    int64  `json:"request_body_len"`
	Response   int64  `json:"response_body_len"`
}

type zeekTest struct {
	Test string    `json:"test"`
	Rows []zeekRow `json:"rows"`
}

type tsharkRow struct {
	Source string `json:"src"`
	Proto  string `json:"proto"`
	Method string `json:"method"`
	URI    string `json:"uri"`
	Host   string `json:"host"`
	Code   int    `json:"code"`
}

type tsharkFile struct {
	Requests  []tsharkRow `json:"requests"`
	Responses []tsharkRow `json:"responses"`
}

func loadJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the capture suites are not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// reviewed reads testdata/reviewed.txt: differences that were looked at, each with
// who is right.
func reviewed(t testing.TB) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "reviewed.txt"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		what, why, ok := strings.Cut(line, "\t# ")
		if !ok || why == "" {
			t.Fatalf("reviewed.txt: %q says not who is right", line)
		}
		known[what] = false
	}
	return known
}

// differ compares two multisets of lines.
func differ(want, got []string) (missing, extra []string) {
	count := map[string]int{}
	for _, g := range got {
		count[g]++
	}
	for _, w := range want {
		if count[w] > 0 {
			count[w]--
		} else {
			missing = append(missing, w)
		}
	}
	for g, n := range count {
		for range n {
			extra = append(extra, g)
		}
	}
	sort.Strings(extra)
	return missing, extra
}

// suiteTally counts what agreed over all files of a suite.
type suiteTally struct {
	t            *testing.T
	known        map[string]bool
	said         []string
	right, wrong int
}

func (s *suiteTally) compare(file, what string, want, got []string) {
	missing, extra := differ(want, got)
	s.right += len(want) - len(missing)
	for _, kind := range []struct {
		name string
		list []string
	}{{"missing", missing}, {"extra", extra}} {
		for _, line := range kind.list {
			entry := strings.Join([]string{file, what, kind.name, line}, "\t")
			if _, ok := s.known[entry]; ok {
				s.known[entry] = true
				continue
			}
			if kind.name == "missing" {
				s.wrong++
			}
			if !slices.Contains(s.said, entry) {
				s.said = append(s.said, entry)
				s.t.Errorf("not reviewed: %s", entry)
			}
		}
	}
}

// stale fails for differences of an oracle that are gone.
func (s *suiteTally) stale(oracle string) {
	for entry, seen := range s.known {
		if !seen && strings.Contains(entry, oracle) {
			s.t.Errorf("no such difference any more: %s", entry)
		}
	}
}

func TestTsharkSuites(t *testing.T) {
	s := suiteTally{t: t, known: reviewed(t)}
	files := 0
	for _, suite := range []string{"zeek_pcaps", "packetbeat_pcaps", "chrissanders_pcaps", "ja4_pcaps"} {
		var oracle map[string]tsharkFile
		loadJSON(t, filepath.Join(shared, suite, "tshark_oracle.json"), &oracle)
		names := make([]string, 0, len(oracle))
		for name := range oracle {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			files++
			o := oracle[name]
			var requests, answers, gotRequests, gotAnswers []string
			for _, r := range o.Requests {
				if r.Proto == "http/1" {
					requests = append(requests, fmt.Sprintf("%q", r.Method+" "+r.Host+" "+r.URI))
				}
			}
			for _, r := range o.Responses {
				if r.Proto == "http/1" && (r.Code >= 200 || r.Code == 101) {
					answers = append(answers, fmt.Sprintf("%s %d", r.Source, r.Code))
				}
			}
			all, _ := readCapture(t, filepath.Join(shared, suite, "pcap", name))
			for _, x := range all {
				if x.method != "" {
					gotRequests = append(gotRequests, fmt.Sprintf("%q", x.method+" "+x.host+" "+x.target))
				}
				if x.status > 0 {
					server := x.server[:strings.LastIndexByte(x.server, ':')]
					gotAnswers = append(gotAnswers, fmt.Sprintf("%s %d", server, x.status))
				}
			}
			s.compare(suite+"/"+name, "tshark request", requests, gotRequests)
			s.compare(suite+"/"+name, "tshark response", answers, gotAnswers)
		}
	}
	s.stale("\ttshark ")
	t.Logf("%d files, %d as tshark reads them, %d not", files, s.right, s.wrong)
	if s.right == 0 {
		t.Error("nothing was compared")
	}
}

func TestZeekSuite(t *testing.T) {
	s := suiteTally{t: t, known: reviewed(t)}
	var expected map[string][]zeekTest
	loadJSON(t, filepath.Join(shared, "zeek_pcaps", "expected_http.json"), &expected)
	names := make([]string, 0, len(expected))
	for name := range expected {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var want, got []string
		for _, r := range expected[name][0].Rows {
			want = append(want, zeekLine(r.Client, r.ClientPort, r.Method, r.Host, r.URI, r.Status, r.Request, r.Response))
		}
		all, _ := readCapture(t, filepath.Join(shared, "zeek_pcaps", "pcap", name))
		for _, x := range all {
			i := strings.LastIndexByte(x.client, ':')
			var port int
			fmt.Sscan(x.client[i+1:], &port)
			target := x.target
			if u, err := url.PathUnescape(target); err == nil {
				target = u
			}
			if x.method == "" {
				target = "" // Zeek does not say what is no request
			}
			got = append(got, zeekLine(x.client[:i], port, x.method, x.host, target, x.status, x.requestLen, x.answerLen))
		}
		s.compare("zeek_pcaps/"+name, "zeek", want, got)
	}
	s.stale("\tzeek\t")
	t.Logf("%d files, %d as Zeek reads them, %d not", len(names), s.right, s.wrong)
	if s.right == 0 {
		t.Error("nothing was compared")
	}
}

func zeekLine(client string, port int, method, host, uri string, status int, request, response int64) string {
	host, _, _ = strings.Cut(host, ":")
	return fmt.Sprintf("%s:%d %q %d %d %d", client, port, method+" "+host+" "+uri, status, request, response)
}
