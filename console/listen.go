package console

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// Config is the section console of weir.yaml.
type Config struct {
	Listen        string     `yaml:"listen"`                   // HOST:PORT
	Names         []string   `yaml:"names,omitempty"`          // it may be called by, beside those of this machine
	TLS           *TLSConfig `yaml:"tls,omitempty"`            // else plain HTTP
	InsecureHTTP  bool       `yaml:"insecure_http,omitempty"`  // admits no TLS off loopback
	PepperFile    string     `yaml:"pepper_file,omitempty"`    // under which tokens are stored
	AuditKeyFile  string     `yaml:"audit_key_file,omitempty"` // signs the audit; nobody does without it
	MetricsListen string     `yaml:"metrics_listen,omitempty"` // HOST:PORT for metrics and health without a token

	Decisions *DecisionsConfig `yaml:"decisions,omitempty"`
	Sessions  SessionConfig    `yaml:"sessions,omitempty"` // of who signs in
	OIDC      *OIDCConfig      `yaml:"oidc,omitempty"`     // a provider that vouches for users
}

// TLSConfig is how the listener shows itself, and whom it trusts.
type TLSConfig struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file,omitempty"` // callers need a certificate of it, beside their token
}

// DefaultConfig listens on this machine's port 7380.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:7380", Sessions: SessionConfig{Duration(defaultIdle), Duration(defaultAbsolute)}}
}

// Validate returns what is wrong, nil for nothing.
func (c Config) Validate() error {
	var errs []error
	open, err := offLoopback("listen", c.Listen)
	errs = append(errs, err)
	if open && c.TLS == nil && !c.InsecureHTTP {
		errs = append(errs, fmt.Errorf("console.listen %q is open to others: give tls, or insecure_http: true where something in front does it", c.Listen))
	}
	if c.TLS != nil && (c.TLS.CertFile == "" || c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("console.tls: give cert_file and key_file"))
	}
	if c.MetricsListen != "" {
		_, err := offLoopback("metrics_listen", c.MetricsListen)
		errs = append(errs, err)
	}
	if c.Decisions != nil {
		if _, err := pipeline.NewNeverBlock(pipeline.IdentityConfig{}, nil, c.Decisions.NeverBlock); err != nil {
			errs = append(errs, fmt.Errorf("console.decisions.%w", err))
		}
	}
	errs = append(errs, c.Sessions.validate(), c.OIDC.validate())
	for _, name := range c.Names {
		if hostOf(name) == "" || strings.ContainsAny(name, ":/ *") {
			errs = append(errs, fmt.Errorf("console.names: %q is no host name", name))
		}
	}
	return errors.Join(errs...)
}

// offLoopback tells whether others than this machine can connect to HOST:PORT.
func offLoopback(key, listen string) (bool, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return false, fmt.Errorf("console.%s %q: %w", key, listen, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return false, fmt.Errorf("console.%s %q: the port %q is no number up to 65535", key, listen, port)
	}
	ip := net.ParseIP(host)
	return !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()), nil
}

// Off tells whether others than this machine can connect: nobody is served
// without a token then.
func (c Config) Off() bool {
	open, err := offLoopback("listen", c.Listen)
	return open || err != nil
}

// Hosts are the names it may be called by, beside those of loopback.
func (c Config) Hosts() []string { return append([]string{hostOf(c.Listen)}, c.Names...) }

// Open listens at c.Listen, with TLS where it is configured. A certificate that
// changes on disk is used from then on; one that cannot be read leaves the old one.
func (c Config) Open(log *zap.Logger) (net.Listener, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l, err := listen("listen", c.Listen)
	if err != nil || c.TLS == nil {
		return l, err
	}
	secure, err := c.TLS.open(log)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("console.tls: %w", err)
	}
	return tls.NewListener(l, secure), nil
}

// OpenMetrics listens at c.MetricsListen, in plain HTTP; nil without one.
func (c Config) OpenMetrics() (net.Listener, error) {
	if c.MetricsListen == "" {
		return nil, nil
	}
	return listen("metrics_listen", c.MetricsListen)
}

func listen(key, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("console.%s: %w; choose another with --listen or in the configuration", key, err)
	}
	// What localhost means is up to the machine.
	open, err := offLoopback(key, address)
	if a, ok := l.Addr().(*net.TCPAddr); err == nil && !open && (!ok || !a.IP.IsLoopback()) {
		err = fmt.Errorf("console.%s %q: it is not loopback on this machine", key, address)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// certLook is how often the files of a certificate are looked at.
const certLook = 5 * time.Second

// certificate is a pair of files, read again when they change.
type certificate struct {
	cert, key string
	log       *zap.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  string
	looked time.Time
}

// open reads the files. Only TLS 1.3 is spoken.
func (c *TLSConfig) open(log *zap.Logger) (*tls.Config, error) {
	held := &certificate{cert: c.CertFile, key: c.KeyFile, log: log}
	if err := held.read(); err != nil {
		return nil, err
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return held.get(time.Now()), nil },
	}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificates' authority: %w", err)
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read client certificates' authority %s: there is no certificate in it", c.ClientCAFile)
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

// read reads the pair; the caller holds mu, or is alone.
func (h *certificate) read() error {
	h.stamp = stampOf(h.cert) + stampOf(h.key)
	pair, err := tls.LoadX509KeyPair(h.cert, h.key)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	h.pair = &pair
	return nil
}

// get returns the pair, as it is on disk now and then.
func (h *certificate) get(now time.Time) *tls.Certificate {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.looked) < certLook {
		return h.pair
	}
	h.looked = now
	if stampOf(h.cert)+stampOf(h.key) == h.stamp {
		return h.pair
	}
	if err := h.read(); err != nil {
		h.log.Error("the certificate changed and cannot be used; the old one stays", zap.String("file", h.cert), zap.Error(err))
	} else {
		h.log.Info("the certificate was read again", zap.String("file", h.cert))
	}
	return h.pair
}

// stampOf changes when a file does.
func stampOf(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(st.ModTime().UnixNano(), " ", st.Size(), ";")
}

// hostOf returns the host of HOST, HOST:PORT, [HOST] or [HOST]:PORT in lower
// case, "" for what is none of these.
func hostOf(s string) string {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return ""
		}
		host = h
	} else if h, ok := strings.CutPrefix(s, "["); ok {
		if host, ok = strings.CutSuffix(h, "]"); !ok {
			return ""
		}
	}
	return strings.ToLower(host)
}
