package alerts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// SyslogConfig configures syslog after RFC 5424, over UDP (RFC 5426), TCP with
// counted octets (RFC 6587) or TLS (RFC 5425):
//
//	<131>1 2026-11-22T04:00:00Z gw1 weir 812 auth.stuffing [weir@32473 id="7f3c9a…" revision="3"] CEF:0|weir|…
//
// Syslog acknowledges nothing. When a connection breaks, the messages that went
// into it last are sent again, under the same ids; with UDP what is lost is lost.
type SyslogConfig struct {
	Address  string `yaml:"address"`  // udp://, tcp:// or tls://host:port
	Facility string `yaml:"facility"` // local0 when empty
	Hostname string `yaml:"hostname"` // this machine's when empty

	CAFile   string   `yaml:"ca_file"`
	CertFile string   `yaml:"cert_file"`
	KeyFile  string   `yaml:"key_file"`
	Timeout  Duration `yaml:"timeout"`
}

const (
	syslogUDP   = 65_000 // what fits into a datagram
	syslogAgain = 64     // messages that are sent again when a connection breaks
)

func facilities() []string {
	return []string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
}

func (c *SyslogConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(c.Address)
	if err != nil || !slices.Contains([]string{"udp", "tcp", "tls"}, u.Scheme) || u.Hostname() == "" || u.Path != "" || u.User != nil {
		bad("address: want udp://, tcp:// or tls:// and host:port, like tls://siem.example.com:6514")
	} else if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
		bad("address: has no port; syslog's are 514, and 6514 for TLS")
	} else if u.Scheme != "tls" && c.CAFile+c.CertFile != "" {
		bad("address: certificates are for tls://")
	}
	if c.Facility != "" && !slices.Contains(facilities(), c.Facility) {
		bad("facility: %q is none of %s", c.Facility, strings.Join(facilities(), ", "))
	}
	if strings.Trim(c.Hostname, wordRunes+".") != "" || len(c.Hostname) > 255 {
		bad("hostname: %q is no name of a host", c.Hostname)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert_file: a client certificate needs cert_file and key_file")
	}
	if t := time.Duration(c.Timeout); t != 0 && (t < time.Second || t > time.Minute) {
		bad("timeout: %s is not within 1s to 1m", t)
	}
	return errs
}

type syslog struct {
	scheme, address, server string
	facility                int
	hostname                string
	timeout                 time.Duration
	tls                     *tls.Config
	guard                   *guard
	write                   writer

	conn net.Conn // nil without one
	last [][]byte // the messages that went into conn last
}

func newSyslog(c SyslogConfig, w writer, o SinkOptions) (*syslog, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open syslog: %w", err)
	}
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, errors.New("open syslog: address is none")
	}
	conf, err := tlsConfig(c.CAFile, c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("open syslog: %w", err)
	}
	conf.ServerName = u.Hostname()
	s := &syslog{
		scheme: u.Scheme, address: u.Host, server: u.Scheme + "://" + u.Host, hostname: c.Hostname, timeout: time.Duration(c.Timeout),
		tls: conf, guard: newGuard(o), write: w, facility: slices.Index(facilities(), "local0"),
	}
	if c.Facility != "" {
		s.facility = slices.Index(facilities(), c.Facility)
	}
	if s.timeout == 0 {
		s.timeout = httpTimeout
	}
	if s.hostname == "" {
		if s.hostname, err = os.Hostname(); err != nil || strings.Trim(s.hostname, wordRunes+".") != "" {
			s.hostname = "-"
		}
	}
	return s, nil
}

// Send writes the alerts into the connection, a new one where there is none or the
// other side has closed it.
func (s *syslog) Send(ctx context.Context, batch []pipeline.Alert) error {
	messages := make([][]byte, len(batch))
	for i := range batch {
		messages[i] = s.message(&batch[i])
		if s.scheme == "udp" && len(messages[i]) > syslogUDP {
			return s.tooLong(batch, i)
		}
	}
	if err := s.send(ctx, messages); err != nil {
		return fmt.Errorf("send alerts to %s: %w", s.server, err)
	}
	return nil
}

// tooLong is the error of a batch with a message that no datagram holds.
func (s *syslog) tooLong(batch []pipeline.Alert, i int) error {
	err := fmt.Errorf("send alerts to %s: alert %s is over %d bytes; use tcp:// or format: cef: %w", s.server, batch[i].ID, syslogUDP, pipeline.ErrPermanent)
	if len(batch) == 1 {
		return err
	}
	errs := make([]error, len(batch))
	for j := range errs {
		errs[j] = errTogether
	}
	errs[i] = err
	return &ItemErrors{errs}
}

func (s *syslog) send(ctx context.Context, messages [][]byte) error {
	if s.conn != nil && s.scheme != "udp" && s.closed() {
		s.drop()
	}
	write := messages
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return cause(err)
		}
		write = slices.Concat(s.last, messages)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		s.drop()
		return cause(err)
	}
	for _, m := range write {
		if _, err := s.conn.Write(s.framed(m)); err != nil {
			s.drop()
			return cause(err)
		}
	}
	if s.scheme != "udp" {
		s.last = slices.Concat(s.last, messages)
		s.last = s.last[max(len(s.last)-syslogAgain, 0):]
	}
	return nil
}

// Close ends the connection; a later Send makes another.
func (s *syslog) Close() error {
	if s.conn != nil {
		s.drop()
	}
	return nil
}

// framed counts the octets where messages follow each other in a stream.
func (s *syslog) framed(m []byte) []byte {
	if s.scheme == "udp" {
		return m
	}
	return append(strconv.AppendInt(make([]byte, 0, len(m)+8), int64(len(m)), 10), append([]byte{' '}, m...)...)
}

func (s *syslog) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	network := "tcp"
	if s.scheme == "udp" {
		network = "udp"
	}
	conn, err := s.guard.dial(ctx, network, s.address)
	if err != nil {
		return err
	}
	if s.scheme == "tls" {
		t := tls.Client(conn, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return err
		}
		conn = t
	}
	s.conn = conn
	return nil
}

// closed reports whether the other side has closed the connection: a server that
// is there says nothing.
func (s *syslog) closed() bool {
	if s.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return true
	}
	var b [1]byte
	_, err := s.conn.Read(b[:])
	var ne net.Error
	return err != nil && (!errors.As(err, &ne) || !ne.Timeout())
}

func (s *syslog) drop() {
	_ = s.conn.Close()
	s.conn = nil
}

// message is one alert after RFC 5424, section 6.
func (s *syslog) message(a *pipeline.Alert) []byte {
	b := fmt.Appendf(nil, "<%d>1 %s %s weir %d %s [weir@32473", s.facility*8+severityOf(a.Severity).syslog,
		stamp(max(changedAt(a), 0)), s.hostname, os.Getpid(), syslogName(a.Detector))
	for _, p := range [...][2]string{
		{"id", a.ID}, {"revision", strconv.Itoa(a.Revision)}, {"severity", a.Severity}, {"tier", a.Tier}, {"status", a.Status},
	} {
		b = append(append(append(b, ' '), p[0]...), '=', '"')
		for _, r := range p[1] {
			if r == '"' || r == '\\' || r == ']' {
				b = append(b, '\\')
			}
			if r < ' ' {
				r = ' '
			}
			b = append(b, string(r)...)
		}
		b = append(b, '"')
	}
	// The mark says that the text is UTF-8.
	return s.write.append(append(b, "] \xef\xbb\xbf"...), a)
}

// syslogName is s as a MSGID: at most 32 printable characters.
func syslogName(s string) string {
	out := []byte("-")[:0]
	for i := 0; i < len(s) && len(out) < 32; i++ {
		if s[i] > ' ' && s[i] < 0x7f {
			out = append(out, s[i])
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return string(out)
}
