package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var syslogInLog = regexp.MustCompile(`"syslog": "(udp|tcp|tls)://([^"]+)"`)

// syslogAddresses are where the process takes messages, by network.
func (d *daemon) syslogAddresses() map[string]string {
	found := map[string]string{}
	for _, m := range syslogInLog.FindAllStringSubmatch(d.log.String(), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// selfSigned writes a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string, pair tls.Certificate, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if pair, err = tls.X509KeyPair(cert, private); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return writeFile(t, dir, "tls.crt", cert), writeFile(t, dir, "tls.key", private), pair, pool
}

// TestSyslog: three senders, by datagram, by octet-counted stream and by TLS
// with a client's certificate; what they sent is what is stored.
func TestSyslog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "weir.db")
	cert, key, pair, pool := selfSigned(t, dir)
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, `collect:
  - syslog: {listen: "udp://127.0.0.1:0"}
  - syslog: {listen: "tcp://127.0.0.1:0", allow: [127.0.0.0/8]}
  - syslog: {listen: "tls://127.0.0.1:0", tls: {cert_file: %[1]q, key_file: %[2]q, client_ca_file: %[1]q}}
    format: combined
`, cert, key))
	d := startDaemon(t, "run", "-c", config, "--store", store, "--listen", "127.0.0.1:0")
	eventually(t, "weir takes messages", d, func() bool { return len(d.syslogAddresses()) == 3 })
	at := d.syslogAddresses()
	log := trafficLog(*killSeed)[:900]

	udp, err := net.Dial("udp", at["udp"])
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Dial("tcp", at["tcp"])
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	stranger, err := tls.Dial("tcp", at["tls"], &tls.Config{RootCAs: pool})
	if err == nil { // TLS 1.3 tells a client without a certificate late
		_ = stranger.SetDeadline(time.Now().Add(patience))
		if _, err = stranger.Read(make([]byte, 1)); err == nil {
			t.Error("a sender without a certificate is heard")
		}
		_ = stranger.Close()
	}
	secure, err := tls.Dial("tcp", at["tls"], &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	for i, e := range log {
		line := strings.TrimSpace(e.text)
		switch i % 3 {
		case 0:
			_, err = fmt.Fprintf(udp, "<190>Mar  2 10:00:00 web1 nginx: %s", line)
		case 1:
			m := fmt.Sprintf("<165>1 2026-03-02T10:00:00Z web2 nginx 7 - [m@1 x=\"]\"] %s", line)
			_, err = fmt.Fprintf(tcp, "%d %s", len(m), m)
		default:
			_, err = fmt.Fprintf(secure, "<190>Mar  2 10:00:00 nginx: %s\n", line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all messages are stored", d, func() bool { return d.metric("weir_requests_total") >= float64(len(log)) })
	d.stop(t)
	mustHoldOnce(t, store, len(log))
}
