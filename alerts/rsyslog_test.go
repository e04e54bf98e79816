package alerts

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"weir/alerts/schemas"
	"weir/pipeline"
)

// rsyslogModules are where rsyslog keeps its parts. RSYSLOG_MODULES adds another, as for
// a driver of TLS (Debian: rsyslog-openssl) that is unpacked and not installed.
func rsyslogModules() (dirs []string) {
	dirs, _ = filepath.Glob("/usr/lib/*/rsyslog")
	if d := os.Getenv("RSYSLOG_MODULES"); d != "" {
		dirs = append(dirs, d)
	}
	return dirs
}

// startRsyslog runs rsyslog on a free port with more lines for its input, and returns the
// port and the file that it writes: a JSON object a message.
func startRsyslog(t *testing.T, global, input string) (port, out string) {
	t.Helper()
	path, err := exec.LookPath("rsyslogd")
	if err != nil {
		if path = "/usr/sbin/rsyslogd"; !isFile(path) {
			t.Skip("rsyslogd is not here (Debian: apt-get install rsyslog)")
		}
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	out = filepath.Join(dir, "out.json")
	fields := ""
	for _, p := range []string{"protocol-version", "app-name", "msgid", "hostname", "syslogfacility-text", "syslogseverity-text", "structured-data", "msg", "timereported:::date-rfc3339"} {
		name, format, _ := strings.Cut(p, ":::")
		if format != "" {
			format = fmt.Sprintf(" dateFormat=%q", strings.TrimPrefix(format, "date-"))
		}
		fields += fmt.Sprintf("  property(outname=%q name=%q%s format=\"jsonf\")\n  constant(value=\",\")\n", name, name, format)
	}
	fields = strings.TrimSuffix(fields, "  constant(value=\",\")\n")
	conf := secretFile(t, fmt.Sprintf(`global(workDirectory=%q maxMessageSize="256k" parser.escapeControlCharactersOnReceive="off"%s)
module(load="imtcp" %s)
input(type="imtcp" port=%q address="127.0.0.1")
template(name="fields" type="list") {
  constant(value="{")
%s  constant(value="}\n")
}
action(type="omfile" file=%q template="fields")
`, dir, global, input, port, fields, out))
	cmd := exec.Command(path, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"), "-M", strings.Join(rsyslogModules(), ":"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Skipf("rsyslogd does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("rsyslogd: %s", said.String())
		}
	})
	return port, out
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// TestRsyslogReadsWhatWasMeant: rsyslog takes every message of ours apart as RFC 5424
// has it, over TCP and TLS, whatever attackers write into alerts.
func TestRsyslogReadsWhatWasMeant(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		port, out := startRsyslog(t, "", "")
		rsyslogReads(t, SyslogConfig{Address: "tcp://127.0.0.1:" + port, Facility: "local4", Hostname: "gw1"}, FormatCEF, out)
	})
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		port, out := startRsyslog(t, "", "")
		rsyslogReads(t, SyslogConfig{Address: "tcp://127.0.0.1:" + port, Facility: "local4", Hostname: "gw1"}, FormatNative, out)
	})
	t.Run("tls", func(t *testing.T) {
		t.Parallel()
		driver := ""
		for _, dir := range rsyslogModules() {
			if isFile(filepath.Join(dir, "lmnsd_ossl.so")) {
				driver = "ossl"
			}
		}
		if driver == "" {
			t.Skip("rsyslog has no TLS here (Debian: rsyslog-openssl; or RSYSLOG_MODULES)")
		}
		srv := httptest.NewTLSServer(nil) // for its certificate
		defer srv.Close()
		cert := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
		der, err := x509.MarshalPKCS8PrivateKey(srv.TLS.Certificates[0].PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		key := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		port, out := startRsyslog(t, fmt.Sprintf(" defaultNetstreamDriver=%q defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q", driver, cert, cert, key),
			fmt.Sprintf(`streamDriver.name=%q streamDriver.mode="1" streamDriver.authMode="anon"`, driver))
		rsyslogReads(t, SyslogConfig{Address: "tls://127.0.0.1:" + port, Facility: "local4", Hostname: "gw1", CAFile: cert}, FormatCEF, out)
	})
}

// rsyslogReads sends alerts and compares what rsyslog makes of them.
func rsyslogReads(t *testing.T, c SyslogConfig, format Format, out string) {
	t.Helper()
	var list []pipeline.Alert
	for i, a := range corpus(t) {
		a.ID, a.Revision = fmt.Sprint("n", i), 1+i
		list = append(list, a)
	}
	for i, s := range []string{`"] evil="x`, `]`, `\`, `\"`, "a\nb\r\n<13>1 - - - - - - forged", "\x00\x1b[2J", "ü\xff\xfe", "12 <13>1 - x", "|=\\|", "\u2028"} {
		a := *hostileAlert(s)
		a.ID, a.Revision = fmt.Sprint("h", i, s), 1
		list = append(list, a)
	}
	sink, err := OpenSink(SinkConfig{Syslog: &c, Format: format}, SinkOptions{Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for tries := 0; ; tries++ { // until it listens
		if err = sink.Send(t.Context(), list[:1]); err == nil {
			break
		}
		if tries == 200 {
			t.Fatalf("rsyslog does not take anything: %v", err)
		}
		<-tick.C
	}
	if err := sink.Send(t.Context(), list[1:]); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.(io.Closer).Close() }()
	var lines []string
	for range 200 {
		data, err := os.ReadFile(out)
		if lines = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"); err == nil && len(lines) == len(list) {
			break
		}
		<-tick.C
	}
	if len(lines) != len(list) {
		t.Fatalf("rsyslog has %d messages of %d: %s", len(lines), len(list), lines)
	}
	for i, line := range lines {
		a := &list[i]
		if !utf8.ValidString(line) {
			t.Errorf("%s: no UTF-8: %q", a.ID, line)
		}
		var m map[string]string
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v: %s", a.ID, err, line)
		}
		want := map[string]string{
			"protocol-version": "1", "app-name": "weir", "hostname": "gw1", "syslogfacility-text": "local4",
			"syslogseverity-text": [...]string{2: "crit", "err", "warning", "notice", "info"}[severityOf(a.Severity).syslog],
		}
		if a.Detector != "" && strings.Trim(a.Detector, wordRunes+".") == "" {
			want["msgid"] = a.Detector
		}
		got := map[string]string{}
		for k := range want {
			got[k] = m[k]
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", a.ID, d)
		}
		sd := parseStructuredData(t, m["structured-data"])
		if sd["id"] != printed(a.ID) || sd["revision"] != fmt.Sprint(a.Revision) || sd["severity"] != printed(a.Severity) || len(sd) != 5 {
			t.Errorf("%q: structured data %q: %v", a.ID, m["structured-data"], sd)
		}
		text := strings.TrimPrefix(strings.TrimPrefix(m["msg"], " "), "\ufeff")
		if want := string(AppendFormat(nil, a, format, "")); text != want {
			t.Errorf("%s: the text is %q, want %q", a.ID, text, want)
		}
		if _, err := schemas.ParseCEF(text); format == FormatCEF && err != nil {
			t.Errorf("%s: %v: %s", a.ID, err, text)
		}
	}
}

// printed is s with a space for each control character.
func printed(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// parseStructuredData reads one element of RFC 5424: [weir@32473 name="value" ...].
func parseStructuredData(t *testing.T, s string) map[string]string {
	t.Helper()
	rest, ok := strings.CutPrefix(s, "[weir@32473")
	if !ok || !strings.HasSuffix(rest, "]") {
		t.Fatalf("structured data %q", s)
	}
	out := map[string]string{}
	r := bufio.NewReader(strings.NewReader(strings.TrimSuffix(rest, "]")))
	for {
		if b, err := r.ReadByte(); err != nil {
			return out
		} else if b != ' ' {
			t.Fatalf("structured data %q: %q in place of a space", s, b)
		}
		name, err := r.ReadString('=')
		if q, _ := r.ReadByte(); err != nil || q != '"' {
			t.Fatalf("structured data %q", s)
		}
		var value []byte
		for {
			b, err := r.ReadByte()
			if err != nil || b == ']' {
				t.Fatalf("structured data %q ends in a value", s)
			}
			if b == '"' {
				break
			}
			if b == '\\' {
				b, _ = r.ReadByte()
			}
			value = append(value, b)
		}
		out[strings.TrimSuffix(name, "=")] = string(value)
	}
}
