// Wire compares what weir reads off the wire with what the server logs: nginx and a Go
// client talk, weir captures live and tcpdump into a file, and every line of the
// server's log is looked for among weir's requests, field by field.
//
//	wire -n 200000                         over loopback
//	wire -n 50000 -vxlan                   through a VXLAN tunnel between network namespaces
//	wire -h2                               HTTP/2 in clear
//	wire -tls -h2                          under TLS, with the client's key log
//
// It needs nginx and tcpdump, and root to capture.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.n, "n", 200000, "transactions")
	flag.IntVar(&o.workers, "workers", 16, "connections of the client")
	flag.IntVar(&o.captures, "captures", 1, "goroutines that capture")
	flag.BoolVar(&o.vxlan, "vxlan", false, "through a VXLAN tunnel between network namespaces")
	flag.BoolVar(&o.h2, "h2", false, "HTTP/2; in clear with prior knowledge")
	flag.BoolVar(&o.tls, "tls", false, "under TLS")
	flag.StringVar(&o.keys, "keys", "", "as a client: write the TLS secrets there")
	flag.StringVar(&o.client, "client", "", "be the client of this address")
	flag.Parse()
	var err error
	if o.client != "" {
		err = runClient(&o)
	} else {
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "wire: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	n, workers, captures int
	vxlan, h2, tls       bool
	client, keys         string
}

func run(o *options) (err error) {
	dir, err := os.MkdirTemp("", "wire-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := place{address: "127.0.0.1:18480", device: "lo", filter: "tcp port 18480"}
	if o.vxlan {
		if p, err = openTunnel(); err != nil {
			return err
		}
		defer p.close()
	}
	if o.tls {
		o.keys = filepath.Join(dir, "keys.log")
	}
	server, err := startServer(dir, p, o)
	if err != nil {
		return err
	}
	defer func() { _ = server.stop() }()
	live, err := captureLive(p, o)
	if err != nil {
		return err
	}
	pcap := filepath.Join(dir, "wire.pcap")
	dump, err := startDump(p, pcap)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := p.inClient(os.Args[0], "-client", p.address, "-n", fmt.Sprint(o.n), "-workers", fmt.Sprint(o.workers), fmt.Sprintf("-h2=%v", o.h2), fmt.Sprintf("-tls=%v", o.tls), "-keys="+o.keys); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	fmt.Printf("%d transactions in %.1f s\n", o.n, time.Since(start).Seconds())
	time.Sleep(2 * time.Second) // the last packets, and the server's log
	if err := dump.stop(); err != nil {
		return fmt.Errorf("tcpdump: %w", err)
	}
	seen, summary, err := live.stop()
	if err != nil {
		return err
	}
	if err := server.stop(); err != nil {
		return err
	}
	logged, err := readLog(filepath.Join(dir, "access.json"), o.h2)
	if err != nil {
		return err
	}
	for _, line := range summary.Lines() {
		fmt.Println("live:", line)
	}
	filed, err := readFile(context.Background(), pcap, o.keys)
	if err != nil {
		return err
	}
	return errors.Join(compare("live", logged, seen), compare("tcpdump", logged, filed))
}
