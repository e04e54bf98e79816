package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/pipeline"
)

// TestCaptureLikeLog: detection over the packets of a recording finds what it finds
// over the server's own log of the same traffic: the same detectors and principals,
// with evidence within a tenth.
func TestCaptureLikeLog(t *testing.T) {
	shop := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop")
	packed, err := os.Open(filepath.Join(shop, "access.json.gz"))
	if err != nil {
		t.Skipf("the recording is not here: %v", err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	// What went in clear: port 80.
	dir := t.TempDir()
	var plain bytes.Buffer
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"server_port":80,`)) {
			plain.Write(append(lines.Bytes(), '\n'))
		}
	}
	log := filepath.Join(dir, "access.json")
	if err := os.WriteFile(log, plain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(cfg, []byte("identity: {trusted_proxies: [192.0.2.10/32]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type found struct{ detector, principal string }
	look := func(input string) (map[found]float64, string) {
		var out, errs bytes.Buffer
		a := &analysis{stdout: bufio.NewWriter(&out), stderr: &errs}
		a.o.config, a.o.workers, a.o.output = cfg, 2, "json"
		if code := a.run(context.Background(), []string{input}, strings.NewReader("")); code != exitOK {
			t.Fatalf("%s: %d, %s", input, code, errs.String())
		}
		all := map[found]float64{}
		for _, al := range a.final() {
			all[found{al.Detector, al.Principal.Kind.String() + ":" + al.Principal.Value}] = al.Score.Nats
		}
		return all, errs.String()
	}
	byLog, _ := look(log)
	byPackets, said := look(filepath.Join(shop, "traffic.pcap.gz"))
	if len(byLog) < 8 {
		t.Fatalf("the log shows %d cases", len(byLog))
	}
	for f, want := range byLog {
		got, ok := byPackets[f]
		if !ok {
			t.Errorf("the packets do not show %v", f)
		} else if got < 0.9*want || got > 1.1*want {
			t.Errorf("%v: %.2f nats by the packets, %.2f by the log", f, got, want)
		}
	}
	for f := range byPackets {
		if _, ok := byLog[f]; !ok {
			t.Errorf("only the packets show %v", f)
		}
	}
	for _, want := range []string{"19366 exchanges", "unheard 448", "2066 of 4844 connections (42 %) are sealed", "enum.object"} {
		if !strings.Contains(said, want) {
			t.Errorf("the summary does not say %q: %s", want, said)
		}
	}
}

// TestCaptureSameBytes: a capture gives the same alerts for any number of workers.
func TestCaptureSameBytes(t *testing.T) {
	shop := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop", "traffic.pcap.gz")
	if _, err := os.Stat(shop); err != nil {
		t.Skipf("the recording is not here: %v", err)
	}
	edition := filepath.Join(t.TempDir(), "edition.json")
	if err := pipeline.WriteEdition(edition, pipeline.ShippedEdition()); err != nil {
		t.Fatal(err)
	}
	var first string
	for _, workers := range []string{"1", "3"} {
		var out bytes.Buffer
		if code := run(context.Background(), []string{"analyze", "--quiet", "--output", "json", "--edition", edition, "--workers", workers, shop}, nil, &out, io.Discard); code != exitOK {
			t.Fatalf("ends with %d", code)
		}
		if first == "" {
			first = out.String()
		} else if out.String() != first {
			t.Errorf("%s workers give other bytes", workers)
		}
	}
	var al map[string]any
	if err := json.Unmarshal([]byte(first[:strings.IndexByte(first, '\n')]), &al); err != nil || al["id"] == "" {
		t.Errorf("the first alert: %v", err)
	}
}
