package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHealthy asks weirs that work, that are gone, and others in their place.
func TestHealthy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "access.log")
	if err := os.WriteFile(log, text(trafficLog(1)[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(what string, wantCode int, wantOut, wantErr string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"healthy"}, args...), nil, &out, &errs)
		if code != wantCode || out.String() != wantOut || !strings.Contains(errs.String(), wantErr) {
			t.Errorf("%s: ends with %d, %q, %q; want %d, %q, %q", what, code, out.String(), errs.String(), wantCode, wantOut, wantErr)
		}
	}
	d := startDaemon(t, "run", "--store", filepath.Join(dir, "weir.db"), "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	eventually(t, "weir works", d, func() bool { status, _, _ := d.get("/readyz"); return status == http.StatusOK })
	address := strings.TrimPrefix(d.url(), "http://")
	f("one that works", exitOK, "ready\n", "", address)
	f("one that lives", exitOK, "ok\n", "", "--alive", address)
	config := func(console string) string {
		return writeFile(t, t.TempDir(), "weir.yaml", []byte("console: "+console+"\n"))
	}
	f("where its console is", exitOK, "ready\n", "", "-c", config("{listen: '"+address+"'}"))
	f("where its metrics are", exitOK, "ready\n", "", "-c", config("{listen: '127.0.0.1:1', metrics_listen: '"+address+"'}"))
	port := address[strings.LastIndexByte(address, ':'):]
	f("all of its addresses", exitOK, "ready\n", "", "-c", config("{metrics_listen: '0.0.0.0"+port+"'}"))
	d.stop(t)
	f("one that is gone", exitFailed, "", "connection refused", address)

	waits := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "weir waits for brokers", http.StatusServiceUnavailable)
		}
	}
	waiting := httptest.NewServer(http.HandlerFunc(waits))
	defer waiting.Close()
	address = strings.TrimPrefix(waiting.URL, "http://")
	f("one that waits", exitFailed, "", "weir waits for brokers", address)
	f("one that waits, and lives", exitOK, "", "", "--alive", address)

	secure := httptest.NewTLSServer(http.HandlerFunc(waits))
	defer secure.Close()
	certificate := func(der []byte) string {
		return writeFile(t, t.TempDir(), "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	tls := func(cert string) string {
		return config("{listen: '" + strings.TrimPrefix(secure.URL, "https://") + "', tls: {cert_file: '" + cert + "', key_file: x}}")
	}
	f("with its certificate", exitOK, "", "", "--alive", "-c", tls(certificate(secure.Certificate().Raw)))
	f("with another certificate", exitFailed, "", "another certificate", "--alive", "-c", tls(certificate(append(secure.Certificate().Raw, 0))))
	f("without a port", exitFailed, "", "want HOST:PORT", "localhost")
	f("too many", exitUsage, "", "Usage:", "a:1", "b:2")
}
