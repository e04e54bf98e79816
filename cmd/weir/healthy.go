package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

const healthyHelp = `Usage: weir healthy [-c weir.yaml] [flags]
       weir healthy ADDRESS [flags]

Asks a weir on this machine whether it works: for health checks of containers,
which need no other program then, and for scripts. ADDRESS is HOST:PORT, what it
was started with as --listen; without it console.metrics_listen of the
configuration says where, or console.listen, or that is 127.0.0.1:7380.

Exit: 0 it works; 1 it does not answer, or waits, and for what; 2 usage.

Flags:
  -c FILE         configuration
  --alive         it answers is enough, also while it starts or stops
  --timeout SPAN  of the question (default 5s)
`

func runHealthy(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var path string
	var alive bool
	timeout := duration(5 * time.Second)
	fs := flag.NewFlagSet("healthy", flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.BoolVar(&alive, "alive", false, "")
	fs.TextVar(&timeout, "timeout", timeout, "")
	rest, code, done := parseFlags(fs, healthyHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) > 1 || timeout <= 0 {
		fmt.Fprint(stderr, healthyHelp)
		return exitUsage
	}
	address := strings.Join(rest, "")
	ctx, cancel := context.WithTimeout(ctx, time.Duration(timeout))
	defer cancel()
	answer, err := askHealth(ctx, path, address, alive)
	if err != nil {
		fmt.Fprintf(stderr, "weir healthy: %v\n", err)
		return exitFailed
	}
	_, _ = stdout.Write(answer)
	return exitOK
}

// askHealth returns what a weir answers that works.
func askHealth(ctx context.Context, path, address string, alive bool) ([]byte, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	var shown *tls.Config
	switch {
	case address != "":
	case cfg.Console.MetricsListen != "":
		address = cfg.Console.MetricsListen
	default:
		address = cfg.Console.Listen
		if c := cfg.Console.TLS; c != nil {
			if c.ClientCAFile != "" {
				return nil, errors.New("console.tls.client_ca_file wants a certificate of callers: set console.metrics_listen, or give the ADDRESS of --listen")
			}
			if shown, err = onlyCertificate(c.CertFile); err != nil {
				return nil, err
			}
		}
	}
	url, err := healthURL(address, shown != nil, alive)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	client := http.Client{
		Transport:     &http.Transport{TLSClientConfig: shown, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// healthURL is where to ask at an address that a weir of this machine listens on.
func healthURL(address string, secure, alive bool) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%q: want HOST:PORT", address)
	}
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1" // all of them, of which loopback is one
		if a.Is6() {
			host = "::1"
		}
	}
	scheme, path := "http", "/readyz"
	if secure {
		scheme = "https"
	}
	if alive {
		path = "/healthz"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + path, nil
}

// onlyCertificate trusts the certificate in a file and no other, whatever name it
// is for: it is the one that this machine shows.
func onlyCertificate(file string) (*tls.Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read console.tls.cert_file: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("read console.tls.cert_file %s: no certificate in PEM", file)
	}
	want := block.Bytes
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the certificate itself is compared
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !bytes.Equal(raw[0], want) {
				return errors.New("who answers shows another certificate than console.tls.cert_file")
			}
			return nil
		},
	}, nil
}
