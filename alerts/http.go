package alerts

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// URL is an address whose path and query may be a secret: it prints without
// them.
type URL string

func (u URL) String() string {
	if u == "" {
		return ""
	}
	p, err := url.Parse(string(u))
	if err != nil || p.Host == "" {
		return "<url>"
	}
	return p.Scheme + "://" + p.Host + "/…"
}

// GoString keeps %#v from showing more than String.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText keeps printed configuration from showing more than String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// What sinks over HTTP have in common.
const (
	httpTimeout   = 15 * time.Second
	maxRetryAfter = 24 * time.Hour
	maxAnswer     = 16 << 20 // of an answer that is read
	maxSecret     = 8 << 10  // of a file with one secret
)

// endpointConfig is where a sink over HTTP is, as its own configuration says.
type endpointConfig struct {
	url                       URL
	insecureHTTP              bool
	caFile, certFile, keyFile string
	timeout                   Duration
}

func (c *endpointConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(string(c.url))
	switch {
	case c.url == "":
		bad("url: is missing")
	case err != nil || u.Host == "" || u.Hostname() == "":
		bad("url: is no address like https://siem.example.com/hook")
	default:
		if u.User != nil {
			bad("url: holds a user or password; put them into a file")
		}
		if u.Scheme != "https" && u.Scheme != "http" {
			bad("url: scheme %q, want https", u.Scheme)
		}
		if u.Scheme == "http" && !c.insecureHTTP && !loopback(u.Hostname()) {
			bad("url: http to another host sends alerts in clear; use https, or set insecure_http: true")
		}
	}
	if (c.certFile == "") != (c.keyFile == "") {
		bad("cert_file: a client certificate needs cert_file and key_file")
	}
	if t := time.Duration(c.timeout); t != 0 && (t < time.Second || t > time.Minute) {
		bad("timeout: %s is not within 1s to 1m", t)
	}
	return errs
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

// tlsConfig trusts caFile instead of the system's certificates, if there is one,
// and shows the certificate of certFile, read anew for each connection.
func tlsConfig(caFile, certFile, keyFile string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate in PEM", caFile)
		}
	}
	if certFile != "" {
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &cert, err
		}
	}
	return conf, nil
}

// readSecret reads the one secret of a file, without white space around it. It is
// read for each attempt, so that writing another is how it is rotated.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", ownFault{fmt.Errorf("read secret: %w", err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", ownFault{fmt.Errorf("read secret: %w", err)}
	}
	s := strings.TrimSpace(string(data))
	if s == "" || len(data) > maxSecret || strings.ContainsAny(s, "\r\n\x00") {
		return "", ownFault{fmt.Errorf("read secret %s: want one line of 1 to %d bytes", path, maxSecret)}
	}
	return s, nil
}

// ownFault is an error before anything was sent: no fault of an alert, so that it
// counts as ErrRefused.
type ownFault struct{ error }

func (f ownFault) Is(target error) bool { return target == ErrRefused }
func (f ownFault) Unwrap() error        { return f.error }

// caller posts to one host. Nothing of it changes: several goroutines may use it.
type caller struct {
	url    *url.URL
	agent  string
	client *http.Client
}

func newCaller(c endpointConfig, o SinkOptions) (*caller, error) {
	u, err := url.Parse(string(c.url))
	if err != nil {
		return nil, errors.New("url is no address")
	}
	conf, err := tlsConfig(c.caFile, c.certFile, c.keyFile)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(c.timeout)
	if timeout == 0 {
		timeout = httpTimeout
	}
	return &caller{
		url: u, agent: "weir/" + o.Version,
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy:           nil, // never by surprise of the environment
				DialContext:     newGuard(o).dial,
				TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
				TLSHandshakeTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// host is all of the address that may be printed.
func (c *caller) host() string { return c.url.Scheme + "://" + c.url.Host }

// at is the address with path in place of its own, and query.
func (c *caller) at(path, query string) string {
	u := *c.url
	u.Path, u.RawPath, u.RawQuery = path, "", query
	return u.String()
}

// answer is what a server said. Its body is never shown: it may repeat secrets.
type answer struct {
	status     int
	retryAfter string
	body       []byte
}

// verdict is what a says of the delivery after the retry table.
func (a *answer) verdict() error { return verdict(a.status, a.retryAfter, time.Now()) }

// post sends body and reads the answer up to limit bytes.
func (c *caller) post(ctx context.Context, to string, header http.Header, body []byte, limit int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", pipeline.ErrPermanent)
	}
	req.Header = header
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, cause(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil && resp.StatusCode < 300 && limit > answerRest {
		return nil, cause(err)
	}
	return &answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), body: data}, nil
}

// answerRest is read of an answer that nobody looks at, so that the connection
// can be used again.
const answerRest = 4 << 10

// verdict is the retry table: what an HTTP status means for a delivery.
func verdict(status int, retryAfter string, now time.Time) error {
	err := fmt.Errorf("answered %d %s", status, http.StatusText(status))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusGone:
		return fmt.Errorf("%w: %w", err, ErrGone)
	case status < 400:
		return fmt.Errorf("%w, and redirects are not followed: %w", err, ErrRefused)
	case status == 401, status == 403, status == 404:
		return fmt.Errorf("%w: %w", err, ErrRefused)
	case status == 408, status == 425, status == 429, status >= 500:
		if w := wait(retryAfter, now); w > 0 {
			return &RetryAfter{Wait: w, Err: err}
		}
		return err
	}
	return fmt.Errorf("%w: %w", err, pipeline.ErrPermanent)
}

// wait reads Retry-After, seconds or a date; 0 when there is none to honour.
func wait(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// cause reduces an error of net/http to what is the same on every try and
// holds no part of the address: not the URL, not our port.
func cause(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		if ue.Timeout() {
			return errors.New("timed out")
		}
		err = ue.Err
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Err != nil {
		return fmt.Errorf("%s: %w", oe.Op, oe.Err)
	}
	return err
}
