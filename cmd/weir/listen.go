package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"weir/collector"
)

// Sources that others send to: what their sections say, and how they are
// opened.

// pushConfig is collect[].push, lines over HTTP, and collect[].otlp.
type pushConfig struct {
	Listen       string     `yaml:"listen"` // HOST:PORT; 127.0.0.1:7381 when absent, of otlp 127.0.0.1:4318
	TokensFile   string     `yaml:"tokens_file"`
	TLS          *tlsConfig `yaml:"tls"`
	InsecureHTTP bool       `yaml:"insecure_http"`
	MaxBody      size       `yaml:"max_body,omitempty"`
	MaxPending   size       `yaml:"max_pending,omitempty"`
}

// syslogConfig is collect[].syslog: lines as syslog messages.
type syslogConfig struct {
	Listen string     `yaml:"listen"` // udp://, tcp:// or tls://HOST:PORT
	Allow  []string   `yaml:"allow"`  // addresses and networks that may send
	TLS    *tlsConfig `yaml:"tls"`
}

// defaultSyslog is where messages are taken when nothing is said.
const defaultSyslog = "udp://127.0.0.1:5514"

func (c *syslogConfig) where() (network, address string) {
	listen := c.Listen
	if listen == "" {
		listen = defaultSyslog
	}
	network, address, ok := strings.Cut(listen, "://")
	if !ok {
		return "", listen
	}
	return network, address
}

// validate returns what is wrong, each with its path below at.
func (c *syslogConfig) validate(at string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	network, address := c.where()
	if network != "udp" && network != "tcp" && network != "tls" {
		bad("listen", "%q: want udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT", c.Listen)
	}
	loopback, err := onLoopback(address)
	if err != nil {
		bad("listen", "%q: %w", c.Listen, err)
	} else if !loopback && len(c.Allow) == 0 && (c.TLS == nil || c.TLS.ClientCAFile == "") {
		bad("listen", "%q is open to others: name who may send in allow, or use tls:// with client_ca_file", c.Listen)
	}
	if _, err := c.allowed(); err != nil {
		bad("allow", "%w", err)
	}
	switch {
	case network == "tls" && c.TLS == nil:
		bad("tls", "tls:// needs cert_file and key_file")
	case network != "tls" && c.TLS != nil:
		bad("tls", "it is for tls:// only")
	case c.TLS != nil:
		errs = append(errs, c.TLS.validate(at+".tls")...)
	}
	return errs
}

// allowed tells who may send; nil is everybody.
func (c *syslogConfig) allowed() (func(netip.Addr) bool, error) {
	if len(c.Allow) == 0 {
		return nil, nil
	}
	nets := make([]netip.Prefix, 0, len(c.Allow))
	var errs []error
	for _, text := range c.Allow {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is neither an address nor a network", text))
		}
		nets = append(nets, p.Masked())
	}
	return func(a netip.Addr) bool {
		for _, p := range nets {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}, errors.Join(errs...)
}

// tlsConfig is how a listener shows itself, and whom it trusts.
type tlsConfig struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"` // senders need a certificate of it
}

// Where lines are pushed to, and OTLP, when nothing is said.
const (
	defaultPush = "127.0.0.1:7381"
	defaultOTLP = "127.0.0.1:4318"
)

// address is where it listens; usual when nothing is said.
func (c *pushConfig) address(usual string) string { return cmp.Or(c.Listen, usual) }

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

// validate returns what is wrong, each with its path below at; usual is where
// it listens when nothing is said.
func (c *pushConfig) validate(at, usual string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	loopback, err := onLoopback(c.address(usual))
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

// syslogSource listens for syslog messages.
func (s *service) syslogSource(ctx context.Context, c *collectConfig) (*source, error) {
	src := &source{input: input{name: c.sourceName()}, follow: true, listens: true}
	fail := func(err error) (*source, error) { return nil, fmt.Errorf("%s: %w", src.name, err) }
	opt, err := c.options()
	if err != nil {
		return fail(err)
	}
	given, _, err := c.format(nil, false)
	if err != nil {
		return fail(err)
	}
	allow, err := c.Syslog.allowed()
	if err != nil {
		return fail(err)
	}
	secure, err := c.Syslog.TLS.open()
	if err != nil {
		return fail(err)
	}
	cursor, cause, _, err := s.requests.SourceCursor(ctx, src.id())
	if err != nil {
		return fail(err)
	}
	network, address := c.Syslog.where()
	loopback, _ := onLoopback(address)
	var serve func(*collector.Syslog) error
	var socket interface {
		io.Closer
		fmt.Stringer
	}
	if network == "udp" {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return fail(err)
		}
		udp := conn.(*net.UDPConn)
		if a, ok := udp.LocalAddr().(*net.UDPAddr); loopback && (!ok || !a.IP.IsLoopback()) {
			_ = udp.Close()
			return fail(fmt.Errorf("%s is not loopback on this machine", address))
		}
		socket = named{udp, udp.LocalAddr()}
		serve = func(in *collector.Syslog) error { return in.ServePackets(udp) }
	} else {
		l, err := listenTCP(address, loopback)
		if err != nil {
			return fail(err)
		}
		socket = named{l, l.Addr()}
		if secure != nil {
			l = tls.NewListener(l, secure)
		}
		serve = func(in *collector.Syslog) error { return in.ServeStreams(l) }
	}
	in, err := collector.NewSyslog(collector.SyslogConfig{
		Source: src.name, Format: given, Options: opt, NewIdentify: identify(s.id), Cursor: cursor, Cause: cause.To, Allow: allow, Log: s.log,
	})
	if err != nil {
		_ = socket.Close()
		return fail(err)
	}
	src.start = func() {
		s.log.Info("taking lines", zap.String("source", src.name), zap.String("syslog", network+"://"+socket.String()))
		go func() {
			if err := serve(in); err != nil {
				s.log.Error("cannot take lines any more", zap.String("source", src.name), zap.Error(err))
			}
		}()
	}
	src.next, src.release = in.Next, in.Release
	src.lost = func() int64 {
		messages, _ := in.Dropped()
		return messages
	}
	src.close = func() error { return errors.Join(socket.Close(), in.Close()) }
	return src, nil
}

// named is a socket with its address for people.
type named struct {
	io.Closer
	fmt.Stringer
}
