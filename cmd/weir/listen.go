package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/collector"
)

// Sources that others send to: what their sections say, and how they are
// opened.

// pushConfig is collect[].push: lines over HTTP.
type pushConfig struct {
	Listen       string     `yaml:"listen"` // HOST:PORT; 127.0.0.1:7381 when absent
	TokensFile   string     `yaml:"tokens_file"`
	TLS          *tlsConfig `yaml:"tls"`
	InsecureHTTP bool       `yaml:"insecure_http"`
	MaxBody      size       `yaml:"max_body,omitempty"`
	MaxPending   size       `yaml:"max_pending,omitempty"`
}

// tlsConfig is how a listener shows itself, and whom it trusts.
type tlsConfig struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"` // senders need a certificate of it
}

// defaultPush is where lines are pushed to when nothing is said.
const defaultPush = "127.0.0.1:7381"

func (c *pushConfig) address() string {
	if c.Listen == "" {
		return defaultPush
	}
	return c.Listen
}

// onLoopback tells whether HOST:PORT is this machine's alone. What a name means
// is looked at again when it is listened on.
func onLoopback(address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return false, fmt.Errorf("the port %q is no number up to 65535", port)
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback(), nil
}

// validate returns what is wrong, each with its path below at.
func (c *pushConfig) validate(at string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	loopback, err := onLoopback(c.address())
	if err != nil {
		bad("listen", "%q: %w", c.Listen, err)
	} else if !loopback {
		if c.TokensFile == "" && (c.TLS == nil || c.TLS.ClientCAFile == "") {
			bad("listen", "%q is open to others: give tokens_file, or tls with client_ca_file", c.Listen)
		}
		if c.TLS == nil && !c.InsecureHTTP {
			bad("listen", "%q is open to others: give tls, or insecure_http: true where something in front does it", c.Listen)
		}
	}
	if c.TLS != nil {
		errs = append(errs, c.TLS.validate(at+".tls")...)
	}
	for _, s := range []struct {
		key string
		size
	}{{"max_body", c.MaxBody}, {"max_pending", c.MaxPending}} {
		if s.Percent > 0 || s.Bytes != 0 && (s.Bytes < 64<<10 || s.Bytes > 1<<30) {
			bad(s.key, "want bytes, from 64KiB to 1GiB")
		}
	}
	return errs
}

func (c *tlsConfig) validate(at string) (errs []error) {
	if c.CertFile == "" {
		errs = append(errs, fmt.Errorf("%s.cert_file: it is empty", at))
	}
	if c.KeyFile == "" {
		errs = append(errs, fmt.Errorf("%s.key_file: it is empty", at))
	}
	return errs
}

// open reads the files. A nil c gives nil.
func (c *tlsConfig) open() (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
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

// listenTCP listens; loopback says that the address must be this machine's.
func listenTCP(address string, loopback bool) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if a, ok := l.Addr().(*net.TCPAddr); loopback && (!ok || !a.IP.IsLoopback()) {
		_ = l.Close()
		return nil, fmt.Errorf("%s is not loopback on this machine", address)
	}
	return l, nil
}

// formatFor reads a format's name that a sender gives.
func (c *collectConfig) formatFor(opt collector.ParseOptions) func(name string) (*collector.Format, error) {
	known := map[string]*collector.Format{}
	for _, f := range collector.Formats() {
		if got, err := collector.Named(f.Name, opt); err == nil {
			known[f.Name] = &got
		}
	}
	return func(name string) (*collector.Format, error) {
		if f := known[name]; f != nil {
			return f, nil
		}
		_, err := collector.Named(name, opt)
		if err == nil {
			err = fmt.Errorf("format %q is not read here", name)
		}
		return nil, err
	}
}

// pushSource listens for lines over HTTP.
func (s *service) pushSource(ctx context.Context, c *collectConfig) (*source, error) {
	src := &source{input: input{name: c.sourceName()}, follow: true, listens: true}
	opt, err := c.options()
	if err != nil {
		return nil, err
	}
	// auto is by the lines unless the configuration says.
	given, _, err := c.format(nil, false)
	if err != nil {
		return nil, err
	}
	cursor, cause, _, err := s.db.SourceCursor(ctx, src.id())
	if err != nil {
		return nil, err
	}
	cfg := collector.PushConfig{
		Source: src.name, Formats: c.formatFor(opt), Default: given, Options: opt, NewIdentify: identify(s.id), Cursor: cursor, Cause: cause.To,
		MaxBody: c.Push.MaxBody.Bytes, MaxPending: c.Push.MaxPending.Bytes, Log: s.log,
		Trusted: c.Push.TLS != nil && c.Push.TLS.ClientCAFile != "",
		Busy: func() bool {
			return s.status.appended.Load()-s.status.detected.Load() > pushLag
		},
		Answered: func(status int) { s.metrics.pushed.WithLabelValues(strconv.Itoa(status)).Inc() },
	}
	if c.Push.TokensFile != "" {
		if cfg.Tokens, err = collector.ReadTokens(c.Push.TokensFile); err != nil {
			return nil, fmt.Errorf("%s: %w", src.name, err)
		}
	}
	secure, err := c.Push.TLS.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	p, err := collector.NewPush(cfg)
	if err != nil {
		return nil, err
	}
	loopback, _ := onLoopback(c.Push.address())
	l, err := listenTCP(c.Push.address(), loopback)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.name, err)
	}
	server := p.NewServer()
	server.TLSConfig = secure
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	src.start = func() {
		s.log.Info("taking lines", zap.String("source", src.name), zap.String("push", scheme+"://"+l.Addr().String()+"/ingest/v1/"))
		go func() {
			err := error(nil)
			if secure != nil {
				err = server.ServeTLS(l, "", "")
			} else {
				err = server.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("cannot take lines any more", zap.String("source", src.name), zap.Error(err))
			}
		}()
	}
	src.next, src.release = p.Next, p.Release
	src.close = func() error {
		err := p.Close()
		// Those whose lines were kept in the last moment still hear of it.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return errors.Join(err, server.Shutdown(ctx), server.Close())
	}
	return src, nil
}

// pushLag is how many records may wait for detection before senders have to.
const pushLag = 20_000
